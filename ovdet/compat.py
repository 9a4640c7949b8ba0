"""Stand-ins for mmcv's compiled operators."""


def install() -> None:
    """Register them."""
