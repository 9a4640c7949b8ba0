"""Checkpoints say which room they are of, so that one in the wrong place can be sent to the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovdet.errors import InputError

WANTED_BY = {"vild": "`ovdet detect`", "xvlm": "`ovdet ground`", "seggpt": "`ovdet segment`"}


def check_room(said: Mapping[str, Any], room: str, format_number: int) -> None:
    """Refuse what a checkpoint says about itself if it is of another room or format.

    Args:
        said: its "ovdet" entry; one without a room is a detector's.
        room: that reads it.
        format_number: that the room reads.

    Raises:
        InputError: it says which it is and who wants it.
    """
    found = said.get("room", "vild")
    if found != room:
        raise InputError(f"it is of room {found!r}, made for {WANTED_BY.get(str(found), 'something else')}, not {room}")
    if said.get("format", format_number) != format_number:
        raise InputError(f"it is of format {said['format']!r}, and this version reads {format_number}; update ovdet")
