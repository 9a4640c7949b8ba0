"""X-VLM's trainings as modules with `loss(**batch)`; batches as `ovdet.data` makes them.

A batch holds images (B, 3, S, S) uint8 RGB (or floats in [0, 1]), N texts, image_index (N,), boxes_cxcywh_norm (N, 4),
is_image (N,) and image_ids (B,).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ovdet.errors import InputError
from ovdet.xvlm.images import EncodedImages
from ovdet.xvlm.losses import (
    HardNegatives,
    box_losses,
    contrastive_loss,
    hard_negatives,
    masked_word_loss,
    matching_loss,
)
from ovdet.xvlm.masking import WordMasking
from ovdet.xvlm.model import XVLMModel
from ovdet.xvlm.text import SharedTokens
from ovdet.xvlm.tokens import SentenceTokens, pad_rows
from ovdet.xvlm.weights import facts_of, pack_facts

Batch = Mapping[str, Any]

LOSSES = ("contrast", "match", "words", "box")


def square_boxes(boxes_cxcywh_norm: Tensor, image_size: int) -> Tensor:
    """Shares of the square to left, top, width and height in its pixels, in double precision.

    Rounded to thousandths of a pixel, since single precision would move borders that lie on a patch's edge.
    """
    corners = box_convert(boxes_cxcywh_norm.double(), "cxcywh", "xyxy") * image_size
    return box_convert(corners.round(decimals=3), "xyxy", "xywh")


class XVLMTraining(nn.Module):
    """What the trainings share: pictures and sentences into a model, losses out.

    Args:
        model: built.
        tokens: splits sentences for it.
        losses: which of "contrast", "match", "words" and "box" are learned; their sum is minimised.
        masking: which words are hidden; wanted for "words".
        by_picture: texts of one picture are no wrong partners of it (fine-tuning for retrieval); else every pair is a
            stranger to all others (pre-training).
        clamp_temperature: before each step, as pre-training does.
    """

    def __init__(
        self,
        model: XVLMModel,
        tokens: SentenceTokens,
        losses: Sequence[str] = LOSSES,
        *,
        masking: WordMasking | None = None,
        by_picture: bool = False,
        clamp_temperature: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in losses if name not in LOSSES]
        if unknown or not losses:
            raise InputError(f"losses must be some of {', '.join(LOSSES)}, got {list(losses)}")
        heads = {"contrast": model.space, "match": model.match_head, "words": model.word_head, "box": model.box_head}
        missing = [name for name in losses if heads[name] is None]
        if missing or ("match" in losses and model.space is None):
            raise InputError(f"the model has no head for the loss {(missing or ['match'])[0]!r}; build it for the task")
        if "words" in losses and masking is None:
            raise InputError("the loss 'words' needs masking, a WordMasking with the tokenizer's vocabulary")
        self.model, self.tokens, self.masking = model, tokens, masking
        self.losses = tuple(losses)
        self.by_picture, self.with_clamp = by_picture, clamp_temperature

    def get_extra_state(self) -> Tensor:
        """What a checkpoint of this training says of the model, so that the desk can load it."""
        return pack_facts(facts_of(self.model, self.tokens))

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to restore: the model is built already."""

    def loss(self, images: Tensor | Batch, regions: Batch | None = None, **batch: Any) -> dict[str, Tensor]:
        """Losses of a batch, or of a step with a batch of pictures and perhaps one of regions.

        Args:
            images: pictures of the batch; in a step of two grains the whole batch of pictures with captions.
            regions: of such a step.
            batch: the rest of the batch.

        Returns:
            Scalars; names of a region batch in a step of two grains begin with "region_".
        """
        if not isinstance(images, Mapping):
            return self.batch_losses({"images": images, **batch})
        found = self.batch_losses(images)
        if regions is not None:
            found |= {f"region_{name}": value for name, value in self.batch_losses(regions).items()}
        return found

    def batch_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, see the head of this file."""
        model = self.model
        if self.with_clamp and model.space is not None:
            model.space.clamp_temperature()
        device = self._device()
        index, is_image = batch["image_index"].to(device), batch["is_image"].to(device).bool()
        boxes = batch["boxes_cxcywh_norm"].to(device)
        ids, mask = (each.to(device) for each in self.tokens(batch["texts"]))
        encoded = model.encode_images(self.prepare(batch["images"]))
        whole, seen, seen_mask = self._see(encoded, index, boxes, is_image)
        states = model.encode_text(ids, mask)
        losses: dict[str, Tensor] = {}
        if "contrast" in self.losses or "match" in self.losses:
            own = batch["image_ids"].to(device)[index] if self.by_picture else None
            losses |= self._alignment(seen, seen_mask, states, mask, own)
        if "words" in self.losses:
            losses["loss_words"] = self._words(batch["texts"], seen, seen_mask)
        if "box" in self.losses and not bool(is_image.all()):
            predicted = model.predict_boxes(states, mask, whole)
            losses["loss_box"], losses["loss_giou"] = box_losses(predicted, boxes, is_image)
        return losses

    def _see(
        self, encoded: EncodedImages, index: Tensor, boxes: Tensor, is_image: Tensor
    ) -> tuple[SharedTokens, SharedTokens, Tensor]:
        """For each text the tokens of its whole picture, and those of its region with their mask (N, 1 + T)."""
        encoder = self.model.image_encoder
        whole = SharedTokens(encoded.tokens, index)
        if bool(is_image.all()):
            return whole, whole, torch.ones(len(index), encoder.tokens, dtype=torch.bool, device=index.device)
        masks = encoder.region_masks(square_boxes(boxes, encoder.image_size))
        masks[is_image] = True
        return whole, encoder.regions(encoded, index, masks), masks

    def _alignment(
        self, seen: SharedTokens, seen_mask: Tensor, states: Tensor, mask: Tensor, own: Tensor | None
    ) -> dict[str, Tensor]:
        """Contrastive and matching losses of N pairs."""
        model, space = self.model, self.model.space
        assert space is not None, "checked when built"
        images, texts = space.of_images(seen.heads), space.of_texts(states[:, 0])
        losses = {}
        if "contrast" in self.losses:
            losses["loss_contrast"] = contrastive_loss(images, texts, space.temperature, own)
        if "match" in self.losses:
            wrong = hard_negatives(images, texts, space.temperature, own)
            right = model.match_logits(model.first(states, mask, seen, seen_mask))
            losses["loss_match"] = matching_loss(right, self._wrong(states, mask, seen, seen_mask, wrong, right))
        return losses

    def _wrong(
        self,
        states: Tensor,
        mask: Tensor,
        seen: SharedTokens,
        seen_mask: Tensor,
        wrong: HardNegatives,
        right: Tensor,
    ) -> Tensor:
        """Logits of wrong pairs (M, 2)."""
        if not len(wrong.texts):
            return right[:0]
        texts, images = wrong
        fused = self.model.first(states[texts], mask[texts], seen.rows(images), seen_mask[images])
        return self.model.match_logits(fused)

    def _words(self, texts: Sequence[str], seen: SharedTokens, seen_mask: Tensor) -> Tensor:
        """The loss of hidden words, in a pass of its own."""
        assert self.masking is not None, "checked when built"
        rng = random.Random(int(torch.randint(2**31, ())))
        hidden = [self.masking(self.tokens.ids(text), rng) for text in texts]
        device = seen_mask.device
        ids, mask = (each.to(device) for each in pad_rows([one.ids for one in hidden], self.tokens.wordpiece.pad))
        places, known = (each.to(device) for each in pad_rows([one.positions for one in hidden], 0))
        targets, _ = pad_rows([one.targets for one in hidden], -100)
        fused = self.model.fusion(self.model.encode_text(ids, mask), mask, seen, seen_mask)
        chosen = fused.gather(1, places[..., None].expand(-1, -1, fused.shape[2]))  # (N, M, D)
        return masked_word_loss(self.model.word_logits(chosen), targets.to(device).masked_fill(~known, -100))

    @torch.no_grad()
    def predict(self, images: Tensor, texts: Sequence[str], image_index: Tensor, **batch: Any) -> list[dict[str, Any]]:
        """Box and confidence of each text, from whole pictures.

        Returns:
            N dicts: box_cxcywh_norm (4,), shares of the square; score, the chance that picture and text match, where
            the model has a matching head; and box_xyxy, pixels of the original picture, where the batch says size_hw.
        """
        index = image_index.to(self._device())
        ids, mask = (each.to(index.device) for each in self.tokens(texts))
        encoded = self.model.encode_images(self.prepare(images))
        known = {"images": images, "texts": texts, **batch}
        return self._answer(encoded, self.model.encode_text(ids, mask), mask, index, known)

    def _answer(
        self, encoded: EncodedImages, states: Tensor, mask: Tensor, index: Tensor, batch: Batch
    ) -> list[dict[str, Any]]:
        """What `predict` gives, of pictures and sentences that are encoded."""
        model = self.model
        fused = model.first(states, mask, SharedTokens(encoded.tokens, index))
        found: list[dict[str, Any]] = [{} for _ in states]
        if model.match_head is not None:
            for one, score in zip(found, model.match_logits(fused).softmax(1)[:, 1].tolist(), strict=True):
                one["score"] = score
        if model.box_head is not None:
            boxes = model.boxes_of(fused).cpu()
            for one, box in zip(found, boxes, strict=True):
                one["box_cxcywh_norm"] = box
            if "size_hw" in batch:
                sides = torch.as_tensor(batch["size_hw"])[index.cpu()].flip(1).repeat(1, 2)  # (N, 4) of W H W H
                for one, box in zip(found, box_convert(boxes, "cxcywh", "xyxy") * sides, strict=True):
                    one["box_xyxy"] = box
        return found

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures as they come, on the model's device and normalised."""
        images = images.to(self._device())
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        return self.model.image_encoder.normalise(scaled)

    def _device(self) -> torch.device:
        return self.model.image_encoder.mean.device
