"""Attention with decomposed relative positions (arXiv:2112.01526), in bounded memory.

The logits of a query at (r, c) and a key at (r', c') are q.k / sqrt(d) + q.R[r - r'] + q.C[c - c'], the two tables
with the *unscaled* query. Of the (T, T) bias only what fits `bias_bytes` exists at a time; in training none of it
does: the tables' part rides along in longer queries and keys, so that the fused kernels give gradients too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CPU_BIAS_BYTES = 12 << 20
"""Small enough to stay in a processor's last-level cache, where it is written and read again."""

GPU_BIAS_BYTES = 512 << 20

CPU_WHOLE_BYTES = 128 << 20
"""Up to here the weights of attention are kept for the gradients on a CPU, whose fused kernel computes them twice:
7 instead of 17 ms a canvas of 512 tokens, forwards and backwards."""


def relative_table(table: Tensor, size: int) -> Tensor:
    """Vectors for each pair of a query's and a key's place along one axis.

    Args:
        table: (2 L - 1, d), for differences from -(L - 1) to L - 1; stretched linearly where L is not `size`.
        size: places along the axis.

    Returns:
        (size, size, d), first the query's place.
    """
    length = 2 * size - 1
    if len(table) != length:
        table = functional.interpolate(table.T[None].float(), length, mode="linear")[0].T.to(table.dtype)
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places[None, :] + size - 1]


def relative_attention(
    q: Tensor, k: Tensor, v: Tensor, row_table: Tensor, column_table: Tensor, bias_bytes: int | None = None
) -> Tensor:
    """Attend over a grid of h x w tokens, T = h w of them.

    Args:
        q: (N, A, T, d) queries of A heads.
        k: (N, A, T, d).
        v: (N, A, T, d).
        row_table: (h, h, d) of `relative_table`.
        column_table: (w, w, d).
        bias_bytes: of bias that may exist at a time without gradients; None: by the device.

    Returns:
        (N, A, T, d).
    """
    row_bias, column_bias = _bias(q, row_table, column_table)
    if torch.is_grad_enabled() and (q.requires_grad or row_bias.requires_grad):
        return _attend_at_length(q, k, v, row_bias, column_bias)
    if bias_bytes is None:
        bias_bytes = CPU_BIAS_BYTES if q.device.type == "cpu" else GPU_BIAS_BYTES
    return _attend_in_parts(q, k, v, row_bias, column_bias, bias_bytes)


def _bias(q: Tensor, row_table: Tensor, column_table: Tensor) -> tuple[Tensor, Tensor]:
    """What each query adds for each key row (N, A, T, h) and for each key column (N, A, T, w)."""
    grid = q.unflatten(2, (len(row_table), len(column_table)))  # (N, A, h, w, d)
    rows = torch.einsum("narcd,rkd->narck", grid, row_table.to(q.dtype))
    columns = torch.einsum("narcd,ckd->narck", grid, column_table.to(q.dtype))
    return rows.flatten(2, 3), columns.flatten(2, 3)


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, row_bias: Tensor, column_bias: Tensor, bias_bytes: int) -> Tensor:
    """Some rows of the batch, or some heads of one row, at a time."""
    count, heads, tokens, width = q.shape
    of_one_head = tokens * tokens * row_bias.element_size()
    head_step = max(1, min(heads, bias_bytes // of_one_head))
    row_step = max(1, min(count, bias_bytes // (of_one_head * heads)))
    out = q.new_empty(count, tokens, heads, width).transpose(1, 2)
    for row in range(0, count, row_step):
        for head in range(0, heads, head_step):
            part = (slice(row, row + row_step), slice(head, head + head_step))
            bias = (row_bias[part].unsqueeze(-1) + column_bias[part].unsqueeze(-2)).flatten(-2)  # (n, a, T, T)
            out[part] = functional.scaled_dot_product_attention(q[part], k[part], v[part], attn_mask=bias)
    return out


def _attend_at_length(q: Tensor, k: Tensor, v: Tensor, row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """Queries [q / sqrt(d), row bias, column bias] against keys [k, one-hot row, one-hot column]: the same logits."""
    count, heads, tokens, width = q.shape
    rows, columns = row_bias.shape[-1], column_bias.shape[-1]
    places = torch.arange(tokens, device=q.device)
    row_of = functional.one_hot(places // columns, rows).to(q.dtype)  # (T, h)
    column_of = functional.one_hot(places % columns, columns).to(q.dtype)  # (T, w)
    where = torch.cat([row_of, column_of], dim=1).expand(count, heads, -1, -1)
    spare = -(width + rows + columns) % 8  # kernels like widths in eights
    long_q = functional.pad(torch.cat([q * width**-0.5, row_bias, column_bias], dim=-1), (0, spare))
    long_k = functional.pad(torch.cat([k, where], dim=-1), (0, spare))
    if q.device.type == "cpu" and count * heads * tokens * tokens * q.element_size() <= CPU_WHOLE_BYTES:
        with torch.autocast("cpu", enabled=False):  # which would take the softmax in single precision
            return (long_q @ long_k.transpose(-1, -2)).softmax(dim=-1) @ v.to(long_q.dtype)
    long_v = functional.pad(v, (0, rows + columns + spare))
    return functional.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :width]
