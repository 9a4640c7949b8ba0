import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ovdet.seggpt import attention
from ovdet.seggpt.attention import relative_attention, relative_table

GRID = (6, 4)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 24, 8, dtype=torch.float64)
    return q, k, v, torch.randn(11, 8, dtype=torch.float64), torch.randn(7, 8, dtype=torch.float64)


def by_hand(q, k, v, row_table, column_table):
    """Each logit by the formula of the paper."""
    rows, columns = GRID
    logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    bias = torch.zeros_like(logits)
    for i in range(rows * columns):
        for j in range(rows * columns):
            down, right = i // columns - j // columns, i % columns - j % columns
            offset = row_table[down + rows - 1] + column_table[right + columns - 1]
            bias[:, :, i, j] = q[:, :, i] @ offset
    return (logits + bias).softmax(-1) @ v


def attend(q, k, v, row_table, column_table, bias_bytes=None):
    return relative_attention(
        q, k, v, relative_table(row_table, GRID[0]), relative_table(column_table, GRID[1]), bias_bytes
    )


@pytest.mark.parametrize("bias_bytes", [None, 1, 24 * 24 * 8 * 2, 24 * 24 * 8 * 3])
def test_equals_the_formula_however_it_is_cut(inputs, bias_bytes):
    torch.testing.assert_close(attend(*inputs, bias_bytes), by_hand(*inputs), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
def test_the_training_path_gives_the_same_and_its_gradients(inputs, whole_bytes, monkeypatch):
    monkeypatch.setattr(attention, "CPU_WHOLE_BYTES", whole_bytes)
    for each in inputs:
        each.requires_grad_()
    found, wanted = attend(*inputs), by_hand(*inputs)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)
    weight = torch.randn_like(found)
    gradients = torch.autograd.grad((found * weight).sum(), inputs)
    for one, other in zip(gradients, torch.autograd.grad((wanted * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


def test_tables_of_another_length_are_stretched_linearly():
    table = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])  # differences -2..2
    wanted = functional.interpolate(table.T[None], 7, mode="linear")[0, 0]
    stretched = relative_table(table, 4)
    assert stretched.shape == (4, 4, 1)
    for place in range(4):
        for other in range(4):
            assert stretched[place, other, 0] == wanted[place - other + 3]


class Largest(TorchDispatchMode):
    """The largest tensor that anything makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple) else (out,):
            if isinstance(each, torch.Tensor) and each._base is None:
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return out


@pytest.mark.parametrize("training", [False, True])
def test_memory_is_bounded(training, monkeypatch):
    monkeypatch.setattr(attention, "CPU_WHOLE_BYTES", 1 << 20)
    heads, rows, columns, width = 4, 32, 16, 8
    tokens = rows * columns
    q, k, v = torch.randn(3, 2, heads, tokens, width, requires_grad=training)
    tables = relative_table(torch.randn(63, width), rows), relative_table(torch.randn(31, width), columns)
    with torch.set_grad_enabled(training), Largest() as largest:
        relative_attention(q, k, v, *tables, bias_bytes=tokens * tokens * 4)
    dense = 2 * heads * tokens * tokens
    assert largest.numbers <= dense // 8  # one head of one row, or less
