"""The second desk: a picture and sentences in, one `Grounding` a sentence out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, overload

import numpy as np

from ovdet.detector import Detector, Picture, checkpoint_path, choose_device, load_picture, source_name
from ovdet.errors import CapabilityError, InputError
from ovdet.layers.shipped import unknown_model
from ovdet.results import Detections, Grounding
from ovdet.xvlm.predict import EncodedPicture, EncodedSentences, XVLMGrounder
from ovdet.xvlm.shipped import SHIPPED, load_shipped

Candidates: TypeAlias = "Literal['detect'] | np.ndarray | Detections | None"
DEFAULT_GROUNDER = "stickers"
PROPOSER = "stickers"
"""The detector that proposes candidates, if none is given."""


@dataclass(frozen=True, eq=False)
class LookedAt:
    """A picture that `Grounder.look` has encoded.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        encoded: what the model made of it.
        source: where it came from, or None for what lives in memory.
    """

    image: np.ndarray
    encoded: EncodedPicture
    source: str | None


class Grounder:
    """Find what a sentence means in a picture.

    The model is loaded once, when this is made; nothing in it changes afterwards but that `candidates="detect"` loads
    the detector when it is first asked for.

    Example:
        >>> grounder = Grounder()
        >>> for answer in grounder.ground("picture.png", ["the dog left of the pizza", "the largest cup"]):
        ...     print(answer.expression, answer.absent, answer.box_xyxy, answer.confidence)

    Args:
        model: "stickers" (for drawings, stickers and clip art; not photographs), the path of a trained or converted
            checkpoint (.pth, or compact .safetensors), or a desk of `ovdet.xvlm`.
        device: as torch names it, such as "cpu" or "cuda:0"; None takes a GPU if there is one.
        detector: proposes boxes for `candidates="detect"`: a `Detector`, or what makes one; None is "stickers".
        vocabulary: vocab.txt, for a converted checkpoint that holds none.

    Raises:
        InputError: unknown model name, damaged checkpoint or one of another task, or a device that is not there.
    """

    def __init__(
        self,
        model: str | Path | XVLMGrounder = DEFAULT_GROUNDER,
        device: str | None = None,
        *,
        detector: str | Path | Detector | None = None,
        vocabulary: str | Path | None = None,
    ) -> None:
        self.desk = load_grounder(model, device, vocabulary) if isinstance(model, str | Path) else model
        self._detector, self._device = detector, device

    @property
    def name(self) -> str:
        """Of the model that answers."""
        return self.desk.name

    @cached_property
    def detector(self) -> Detector:
        """What proposes candidates; loaded when first asked for.

        Raises:
            CapabilityError: it names boxes but does not propose them.
        """
        given = self._detector or PROPOSER
        detector = given if isinstance(given, Detector) else Detector(given, self._device)
        if not hasattr(detector.predictor, "propose"):
            raise CapabilityError(f"{detector.name} proposes no boxes; take a trained detector, such as {PROPOSER!r}")
        return detector

    def look(self, picture: Picture, *, color: str = "rgb") -> LookedAt:
        """Encode a picture, which is the dear part, for several calls of `ground` or `match`.

        Args:
            picture: a path, a PIL image or a (H, W, 3) uint8 array.
            color: order of an array's channels, "rgb" or "bgr".

        Raises:
            InputError: the picture cannot be read.
        """
        image = load_picture(picture, color)
        return LookedAt(image, self.desk.encode(image), source_name(picture))

    def read(self, sentences: Sequence[str] | EncodedSentences) -> EncodedSentences:
        """Encode sentences, to be asked of many pictures. One that is too long is cut, with a warning.

        Raises:
            InputError: a sentence has no word, or none that the model knows.
        """
        return sentences if isinstance(sentences, EncodedSentences) else self.desk.read(sentences)

    @overload
    def ground(
        self,
        picture: Picture | LookedAt,
        sentences: str,
        *,
        threshold: float | None = None,
        candidates: Candidates = None,
        color: str = "rgb",
    ) -> Grounding: ...
    @overload
    def ground(
        self,
        picture: Picture | LookedAt,
        sentences: Sequence[str] | EncodedSentences,
        *,
        threshold: float | None = None,
        candidates: Candidates = None,
        color: str = "rgb",
    ) -> list[Grounding]: ...
    def ground(
        self,
        picture: Picture | LookedAt,
        sentences: str | Sequence[str] | EncodedSentences,
        *,
        threshold: float | None = None,
        candidates: Candidates = None,
        color: str = "rgb",
    ) -> Grounding | list[Grounding]:
        """Say where in a picture each sentence is true, or that it is not.

        Args:
            picture: a path, a PIL image, a (H, W, 3) uint8 array, or what `look` gave.
            sentences: any number of them, at the cost of one look at the picture; or what `read` gave; or one.
            threshold: confidence, from 0 to 1, below which what a sentence says is absent; None is the model's own.
            candidates: None lets the model draw one box a sentence. With boxes, (R, 4) xyxy in pixels of the picture
                or `Detections`, the answer is all of them that the sentence is true of, best first: several dogs for
                "a dog". "detect" lets a detector propose the boxes.
            color: order of an array's channels, "rgb" or "bgr".

        Returns:
            One answer a sentence, in their order; or one for one.

        Raises:
            InputError: a picture, sentence, box or threshold that makes no sense.
            CapabilityError: the checkpoint lacks the head that is asked for.
        """
        check_threshold(threshold)
        self.desk.require("box" if candidates is None else "match")
        read = self.read([sentences] if isinstance(sentences, str) else sentences)
        seen = picture if isinstance(picture, LookedAt) else self.look(picture, color=color)
        boxes_xyxy, likelihood = self._boxes(seen, candidates)
        answers = self.desk.ground(
            seen.encoded, read, threshold=threshold, candidates_xyxy=boxes_xyxy, likelihood=likelihood
        )
        answers = [replace(answer, source=seen.source) for answer in answers]
        return answers[0] if isinstance(sentences, str) else answers

    def match(self, picture: Picture | LookedAt, sentences: Sequence[str], *, color: str = "rgb") -> np.ndarray:
        """Chance that each of K sentences is true of the picture as a whole, (K,) in [0, 1].

        Raises:
            InputError: a picture or a sentence that makes no sense.
            CapabilityError: the checkpoint has no matching head.
        """
        self.desk.require("match")
        read = self.read(sentences)
        seen = picture if isinstance(picture, LookedAt) else self.look(picture, color=color)
        chances: np.ndarray = self.desk.match(seen.encoded, read).numpy()
        return chances

    def _boxes(self, seen: LookedAt, candidates: Candidates) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Candidates (R, 4), and how likely each is to hold a thing (R,) if a detector says so."""
        if isinstance(candidates, Detections):
            return candidates.boxes_xyxy, None
        if isinstance(candidates, str):
            if candidates != "detect":
                raise InputError(f'candidates must be "detect", boxes or Detections, got {candidates!r}')
            return self.detector.predictor.propose(seen.image)  # type: ignore[attr-defined,no-any-return]
        return None if candidates is None else np.asarray(candidates), None


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold out of range.

    Raises:
        InputError: it is not from 0 to 1.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold must be from 0 to 1, got {threshold}")


def load_grounder(model: str | Path, device: str | None = None, vocabulary: str | Path | None = None) -> XVLMGrounder:
    """Load the desk that a model's name or checkpoint path stands for.

    Raises:
        InputError: unknown name (the nearest is suggested), missing or damaged file, or no such device.
    """
    target = choose_device(device)
    path = checkpoint_path(model)
    if path is not None:
        return XVLMGrounder.load(path, target, vocabulary=vocabulary)
    if model in SHIPPED:
        return load_shipped(str(model), target)
    raise unknown_model(model, SHIPPED)
