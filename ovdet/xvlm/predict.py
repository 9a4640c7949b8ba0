"""The desk of the room: a picture is encoded once, then any number of sentences are asked of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert

from ovdet.errors import CapabilityError, InputError
from ovdet.layers.compact import digest_of
from ovdet.ops.boxes import clip_boxes
from ovdet.results import Grounding
from ovdet.xvlm.candidates import check_candidates, distinct, tolerances
from ovdet.xvlm.closer import shipped_closer
from ovdet.xvlm.images import EncodedImages, square_picture
from ovdet.xvlm.model import JointSpace, XVLMModel
from ovdet.xvlm.small import TRUE_ENOUGH, SmallXVLM, chance_of_truth
from ovdet.xvlm.tokens import SentenceTokens, read_vocabulary
from ovdet.xvlm.weights import WANTED_BY, XVLMFacts, load_model, save_model

BLOCK = 64
"""Sentences, or pairs of a sentence and a region, that are computed together."""

_HEADS = {"box": "box head", "match": "matching head", "space": "space that pictures and sentences share"}


@dataclass(frozen=True)
class EncodedPicture:
    """A picture that sentences can be asked of.

    Attributes:
        encoded: tokens of one picture.
        size_hw: of the original picture, in pixels.
        image: the original, (H, W, 3) uint8 RGB; None leaves candidates without a closer look.
    """

    encoded: EncodedImages
    size_hw: tuple[int, int]
    image: np.ndarray | None = None


@dataclass(frozen=True)
class EncodedSentences:
    """K sentences, read.

    Attributes:
        texts: as the caller wrote them.
        states: (K, L, D).
        mask: (K, L) bool.
    """

    texts: tuple[str, ...]
    states: Tensor
    mask: Tensor

    def rows(self, index: Sequence[int] | np.ndarray) -> EncodedSentences:
        """Some of the sentences, in that order."""
        places = torch.as_tensor(index, device=self.states.device)
        return EncodedSentences(tuple(self.texts[int(i)] for i in index), self.states[places], self.mask[places])


class XVLMGrounder:
    """A trained X-VLM that says where in a picture a sentence is true.

    Args:
        model: built and loaded, with a matching head, a box head, or both.
        tokens: splits sentences for it.
        facts: what the checkpoint says about itself.
        name: shown in results.
    """

    def __init__(self, model: XVLMModel, tokens: SentenceTokens, facts: XVLMFacts, name: str = "xvlm") -> None:
        self.model = model.eval()
        self.tokens, self.facts, self.name = tokens, facts, name

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        vocabulary: str | os.PathLike[str] | None = None,
    ) -> XVLMGrounder:
        """Read a checkpoint of our own.

        Args:
            checkpoint: file of tools/train.py, tools/convert/xvlm.py or a compact one; nothing in it is run.
            device: of the model.
            vocabulary: vocab.txt, for a checkpoint that holds none.

        Raises:
            InputError: the file cannot be used, or is of a task that grounds no sentence.
        """
        model, facts = load_model(checkpoint, device)
        if not isinstance(model, XVLMModel):
            raise InputError(
                f"checkpoint '{checkpoint}' is of the task {facts.task!r}, which grounds no sentence; it is for "
                f"{WANTED_BY.get(facts.task, 'another command')}"
            )
        words = read_vocabulary(os.fspath(vocabulary)) if vocabulary is not None else None
        try:
            tokens = facts.make_tokens(words)
        except InputError as error:
            raise InputError(f"checkpoint '{checkpoint}': {error}") from error
        return cls(model, tokens, facts, name=f"xvlm:{Path(checkpoint).name}")

    def save(self, checkpoint: str | os.PathLike[str]) -> None:
        """Write a checkpoint that `load` reads; a name that ends in .safetensors makes it compact."""
        save_model(self.model, self.facts, checkpoint)

    @property
    def device(self) -> torch.device:
        """Of the model."""
        return self.model.image_encoder.mean.device

    def require(self, head: Literal["box", "match", "space"]) -> None:
        """Refuse a checkpoint that lacks a head: of boxes, of matching, or the joint space.

        Raises:
            CapabilityError: it says what the checkpoint is and who wants it.
        """
        if {"box": self.model.box_head, "match": self.model.match_head, "space": self.model.space}[head] is None:
            raise CapabilityError(
                f"{self.name} is a checkpoint of the task {self.facts.task!r} and has no {_HEADS[head]}; it is for "
                f"{WANTED_BY.get(self.facts.task, 'another command')}"
            )

    @property
    def embed_dim(self) -> int:
        """Of the joint space.

        Raises:
            CapabilityError: the checkpoint has none.
        """
        return self._space.text.out_features

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights: what another model made cannot be compared with what this one makes."""
        return digest_of({name: value.cpu() for name, value in self.model.state_dict().items()})

    @property
    def _space(self) -> JointSpace:
        self.require("space")
        space: JointSpace = self.model.space
        return space

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> EncodedPicture:
        """Look at a picture; this is the dear part.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            InputError: it is no such array.
        """
        encoder = self.model.image_encoder
        pixels = encoder.normalise(square_picture(image, encoder.image_size).to(self.device))
        return EncodedPicture(self.model.encode_images(pixels[None]), (image.shape[0], image.shape[1]), image)

    @torch.inference_mode()
    def read(self, sentences: Sequence[str]) -> EncodedSentences:
        """Read sentences; the same can be asked of many pictures. One that is too long is cut, with a warning.

        Raises:
            InputError: a sentence has no word, or none that is known, or `sentences` is one string.
        """
        if isinstance(sentences, str):
            raise InputError(f"sentences must be a list of strings, got the string {sentences[:40]!r}")
        for place, text in enumerate(sentences, start=1):
            self.tokens.check(text, f"sentence {place}")
        if not sentences:
            return EncodedSentences((), torch.zeros(0, 1, 1), torch.zeros(0, 1, dtype=torch.bool))
        ids, mask = (each.to(self.device) for each in self.tokens(sentences))
        states = [self.model.encode_text(*both) for both in zip(ids.split(BLOCK), mask.split(BLOCK), strict=True)]
        return EncodedSentences(tuple(sentences), torch.cat(states), mask)

    def predict(
        self,
        images: Sequence[np.ndarray],
        sentences: Sequence[str],
        *,
        threshold: float | None = None,
        candidates_xyxy: Sequence[np.ndarray] | None = None,
    ) -> list[list[Grounding]]:
        """Ground every sentence in every picture; see `ground`.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            sentences: K of them.
            threshold: see `ground`.
            candidates_xyxy: for each picture (R, 4).

        Returns:
            For each picture K answers.
        """
        if candidates_xyxy is not None and len(candidates_xyxy) != len(images):
            raise InputError(f"{len(images)} pictures but candidates for {len(candidates_xyxy)}")
        read = self.read(sentences)
        every = candidates_xyxy if candidates_xyxy is not None else [None] * len(images)
        return [
            self.ground(self.encode(image), read, threshold=threshold, candidates_xyxy=own)
            for image, own in zip(images, every, strict=True)
        ]

    @torch.inference_mode()
    def ground(
        self,
        picture: EncodedPicture,
        sentences: Sequence[str] | EncodedSentences,
        *,
        threshold: float | None = None,
        candidates_xyxy: np.ndarray | None = None,
        likelihood: np.ndarray | None = None,
    ) -> list[Grounding]:
        """Answer sentences.

        Without candidates the box head draws one box for each sentence, and the matching head says how sure it is
        that the sentence is true of the picture. With candidates every one of them is scored by `score_candidates`,
        and all that reach the threshold are given, best first; of boxes that overlap much, the best alone.

        Args:
            picture: of `encode`.
            sentences: K texts, or what `read` made of them.
            threshold: confidence below which a sentence counts as absent; None is the checkpoint's own, or
                `TRUE_ENOUGH` where candidates are looked at more closely.
            candidates_xyxy: (R, 4) pixels of the original picture.
            likelihood: (R,) that a candidate holds a thing, as a detector has it; None takes all for equal.

        Raises:
            InputError: candidates that are no boxes, a sentence without a word.
            CapabilityError: the checkpoint lacks the head that is asked for.
        """
        least = self._least(picture, candidates_xyxy) if threshold is None else threshold
        read = sentences if isinstance(sentences, EncodedSentences) else self.read(sentences)
        if not read.texts:
            return []
        self.require("box" if candidates_xyxy is None else "match")
        if threshold and self.model.match_head is None:
            raise InputError(
                f"{self.name} says where a thing is, not whether it is there: it has no matching head, and a threshold "
                "means nothing to it; leave the threshold out"
            )
        if candidates_xyxy is None:
            return self._draw_boxes(picture, read, least)
        boxes = check_candidates(candidates_xyxy)
        scores = self.score_candidates(picture, read, boxes, likelihood).numpy()  # (K, R)
        answers = []
        for text, row in zip(read.texts, scores, strict=True):
            kept = distinct(boxes, row, least)
            best = float(row.max()) if len(row) else 0.0
            answers.append(Grounding(text, boxes[kept], row[kept], picture.size_hw, best, model=self.name))
        return answers

    @torch.inference_mode()
    def score_candidates(
        self,
        picture: EncodedPicture,
        sentences: EncodedSentences,
        boxes_xyxy: np.ndarray,
        likelihood: np.ndarray | None = None,
    ) -> Tensor:
        """How sure the model is that each of K sentences means each of R boxes of a picture, (K, R) on the CPU.

        A published model is asked of each box apart: `match_regions`. The small one compares boxes with each other
        (`SmallXVLM.choose`): the best has the chance that the sentence is true of anything, others so much less as
        they compare worse, which counts less where a sentence means several things (`means_several`).
        """
        model = self.model
        if not isinstance(model, SmallXVLM) or not len(boxes_xyxy):
            return self.match_regions(picture, sentences, boxes_xyxy)
        height, width = picture.size_hw
        boxes_norm = torch.from_numpy(boxes_xyxy / np.array([width, height, width, height], np.float32)).to(self.device)
        things = None if likelihood is None else torch.as_tensor(likelihood, device=self.device)
        closer = self.look_closer(picture, sentences, boxes_xyxy)
        compared = [
            model.choose(
                sentences.states[some],
                sentences.mask[some],
                picture.encoded,
                boxes_norm,
                things,
                None if closer is None else closer[some],
            )
            for some in (slice(first, first + BLOCK) for first in range(0, len(sentences.texts), BLOCK))
        ]
        logits = torch.cat(compared).float().cpu()  # (K, R)
        best = logits.amax(1)
        worse = (logits - best[:, None]) / tolerances(sentences.texts)[:, None]
        matched = self.match(picture, sentences)
        return (matched if closer is None else chance_of_truth(matched, best))[:, None] * worse.exp()

    def _least(self, picture: EncodedPicture, candidates_xyxy: np.ndarray | None) -> float:
        """The threshold of an answer, where none is asked for."""
        looks = candidates_xyxy is not None and isinstance(self.model, SmallXVLM) and picture.image is not None
        return TRUE_ENOUGH if looks else self.facts.threshold

    def look_closer(
        self, picture: EncodedPicture, sentences: EncodedSentences, boxes_xyxy: np.ndarray
    ) -> Tensor | None:
        """Cosines of K sentences and R boxes of a picture, each looked at by itself (`CloserLook`), (K, R).

        None of a picture whose pixels were not kept.
        """
        if picture.image is None:
            return None
        image = torch.tensor(picture.image, device=self.device).permute(2, 0, 1)
        return shipped_closer()(image, torch.from_numpy(boxes_xyxy).to(self.device), sentences.texts)

    @torch.inference_mode()
    def match_regions(self, picture: EncodedPicture, sentences: EncodedSentences, boxes_xyxy: np.ndarray) -> Tensor:
        """Chance that each of K sentences is of each of R boxes of a picture, (K, R) on the CPU."""
        encoder, model = self.model.image_encoder, self.model
        count, regions = len(sentences.texts), len(boxes_xyxy)
        height, width = picture.size_hw
        scale = np.array([width, height, width, height]) / encoder.image_size
        square = torch.from_numpy(np.round(boxes_xyxy.astype(np.float64) / scale, 3))
        masks = encoder.region_masks(box_convert(square, "xyxy", "xywh")).to(self.device)
        found = torch.zeros(count, regions)
        step = max(BLOCK // count, 1)
        for start in range(0, regions, step):
            part = masks[start : start + step]
            index = torch.zeros(len(part), dtype=torch.long, device=self.device)
            tokens = encoder.regions(picture.encoded, index, part)
            for first in range(0, count, BLOCK):
                chosen = slice(first, first + BLOCK)
                states, mask = sentences.states[chosen], sentences.mask[chosen]
                each = len(states)
                fused = model.first(states.repeat(len(part), 1, 1), mask.repeat(len(part), 1), tokens, part)
                chance = model.match_logits(fused).softmax(1)[:, 1].view(len(part), each).T
                found[chosen, start : start + step] = chance.cpu()
        return found

    @torch.inference_mode()
    def match(self, picture: EncodedPicture, sentences: Sequence[str] | EncodedSentences) -> Tensor:
        """Chance that each of K sentences is true of the whole picture, (K,) on the CPU."""
        self.require("match")
        read = sentences if isinstance(sentences, EncodedSentences) else self.read(sentences)
        return self._fused(picture, read, self.model.match_logits).softmax(1)[:, 1]

    @torch.inference_mode()
    def picture_vector(self, picture: EncodedPicture) -> Tensor:
        """A picture's place in the joint space, where near means alike: (E,) of unit length, on the CPU.

        Raises:
            CapabilityError: the checkpoint has no joint space.
        """
        return self._space.of_images(picture.encoded.tokens[:, 0])[0].cpu()

    @torch.inference_mode()
    def sentence_vectors(self, sentences: EncodedSentences) -> Tensor:
        """Places of K sentences in the joint space: (K, E) of unit length, on the CPU.

        Raises:
            CapabilityError: the checkpoint has no joint space.
        """
        return self._space.of_texts(sentences.states[:, 0]).cpu()

    def _draw_boxes(self, picture: EncodedPicture, read: EncodedSentences, least: float) -> list[Grounding]:
        model, (height, width) = self.model, picture.size_hw

        def answer(fused: Tensor) -> Tensor:
            boxes = model.boxes_of(fused)  # (K, 4)
            return torch.cat([boxes, model.match_logits(fused)], 1) if model.match_head is not None else boxes

        answers = self._fused(picture, read, answer)  # (K, 4) or (K, 6)
        boxes = box_convert(answers[:, :4], "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
        boxes_xyxy = clip_boxes(boxes, picture.size_hw).numpy()
        sure = answers[:, 4:].softmax(1)[:, 1].tolist() if model.match_head is not None else [None] * len(read.texts)
        results = []
        for text, box, score in zip(read.texts, boxes_xyxy, sure, strict=True):
            there = score is None or score >= least
            kept = box[None] if there else np.zeros((0, 4), np.float32)
            scores = None if score is None else np.full(len(kept), score, np.float32)
            results.append(Grounding(text, kept, scores, picture.size_hw, score, model=self.name))
        return results

    def _fused(self, picture: EncodedPicture, read: EncodedSentences, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """What `answer` makes of the first tokens of all sentences, on the CPU."""
        rows = []
        for start in range(0, len(read.texts), BLOCK):
            states, mask = read.states[start : start + BLOCK], read.mask[start : start + BLOCK]
            rows.append(answer(self.model.first(states, mask, picture.encoded.tokens)).float().cpu())
        return torch.cat(rows)
