import pytest
import torch

from ovdet.seggpt import blocks
from ovdet.seggpt.blocks import CanvasBlock

GRID = (4, 2)


def make_block(drop_path=0.0):
    torch.manual_seed(0)
    block = CanvasBlock(width=12, heads=3, mlp_width=20, grid_hw=GRID, drop_path=drop_path).double()
    for value in block.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return block


def halves(prompts, queries):
    torch.manual_seed(1)
    return torch.randn(prompts, 4, 12, dtype=torch.float64), torch.randn(queries, 4, 12, dtype=torch.float64)


@pytest.mark.parametrize("owner", [None, torch.tensor([0, 1, 1, 0, 1])])
def test_parts_and_working_in_place_make_no_difference(monkeypatch, owner):
    block = make_block()
    prompts, queries = halves(5, 5 if owner is None else 2)
    wanted = block(prompts, queries, owner, GRID)  # with gradients: whole, and not in place
    with torch.no_grad():
        for part_bytes in (1, 2000, 1 << 20):
            monkeypatch.setattr(blocks, "PART_BYTES", part_bytes)
            for one, other in zip(block(prompts.clone(), queries.clone(), owner, GRID), wanted, strict=True):
                torch.testing.assert_close(one, other)


@torch.no_grad()
def test_one_example_each_is_the_ensemble_of_one():
    block = make_block()
    prompts, queries = halves(3, 3)
    plain = block(prompts.clone(), queries.clone(), None, GRID)
    ensemble = block(prompts.clone(), queries.clone(), torch.arange(3), GRID)
    for one, other in zip(plain, ensemble, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_an_example_given_twice_changes_nothing():
    block = make_block()
    prompts, queries = halves(2, 1)
    once = block(prompts.clone(), queries.clone(), torch.tensor([0, 0]), GRID)
    twice = block(prompts.repeat(2, 1, 1), queries.clone(), torch.tensor([0, 0, 0, 0]), GRID)
    torch.testing.assert_close(once[1], twice[1])
    torch.testing.assert_close(once[0], twice[0][:2])


@torch.no_grad()
def test_drop_path_takes_or_leaves_whole_canvases_and_keeps_the_mean():
    block = make_block(drop_path=0.4).train()
    prompts, queries = halves(4000, 4000)
    prompts[:], queries[:] = prompts[0], queries[0]
    keep, query_keep = block._keep(prompts, queries, None)
    assert torch.equal(keep, query_keep)
    assert set(keep.flatten().tolist()) == {0.0, 1 / 0.6}
    assert keep.mean().item() == pytest.approx(1, abs=0.05)
    untouched = (block(prompts.clone(), queries.clone(), None, GRID)[0] == prompts).all(dim=(1, 2))
    assert untouched.double().mean().item() == pytest.approx(0.16, abs=0.03)  # both branches dropped
    assert block.eval()._keep(prompts, queries, None) == (None, None)
