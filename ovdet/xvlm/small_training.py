"""Training of the small X-VLM for the offline world: what its config names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ovdet.errors import InputError
from ovdet.vlm.contrastive.sticker_clip import StickerCLIP
from ovdet.vlm.zoo import create_vlm
from ovdet.xvlm.build import xvlm_small
from ovdet.xvlm.closer import shipped_closer
from ovdet.xvlm.images import EncodedImages
from ovdet.xvlm.losses import HardNegatives, box_losses, contrastive_loss, hard_negatives, matching_loss
from ovdet.xvlm.small import FIT_WEIGHTS, FIT_WEIGHTS_APART, SmallXVLM, TowerTokens
from ovdet.xvlm.text import SharedTokens
from ovdet.xvlm.training import Batch, XVLMTraining
from ovdet.xvlm.weights import load_model

MATCHED = 0.5
"""Share of the texts that wrong partners are matched with; each costs a pass."""
HARDNESS = 0.3
"""Temperature at which wrong partners are drawn: a scene often has a second thing of a name, which must not be all."""

torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


class SmallTraining(XVLMTraining):
    """X-VLM's losses as a small model in a small world learns them fastest.

    What differs from the published ones: texts of one region are no wrong partners of each other; a text is matched
    with regions and with whole pictures, whose wrong partners are other pictures; and the box loss has a third term,
    which wants the pointer's weight inside of the box.

    Args:
        model: built.
        tokens: splits sentences for it.
        losses: of "contrast", "match" and "box".
        fit_weights: how candidates are weighed in evaluation, see `small_training`.
    """

    model: SmallXVLM

    def __init__(
        self,
        model: SmallXVLM,
        tokens: TowerTokens,
        losses: Sequence[str],
        fit_weights: Sequence[float] = FIT_WEIGHTS,
    ) -> None:
        super().__init__(model, tokens, losses, clamp_temperature=True)
        if len(fit_weights) not in (len(FIT_WEIGHTS), len(FIT_WEIGHTS_APART)):
            raise InputError(f"fit_weights must be 6 numbers, or 5 without a closer look, got {len(fit_weights)}")
        self.fit_weights = tuple(fit_weights)

    def batch_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, see the head of `ovdet.xvlm.training`."""
        model, space = self.model, self.model.space
        assert space is not None, "built with all heads"
        space.clamp_temperature()
        device = self._device()
        index, is_image = batch["image_index"].to(device), batch["is_image"].to(device).bool()
        boxes = batch["boxes_cxcywh_norm"].to(device)
        ids, mask = (each.to(device) for each in self.tokens(batch["texts"]))
        encoded = model.encode_images(self.prepare(batch["images"]))
        whole, seen, seen_mask = self._see(encoded, index, boxes, is_image)
        states = model.encode_text(ids, mask)
        losses: dict[str, Tensor] = {}
        images, texts = space.of_images(seen.heads), space.of_texts(states[:, 0])
        own = same_regions(index, boxes)
        if "contrast" in self.losses:
            losses["loss_contrast"] = contrastive_loss(images, texts, space.temperature, own)
        everything = torch.ones_like(seen_mask)
        rows = torch.arange(len(index), device=device)
        asked = [Asked(rows, whole, everything)]
        if "match" in self.losses:
            some = torch.randperm(len(index), device=device)[: math.ceil(MATCHED * len(index))]
            texts_p, pictures = wrong_partners(space.of_images(whole.heads), texts, index, len(some))
            texts_r, regions = wrong_partners(images, texts, own, len(some))
            asked += [
                Asked(texts_p, whole.rows(pictures), everything[texts_p]),
                Asked(some, seen.rows(some), seen_mask[some]),
                Asked(texts_r, seen.rows(regions), seen_mask[regions]),
            ]
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels' backward passes are slow on CPUs
            fused, *matched = self._ask(asked, states, mask)
        if "match" in self.losses:
            right, *others = (model.match_logits(each) for each in (fused, *matched))
            losses["loss_match_whole"] = matching_loss(right, others[0])
            losses["loss_match"] = matching_loss(others[1], others[2])
        if "box" in self.losses and not bool(is_image.all()):
            losses |= self._boxes(fused[:, : states.shape[2]], whole, boxes, is_image)
        return losses

    def _boxes(self, fused: Tensor, whole: SharedTokens, boxes: Tensor, is_image: Tensor) -> dict[str, Tensor]:
        """Losses of the box head, which is told where to look, and of the pointer, which learns it."""
        pointer = self.model.pointer
        inside = places_inside(pointer.centres, boxes)  # (N, T)
        pointed = pointer(fused, whole, F.pad(inside, (1, 0), value=True))
        found = self.model.boxes_of(torch.cat([fused, pointed], dim=1))
        distance, overlap = box_losses(found, boxes, is_image)
        logs = pointer.logits(fused, whole).log_softmax(1).masked_fill(~inside, -torch.inf).logsumexp(1)  # (N,)
        return {"loss_box": distance, "loss_giou": overlap, "loss_point": -logs[~is_image].mean()}

    def _answer(
        self, encoded: EncodedImages, states: Tensor, mask: Tensor, index: Tensor, batch: Batch
    ) -> list[dict[str, Any]]:
        """As of any training; of pictures with candidates ("candidates_xyxy") the answer is the one that fits best."""
        found = super()._answer(encoded, states, mask, index, batch)
        for place, boxes_xyxy in enumerate(batch.get("candidates_xyxy", ())):
            rows = (index == place).nonzero()[:, 0]
            if not len(rows) or not len(boxes_xyxy):
                continue
            sides = torch.as_tensor(batch["size_hw"])[place].flip(0).repeat(2)  # W H W H
            shares = (boxes_xyxy / sides).to(index.device)
            likelihood = batch["candidate_scores"][place].to(index.device)
            own = encoded.rows(slice(place, place + 1))
            closer = self._look_closer(batch, place, rows, shares)
            fit = self.model.choose(states[rows], mask[rows], own, shares, likelihood, closer, self.fit_weights)
            best = fit.argmax(1)
            for row, chosen in zip(rows.tolist(), best.tolist(), strict=True):
                found[row]["box_xyxy"] = boxes_xyxy[chosen]
        return found

    def _look_closer(self, batch: Batch, place: int, rows: Tensor, shares: Tensor) -> Tensor | None:
        """Cosines of some of the texts and of the boxes of their picture, if this is asked for."""
        if len(self.fit_weights) < len(FIT_WEIGHTS):
            return None
        image = batch["images"][place]
        boxes = shares * image.shape[1]  # in pixels of the square as it is seen
        return shipped_closer()(image.to(shares.device), boxes, [batch["texts"][row] for row in rows.tolist()])

    def _ask(self, asked: Sequence[Asked], states: Tensor, mask: Tensor) -> list[Tensor]:
        """First tokens of several sets of pairs, in one pass, so that tokens are projected once."""
        texts = torch.cat([one.texts for one in asked])
        tokens = SharedTokens(
            asked[0].tokens.tokens,
            torch.cat([one.tokens.index for one in asked]),
            torch.cat([one.tokens.heads for one in asked]),
        )
        fused = self.model.first(states[texts], mask[texts], tokens, torch.cat([one.mask for one in asked]))
        return list(fused.split([len(one.texts) for one in asked]))


