"""Transformer blocks over two halves: tokens of examples above, tokens of the picture in question below.

The halves are kept apart, so that several examples share one picture in question: that is the feature ensemble.
Its tokens then exist once, look at each example in turn, and what they saw is averaged before it is added
(arXiv:2304.03284, section 3.2). With one example a picture, this is the plain block over the stacked canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovdet.seggpt.attention import relative_attention, relative_table

PART_BYTES = 64 << 20
"""Of the widest intermediate result that may exist at a time, without gradients."""


class RelativeAttention(nn.Module):
    """Projections of the attention, and its tables of relative positions, which all heads share.

    Args:
        width: channels of a token.
        heads: of the attention.
        grid_hw: rows and columns of tokens on the canvas.
    """

    def __init__(self, width: int, heads: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.row_table = nn.Parameter(torch.zeros(2 * grid_hw[0] - 1, width // heads))
        self.column_table = nn.Parameter(torch.zeros(2 * grid_hw[1] - 1, width // heads))

    def mix(self, qkv: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Attend over whole canvases: (N, T, 3 D) of `self.qkv` -> (N, T, D), not yet projected."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (N, A, T, d)
        rows = relative_table(self.row_table, grid_hw[0])
        columns = relative_table(self.column_table, grid_hw[1])
        mixed = relative_attention(q, k, v, rows, columns)  # (N, A, T, d)
        return mixed.transpose(1, 2).flatten(2)


class CanvasBlock(nn.Module):
    """Pre-norm attention and MLP.

    Args:
        width: channels of a token.
        heads: of the attention.
        mlp_width: hidden channels of the MLP.
        grid_hw: rows and columns of tokens on the canvas, both halves.
        drop_path: probability in training that a sample skips a branch.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, grid_hw: tuple[int, int], drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = RelativeAttention(width, heads, grid_hw)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, mlp_width)
        self.fc2 = nn.Linear(mlp_width, width)
        self.drop_path = drop_path

    def forward(
        self, prompts: Tensor, queries: Tensor, owner: Tensor | None, grid_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            prompts: (R, t, D), upper halves; without gradients they are changed in place.
            queries: (Q, t, D), lower halves; likewise.
            owner: (R,) which of the Q each of the R belongs to; None: R = Q and each has its own.
            grid_hw: rows and columns of tokens on the whole canvas, h w = 2 t.

        Returns:
            Prompts and queries, of the shapes that came in.
        """
        prompt_keep, query_keep = self._keep(prompts, queries, owner)
        prompt_part, query_part = self.attend(prompts, queries, owner, grid_hw)
        prompts = _add(prompts, prompt_part, prompt_keep)
        queries = _add(queries, query_part, query_keep)
        prompt_keep, query_keep = self._keep(prompts, queries, owner)
        return self._add_mlp(prompts, prompt_keep), self._add_mlp(queries, query_keep)

    def attend(
        self, prompts: Tensor, queries: Tensor, owner: Tensor | None, grid_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The attention branch: what is to be added to prompts and to queries, shapes as in `forward`."""
        half, width = queries.shape[1:]
        query_qkv = self.attn.qkv(self.norm1(queries))  # (Q, t, 3 D)
        prompt_parts, query_parts = [], []
        for rows in _parts(len(prompts), 2 * half * 3 * width * 4):
            of_rows = query_qkv[rows] if owner is None else query_qkv[owner[rows]]
            qkv = torch.cat([self.attn.qkv(self.norm1(prompts[rows])), of_rows], dim=1)  # (n, T, 3 D)
            above, below = self.attn.mix(qkv, grid_hw).split(half, dim=1)  # each (n, t, D)
            prompt_parts.append(self.attn.proj(above))
            query_parts.append(below if owner is None else _sum_by_owner(below, owner[rows], len(queries)))
        prompt_part = prompt_parts[0] if len(prompt_parts) == 1 else torch.cat(prompt_parts)
        if owner is None:
            seen = query_parts[0] if len(query_parts) == 1 else torch.cat(query_parts)
        else:  # the projection is linear: that of the mean is the mean of projections
            seen = sum(query_parts) / torch.bincount(owner, minlength=len(queries)).to(queries.dtype)[:, None, None]
        return prompt_part, self.attn.proj(seen)

    def mlp(self, tokens: Tensor) -> Tensor:
        """The MLP branch: (..., D) -> (..., D)."""
        return self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))

    def _add_mlp(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        """Add the MLP branch, without gradients in place and for some tokens at a time."""
        if torch.is_grad_enabled() or keep is not None:
            return _add(tokens, self.mlp(tokens), keep)
        flat = tokens.flatten(0, 1)  # (N t, D)
        for part in _parts(len(flat), self.fc1.out_features * 4):
            flat[part] += self.mlp(flat[part])
        return flat.unflatten(0, tokens.shape[:2])

    def _keep(self, prompts: Tensor, queries: Tensor, owner: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Factors of drop path, (R, 1, 1) and (Q, 1, 1); a canvas of its own is kept or dropped as a whole."""
        if not self.training or self.drop_path == 0:
            return None, None
        kept = 1 - self.drop_path
        of_prompts = prompts.new_empty(len(prompts), 1, 1).bernoulli_(kept) / kept
        if owner is None:
            return of_prompts, of_prompts
        return of_prompts, queries.new_empty(len(queries), 1, 1).bernoulli_(kept) / kept


def _add(tokens: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
    """Residual sum; in place where no gradient needs the old tokens."""
    branch = branch if keep is None else branch * keep.to(branch.dtype)
    return tokens + branch if torch.is_grad_enabled() else tokens.add_(branch)


def _sum_by_owner(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """(n, t, D) -> (count, t, D): rows of one owner are added."""
    return rows.new_zeros(count, *rows.shape[1:]).index_add_(0, owner, rows)


def _parts(count: int, bytes_each: int) -> list[slice]:
    """Cut a batch so that the widest result of a part stays within `PART_BYTES`; in training it stays whole."""
    step = count if torch.is_grad_enabled() else max(1, PART_BYTES // bytes_each)
    return [slice(start, min(start + step, count)) for start in range(0, count, max(step, 1))]
