"""Every number of the untrained detector, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from ovdet.errors import InputError


@dataclass(frozen=True)
class ZeroShotConfig:
    """How the untrained detector looks at a picture.

    Attributes:
        view_sides: the picture is looked at in these sizes, each the square root of a view's area in pixels, from
            coarse to fine. A thing is found in the views in which it is about 100 to 300 pixels wide.
        mirror_below: views below this side are looked at in the mirror too, and the two maps averaged.
        longest_ratio: a view's long side is at most this many times its side, its short side at least 32 pixels;
            beyond it (panoramas, 30,000 x 20 pixels) the view is squeezed.
        grid: cells along the long side of the common grid, on which the maps of all views are compared.
        rims: a thing ends where its map falls to this part of its peak; of several, the first that makes a thing
            that is not in the way of a better one.
        wholeness: of two boxes in each other's way the one wins that has more of score times m to this power, where m
            is the part of the name's whole evidence (mean of all maps) in the box: wholes before parts.
        apart: a blob whose peak is below this part of the map's highest is no thing of its own.
        least_cells: smaller blobs on the grid are no things.
        overlap: of two boxes of one name the weaker goes if they overlap by this IoU.
        inside: of two boxes of one name the weaker goes if this part of the smaller one lies in the other.
        cut_around: how much of the surroundings GrabCut sees, in sides of the box each way.
        cut_sure: cells above this part of the peak are surely the thing.
        cut_never: cells below this part of the peak are surely not.
        cut_trust: least IoU of GrabCut's mask with the map's outline; below it the outline stays.
        score_threshold: default threshold without a proposer, calibrated on the development half of
            tools/benchmarks/photographs.
        closer_sides: sizes in which the proposer looks at the picture.
        closer_weight: of the IoU that the proposer expects, where the region's score has the weight 1.
        closer_threshold: default threshold with a proposer, calibrated likewise.
    """

    view_sides: tuple[int, ...] = (224, 320, 448, 640, 896)
    mirror_below: int = 400
    longest_ratio: float = 4.0
    grid: int = 128
    rims: tuple[float, ...] = (0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
    wholeness: float = 0.5
    apart: float = 0.5
    least_cells: int = 4
    overlap: float = 0.4
    inside: float = 0.7
    cut_around: float = 0.5
    cut_sure: float = 0.6
    cut_never: float = 0.05
    cut_trust: float = 0.7
    score_threshold: float = 0.4
    closer_sides: tuple[int, ...] = (224, 448)
    closer_weight: float = 0.25
    closer_threshold: float = 0.4

    def __post_init__(self) -> None:
        if self.closer_weight < 0:
            raise InputError(f"closer_weight must be at least 0, got {self.closer_weight}")
        if len(self.view_sides) < 3 or list(self.view_sides) != sorted(set(self.view_sides)):
            raise InputError(f"view_sides must be three or more rising sizes, got {self.view_sides}")
        if min(self.view_sides) < 32:
            raise InputError(f"view_sides must be at least 32 pixels, got {min(self.view_sides)}")
        if not self.rims or not all(0 < rim < 1 for rim in self.rims):
            raise InputError(f"rims must be parts between 0 and 1, got {self.rims}")
        for name in (
            "apart",
            "overlap",
            "inside",
            "cut_sure",
            "cut_never",
            "cut_trust",
            "score_threshold",
            "closer_threshold",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
