"""Known-harmless warnings are silent; the same from elsewhere, and all on demand, are not.

That real calls of mmdet and torch give these very messages is seen in test_finder.py.
"""

from __future__ import annotations

import warnings

import pytest

from ovdet.compat import quiet

GRID = "torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument."
AUTOCAST = "`torch.cuda.amp.autocast(args...)` is deprecated. Please use `torch.amp.autocast('cuda', args...)` instead."
COPY = "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone()"


def shown(message, category, module, *, users_filter="default"):
    """Is a warning shown, with the user's filter in force and ours installed twice?"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter(users_filter) if users_filter != "default" else None
        quiet.install()
        quiet.install()
        warnings.warn_explicit(message, category, f"{module}.py", 1, module=module)
    return len(caught) == 1


@pytest.mark.parametrize(
    "message, category, module",
    [
        (GRID, UserWarning, "torch.functional"),
        (AUTOCAST, FutureWarning, "mmdet.models.layers.se_layer"),
        (COPY, UserWarning, "mmdet.models.roi_heads.mask_heads.fcn_mask_head"),
    ],
)
def test_only_the_known_warnings_are_silent(message, category, module):
    assert not shown(message, category, module)
    assert shown(message, category, "my_program")
    assert shown("something new", category, module)
    assert shown(message, RuntimeWarning, module)


def test_the_user_has_the_last_word():
    assert shown(GRID, UserWarning, "torch.functional", users_filter="always")
    with pytest.raises(UserWarning):
        shown(GRID, UserWarning, "torch.functional", users_filter="error")
