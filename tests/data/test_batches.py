from collections import Counter
from itertools import count, islice

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from ovdet.data.batches import TwoGrains, choose_texts, collate_texts, fixed_texts, only_one, takes_regions
from ovdet.errors import InputError


def sample_of(number, texts, **more):
    """Text j of picture i is "i-j", its box starts with i + j / 10."""
    return {
        "image": torch.full((3, 8, 8), number, dtype=torch.uint8),
        "texts": [f"{number}-{j}" for j in range(texts)],
        "boxes_cxcywh_norm": torch.tensor([[number + j / 10, 0, 1, 1] for j in range(texts)]).reshape(-1, 4),
        "is_image": torch.tensor([j == 0 for j in range(texts)], dtype=torch.bool),
        "image_id": 100 + number,
        "draw": number,
        **more,
    }


def belongs(batch):
    """Does everything about a text still belong to it?"""
    for row, text in enumerate(batch["texts"]):
        number, place = map(int, text.split("-"))
        assert int(batch["images"][batch["image_index"][row], 0, 0, 0]) == number
        assert float(batch["boxes_cxcywh_norm"][row, 0]) == pytest.approx(number + place / 10)
        assert bool(batch["is_image"][row]) == (place == 0)
    return True


def test_texts_find_their_pictures():
    batch = collate_texts([sample_of(1, 2), sample_of(2, 0), sample_of(3, 3)])
    assert belongs(batch) and batch["image_index"].tolist() == [0, 0, 2, 2, 2]
    assert batch["image_ids"].tolist() == [101, 102, 103] and "boxes_xyxy" not in batch


def test_what_evaluation_needs_comes_along():
    more = {"boxes_xyxy": torch.ones(2, 4), "size_hw": (40, 60), "tags": [("a",), ("b",)]}
    batch = collate_texts([sample_of(1, 2, **more), sample_of(2, 2, **more)])
    assert batch["size_hw"].tolist() == [[40, 60]] * 2 and batch["tags"] == [("a",), ("b",), ("a",), ("b",)]
    chosen = choose_texts(batch, [3, 0])
    assert chosen["texts"] == ["2-1", "1-0"] and chosen["tags"] == [("b",), ("a",)] and belongs(chosen)


def test_exactly_so_many_texts_without_repeats():
    samples = [sample_of(i, 5) for i in range(6)]
    batch = fixed_texts(samples, 20)
    assert len(set(batch["texts"])) == 20 and batch["images"].shape[0] == 6 and belongs(batch)
    assert fixed_texts(samples, 20)["texts"] == batch["texts"] != fixed_texts(samples, 20, seed=1)["texts"]


def test_every_text_is_drawn_equally_often():
    counts = Counter()
    for draw in range(300):
        samples = [sample_of(0, 3, draw=draw), sample_of(1, 5)]
        counts.update(fixed_texts(samples, 4)["texts"])
    assert len(counts) == 8 and all(abs(n - 150) < 45 for n in counts.values())  # 5 sigma of binomial(300, 1/2)


def test_too_few_texts_are_repeated_and_said(caplog):
    batch = fixed_texts([sample_of(1, 2), sample_of(2, 1)], 7)
    assert set(batch["texts"]) == {"1-0", "1-1", "2-0"} and len(batch["texts"]) == 7 and belongs(batch)
    assert "3 texts only; 4 are repeated" in caplog.text
    with pytest.raises(InputError, match="7 texts are to be drawn from 1 pictures that have 0"):
        fixed_texts([sample_of(1, 0)], 7)


class Endless(IterableDataset):
    def __init__(self, texts):
        self.texts = texts

    def __iter__(self):
        return (sample_of(i % 200, self.texts) for i in count())


def test_steps_have_regions_by_turns_that_do_not_depend_on_the_rank_or_worker():
    grains = TwoGrains(Endless(1), Endless(3), image_batch=4, region_pictures=2, region_texts=5, seed=3)
    alone = [step["regions"] is not None for step in islice(iter(grains), 40)]
    loader = DataLoader(grains, batch_size=1, collate_fn=only_one, num_workers=2, multiprocessing_context="fork")
    assert [step["regions"] is not None for step in islice(iter(loader), 40)] == alone
    assert alone == [takes_regions(3, step, 0.5) for step in range(40)] and 8 < sum(alone) < 32
    step = next(step for step in iter(grains) if step["regions"])
    assert len(step["images"]["texts"]) == 4 and len(step["regions"]["texts"]) == 5


@pytest.mark.parametrize(("share", "expected"), [(0.0, {False}), (1.0, {True})])
def test_shares_at_the_ends(share, expected):
    assert {takes_regions(0, step, share) for step in range(50)} == expected
