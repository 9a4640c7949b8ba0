import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.errors import InputError
from ovdet.xvlm.config import SwinSizes
from ovdet.xvlm.images import SwinImages, make_image_encoder, region_masks


def touched(x, y, w, h, grid, stride):
    """The published rule, patch by patch."""
    left = min(math.floor(x / stride), grid - 1)
    right = max(left + 1, min(math.ceil((x + w) / stride), grid))
    top = min(math.floor(y / stride), grid - 1)
    bottom = max(top + 1, min(math.ceil((y + h) / stride), grid))
    return [0, *(1 + grid * i + j for i in range(top, bottom) for j in range(left, right))]


@pytest.mark.parametrize(
    ("box", "indices"),
    [((32, 0, 32, 16), [0, 2]), ((0, 0, 224, 224), list(range(50))), ((222, 222, 2, 2), [0, 49])],
)
def test_masks_of_the_published_examples(box, indices):
    mask = region_masks(torch.tensor([box], dtype=torch.float64), 7, 32)
    assert mask.shape == (1, 50)
    assert mask[0].nonzero().flatten().tolist() == indices


side = st.floats(0, 96, width=32)


@settings(max_examples=60, deadline=None)
@given(side, side, st.one_of(side, st.sampled_from([0.0, 16.0, 32.0])), side)
def test_masks_are_those_of_the_rule(x, y, w, h):
    w, h = min(w, 96 - x), min(h, 96 - y)
    mask = region_masks(torch.tensor([[x, y, w, h]], dtype=torch.float64), 6, 16)
    assert mask[0].nonzero().flatten().tolist() == touched(x, y, w, h, 6, 16)


def test_region_token_is_the_mean_of_its_patches(swin_sizes):
    encoder = make_image_encoder(swin_sizes).eval()
    encoded = encoder(torch.randn(2, 3, 64, 64))
    masks = encoder.region_masks(torch.tensor([[0.0, 0, 16, 16], [16, 32, 48, 32], [0, 0, 64, 64]]))
    assert masks.shape == (3, encoder.tokens) == (3, 17)
    index = torch.tensor([1, 0, 1])
    found = encoder.regions(encoded, index, masks)
    for row in range(3):
        patches = encoded.tokens[index[row], 1:][masks[row, 1:]]
        torch.testing.assert_close(found.heads[row], patches.mean(0))
    torch.testing.assert_close(found.all()[:, 1:], encoded.tokens[index, 1:])
    torch.testing.assert_close(found.heads[2], encoded.tokens[1, 0])


def test_the_last_stage_is_never_shifted_and_others_are():
    for size, window in ((64, 2), (128, 4)):
        stages = SwinImages(SwinSizes(size, window, 8, (2, 2, 2, 2), (1, 1, 2, 2), 0.0)).trunk.layers
        assert [tuple(block.shift_size) for block in stages[-1].blocks] == [(0, 0), (0, 0)]
        assert all(tuple(stage.blocks[1].shift_size) == (window // 2,) * 2 for stage in stages[:-1])
        assert all(tuple(stage.blocks[0].shift_size) == (0, 0) for stage in stages)


@pytest.mark.parametrize("kind", ["vit_sizes", "clip_sizes"])
def test_vit_regions_of_everything_are_the_whole_and_others_see_themselves_only(kind, request):
    torch.manual_seed(0)
    encoder = make_image_encoder(request.getfixturevalue(kind)).eval()
    images = torch.randn(2, 3, 64, 64)
    encoded = encoder(images)
    index = torch.tensor([1, 1, 0])
    masks = encoder.region_masks(torch.tensor([[0.0, 0, 64, 64], [0, 0, 20, 16], [32, 32, 16, 32]]))
    found = encoder.regions(encoded, index, masks).all()
    torch.testing.assert_close(found[0], encoded.tokens[1], atol=1e-5, rtol=1e-5)
    middle = encoded.middle.clone()
    middle[1, ~masks[1]] = 5.0  # what lies outside does not matter
    changed = encoder.regions(encoded._replace(middle=middle), index, masks).all()
    torch.testing.assert_close(changed[1, masks[1]], found[1, masks[1]], atol=1e-5, rtol=1e-5)
    assert (changed[0] - found[0]).abs().max() > 0.01


def test_rows_of_pictures_are_taken_together(vit_sizes):
    encoded = make_image_encoder(vit_sizes).eval()(torch.randn(3, 3, 64, 64))
    some = encoded.rows(torch.tensor([2, 0]))
    torch.testing.assert_close(some.tokens[0], encoded.tokens[2])
    torch.testing.assert_close(some.middle[1], encoded.middle[0])


@pytest.mark.parametrize("shape", [(1, 3, 64, 32), (1, 3, 32, 32), (1, 1, 64, 64)])
def test_pictures_of_another_size_are_refused(swin_sizes, vit_sizes, shape):
    for sizes in (swin_sizes, vit_sizes):
        with pytest.raises(InputError, match=r"images must be \(B, 3, 64, 64\)"):
            make_image_encoder(sizes)(torch.zeros(shape))


def test_mean_and_std_are_those_of_clip(swin_sizes):
    encoder = make_image_encoder(swin_sizes)
    grey = encoder.normalise(torch.full((1, 3, 2, 2), 0.5))
    expected = [(0.5 - m) / s for m, s in ((0.48145466, 0.26862954), (0.4578275, 0.26130258), (0.40821073, 0.27577711))]
    torch.testing.assert_close(grey[0, :, 0, 0], torch.tensor(expected))
    assert not any("mean" in name or "std" in name for name in encoder.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        dict(image_size=100),
        dict(window=5),
        dict(heads=(1, 2)),
        dict(width=9, heads=(2, 2, 2)),
        dict(image_size=0),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        SwinSizes(**{**dict(image_size=64, window=2, width=8, depths=(2, 2, 2), heads=(1, 2, 2)), **wrong})