class Asked(NamedTuple):
    """Pairs of a sentence and what it is asked of.

    Attributes:
        texts: (M,) rows of the batch.
        tokens: M rows.
        mask: (M, 1 + T) of these.
    """

    texts: Tensor
    tokens: SharedTokens
    mask: Tensor


def wrong_partners(images: Tensor, texts: Tensor, ids: Tensor, count: int) -> HardNegatives:
    """Wrong pictures or regions for some texts, `count` at most, see `hard_negatives`."""
    wrong_texts, wrong_images = hard_negatives(images, texts, HARDNESS, ids)
    chosen = torch.randperm(len(wrong_texts), device=ids.device)[:count]
    return HardNegatives(wrong_texts[chosen], wrong_images[chosen])


def same_regions(index: Tensor, boxes: Tensor) -> Tensor:
    """A number for each row, equal for equal regions of one picture: index (N,), boxes (N, 4) -> (N,)."""
    rows = torch.cat([index[:, None].to(boxes.dtype), boxes], dim=1)
    return rows.unique(dim=0, return_inverse=True)[1]


def places_inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Which places lie in boxes, at least the nearest to its middle.

    Args:
        centres: (T, 2) of places, in shares of the picture.
        boxes: (N, 4) boxes_cxcywh_norm.

    Returns:
        (N, T) bool.
    """
    away = ((centres - boxes[:, None, :2]).abs() / boxes[:, None, 2:].clamp_min(1e-6)).amax(2)  # (N, T)
    return away <= away.amin(1, keepdim=True).clamp_min(0.5)


def small_training(
    teacher: str | None = None,
    losses: Sequence[str] = ("contrast", "match", "box"),
    *,
    image_size: int = 256,
    width: int = 256,
    text_layers: int = 1,
    fusion_layers: int = 3,
    dropout: float = 0.0,
    frozen_stages: int = 0,
    fit_weights: Sequence[float] = FIT_WEIGHTS,
    init: str | None = None,
) -> SmallTraining:
    """A small X-VLM with its losses.

    Args:
        teacher: backbone of the zoo to start from, "sticker-clip", see `start_from`; None is random.
        losses: of "contrast", "match" and "box"; without "box", or with data of whole pictures alone, these are the
            ablations of the paper.
        image_size: side of the square input in pixels.
        width: of all tokens.
        text_layers: own ones, on the sentence tower's.
        fusion_layers: cross-modal ones.
        dropout: of the layers.
        frozen_stages: of the trunk.
        fit_weights: where evaluation has candidates, how much each term of `SmallXVLM.fits` counts; five numbers leave
            out the closer look, and zeros whatever a model never learned.
        init: checkpoint of this room to start from, of these sizes, in place of the teacher.

    Raises:
        InputError: there is no such backbone or checkpoint, or a size cannot be.
    """
    model = xvlm_small(image_size, width, text_layers, fusion_layers, dropout, frozen_stages)
    if init is not None:
        _load_start(model, init)
    elif teacher is not None:
        start_from(model, teacher)
    return SmallTraining(model, TowerTokens(), losses, fit_weights)


def _load_start(model: SmallXVLM, path: str) -> None:
    """Give a model the weights of a desk's checkpoint."""
    other, _ = load_model(path)
    try:
        model.load_state_dict(other.state_dict(), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"init: {path} holds another model than the config's: {reason}") from error


