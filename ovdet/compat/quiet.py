"""Warnings of the frozen dependencies that are known to be harmless here, silenced one by one."""

from __future__ import annotations


def install() -> None:
    """Register the filters; see the table for what each is and why it does no harm."""
