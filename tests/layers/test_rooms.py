"""A checkpoint in the wrong place is sent to the right one."""

import pytest

from ovdet.errors import InputError
from ovdet.layers.rooms import check_room


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"room": "vild", "format": 1}, "room 'vild', made for `ovdet detect`, not xvlm"),
        ({"builder": "vild_tiny"}, "room 'vild'"),
        ({"room": "seggpt"}, "made for `ovdet segment`"),
        ({"room": ["attic"]}, "made for something else"),
        ({"room": "xvlm", "format": 2}, "it is of format 2, and this version reads 1"),
    ],
)
def test_other_rooms_and_formats_are_refused(said, reason):
    with pytest.raises(InputError, match=reason):
        check_room(said, "xvlm", 1)


def test_its_own_is_taken():
    check_room({"room": "xvlm"}, "xvlm", 1)
    check_room({}, "vild", 1)