@torch.no_grad()
def start_from(model: SmallXVLM, teacher: str) -> None:
    """Start with what a teacher of crops and names knows, so that texts and places are near each other at once.

    The trunk is the teacher's. Its heads of pictures and of texts make the tokens of places and of words, and the
    layers that compare (keys and queries of the cross-modal layers and of the pointer, the joint space) start as
    identities. All of it goes on learning.

    Args:
        model: of the teacher's width.
        teacher: a name of the zoo.

    Raises:
        InputError: the teacher is no `StickerCLIP`, or of another width.
    """
    found = create_vlm(teacher)
    if not isinstance(found, StickerCLIP):
        raise InputError(
            f"a small X-VLM starts from a backbone with a compact trunk, such as sticker-clip; {teacher!r} is another"
        )
    width = found.spec.embed_dim
    if model.text_encoder.width != width:
        raise InputError(f"{teacher} makes vectors of {width}, and the model is {model.text_encoder.width} wide")
    model.image_encoder.trunk.load_state_dict(found.trunk.state_dict(), strict=True)
    model.image_encoder.coarse.load_state_dict(found.image_head.state_dict())
    model.text_encoder.straight.load_state_dict(found.text_head.straight.state_dict())
    model.text_encoder.bent.load_state_dict(found.text_head.bent.state_dict())
    crossed = [layer.cross_attn for layer in model.fusion.layers]
    for part in (*crossed, model.pointer):
        nn.init.eye_(part.query.weight)
        nn.init.eye_(part.key.weight)
    nn.init.eye_(model.space.image.weight)
    nn.init.eye_(model.space.text.weight)
