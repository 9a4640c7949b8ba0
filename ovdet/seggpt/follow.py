"""Video: what the first frame shows is followed through the clip, by that frame and the last few.

As the authors' tool and section 4.4 of arXiv:2304.03284 have it: every example that was given stays, and the last
frames with what was found in them are further examples, first in, first out. Several things are painted one by one,
and each pixel goes to the one that is surest of it (that is ours: how several are joined is not published). A frame in
which a thing was not found is no example of that thing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ovdet.errors import InputError
from ovdet.ops.masks import boxes_xyxy_of_masks
from ovdet.results import Detections
from ovdet.seggpt.examples import Example, resize_labels
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import Ensemble, Mode, Prompt, SegGPTSegmenter, Sights, SoftMaps
from ovdet.seggpt.views import resize_picture

MEMORY = 4
"""Past frames that are kept where nobody says otherwise; the paper tried up to 16 and found 8 best."""


class ClipFollower:
    """Follows things through one clip; needs no more memory for a long one than for a short one.

    Args:
        segmenter: that looks at the frames.
        memory: past frames that serve as examples; time grows with them. 0: only what was given.
        mode: as for `SegGPTSegmenter.learn`; the authors follow things by "instance".
        ensemble: likewise.
        rules: how masks are made of soft maps.
        max_dets: masks kept of a frame.
        mirror: whether frames are looked at in the mirror too; None is what the segmenter says.
    """

    def __init__(
        self,
        segmenter: SegGPTSegmenter,
        *,
        memory: int = MEMORY,
        mode: Mode = "instance",
        ensemble: Ensemble = "feature",
        rules: MaskRules | None = None,
        max_dets: int = 100,
        mirror: bool | None = None,
    ) -> None:
        if memory < 0:
            raise InputError(f"memory must be at least 0 frames, got {memory}")
        self.segmenter, self.mode, self.ensemble = segmenter, mode, ensemble
        self.rules, self.max_dets, self.mirror = rules, max_dets, mirror
        self.seen: tuple[tuple[str, ...], SoftMaps] | None = None
        """Names and soft maps of the frame at hand; None where nothing was followed yet."""
        self._given: list[Example] = []
        self._recent: deque[Example] = deque(maxlen=memory)
        self._prompt: Prompt | None = None
        self._sights = Sights(segmenter.model)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is followed; labels of the answers index them. Later ones come at the end."""
        return tuple(dict.fromkeys(name for example in self._given for name in example.names))

    def give(self, example: Example) -> None:
        """Add an example that stays to the end: of a frame of the clip, or of any other picture.

        Raises:
            InputError: a class is too small to be seen at the network's size.
        """
        self._given.append(example.resized(self.segmenter.model.config.picture_hw))
        self._prompt = None

    def start(self, image: np.ndarray, example: Example) -> Detections:
        """Look at a frame of which it is known where some things are: `example`, which is given from now on.

        Returns:
            These things as they were given, with score 1, and what else was followed until now.
        """
        before = self(image) if self._given else Detections.empty((), image.shape[:2], masks=True)
        self.give(example)
        return _joined(before, example, self.names, self.segmenter.name)

    def __call__(self, image: np.ndarray) -> Detections:
        """Look at the next frame, (H, W, 3) uint8 RGB.

        Raises:
            InputError: nothing was given yet.
        """
        if self._prompt is None:
            examples = [*self._given, *self._recent]
            self._sights.keep([example.image for example in examples])
            self._prompt = self.segmenter.learn(
                examples, mode=self.mode, ensemble=self.ensemble, mirror=self.mirror, sights=self._sights
            )
        soft_maps = next(self.segmenter.look([image], self._prompt))
        self.seen = self._prompt.names, soft_maps
        found = self.segmenter.decide(soft_maps, self._prompt, self.rules, self.max_dets)
        self.remember(image, found)
        return found

    def remember(self, image: np.ndarray, found: Detections) -> None:
        """Keep a frame and what was found in it, as `__call__` does; for frames that were answered in another run."""
        if not self._recent.maxlen or not len(found):
            return
        size_hw = self.segmenter.model.config.picture_hw
        labels = resize_labels(found.label_map(), size_hw)  # (h, w)
        if labels.any():
            self._recent.append(Example.from_palette(resize_picture(image, size_hw), labels, found.class_names))
            self._prompt = None


def follow(follower: ClipFollower, frames: Iterable[np.ndarray], starts: Mapping[int, Example]) -> Iterator[Detections]:
    """Answer each frame of a clip.

    Args:
        follower: that was given nothing yet, or examples of other pictures.
        frames: (H, W, 3) uint8 RGB, each read when its turn comes.
        starts: frame's position -> what is known in it: at the first frame, or later for things that come later.

    Yields:
        `Detections` of each frame; labels index `follower.names` as it is then. Empty before anything is known.
    """
    for index, image in enumerate(frames):
        if index in starts:
            yield follower.start(image, starts[index])
        elif follower.names:
            yield follower(image)
        else:
            yield Detections.empty((), (image.shape[0], image.shape[1]), masks=True, model=follower.segmenter.name)


def _joined(found: Detections, example: Example, names: tuple[str, ...], model: str) -> Detections:
    """What is known of a frame, and of what was found in it all that contradicts nothing known."""
    masks = [example.only(name) for name in example.names]
    labels, scores = [names.index(name) for name in example.names], [1.0] * len(masks)
    for index, label in enumerate(found.labels):
        free = found.mask(index) & (example.labels == 0)
        if found.class_names[label] not in example.names and free.any():
            masks.append(free)
            labels.append(int(label))
            scores.append(float(found.scores[index]))
    stack = np.stack(masks)  # (N, H, W)
    return Detections(boxes_xyxy_of_masks(stack), scores, labels, names, stack.shape[1:], stack, model=model)
