"""mmdet's Grounding DINO with transformers 5: two calls that it makes are no longer understood.

Its language model asks the tokenizer for `batch_encode_plus`, which is gone, and gives BERT a mask of (B, T, T),
so that each name attends to itself only; BERT now takes none but (B, T) and (B, 1, T, T).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def adapt_language_model(detector: nn.Module) -> nn.Module:
    """Make the `language_model` of a built mmdet detector run on transformers 5; idempotent.

    Args:
        detector: mmdet's GroundingDINO; changed in place. On older transformers it stays as it was in effect.

    Returns:
        The same detector.
    """
    language_model: Any = detector.language_model
    tokenizer = language_model.tokenizer
    if not hasattr(tokenizer, "batch_encode_plus"):
        tokenizer.batch_encode_plus = tokenizer.__call__
    bert = language_model.language_backbone.body.model
    if _per_head_mask not in bert._forward_pre_hooks.values():
        bert.register_forward_pre_hook(_per_head_mask, with_kwargs=True)
    return detector


def _per_head_mask(bert: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Turn a mask (B, T, T) of who attends to whom into what is added to the logits, (B, 1, T, T)."""
    mask: Tensor | None = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 3:
        dtype = next(bert.parameters()).dtype
        closed = torch.full_like(mask, torch.finfo(dtype).min, dtype=dtype)
        kwargs = {**kwargs, "attention_mask": closed.masked_fill(mask.bool(), 0.0)[:, None]}
    return args, kwargs
