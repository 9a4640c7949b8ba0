import itertools
import math
import pickle
from collections import Counter

import pytest

from ovdet.data import sampling
from ovdet.data.sampling import Draw, SeededSampler, repeat_factors


class Labelled(list):
    """A data set that is only its labels."""

    def get_cat_ids(self, index):
        return self[index]


def take(sampler, count):
    return list(itertools.islice(sampler, count))


def test_a_draw_survives_the_way_to_a_worker():
    draw = pickle.loads(pickle.dumps(Draw(3, 99)))
    assert (draw, draw.number, [7, 8, 9, 10][draw]) == (3, 99, 10)


def test_each_pass_holds_every_picture_once_and_passes_differ():
    stream = take(SeededSampler(range(7), seed=3), 21)
    passes = [stream[0:7], stream[7:14], stream[14:21]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [draw.number for draw in stream] == list(range(21))


def test_a_stream_continues_where_it_was_cut():
    straight = take(SeededSampler(range(7), seed=3), 30)
    rest = take(SeededSampler(range(7), seed=3, start=11), 19)
    assert [(int(d), d.number) for d in straight[11:]] == [(int(d), d.number) for d in rest]


def test_counted_passes_are_pieces_of_the_endless_stream():
    straight = take(SeededSampler(range(7), seed=3), 21)
    sampler = SeededSampler(range(7), seed=3, endless=False)
    sampler.set_epoch(2)
    assert list(sampler) == straight[14:21]
    assert [draw.number for draw in sampler] == list(range(14, 21))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_pass_without_overlap(monkeypatch, world_size):
    alone = take(SeededSampler(range(8), seed=1), 8)
    dealt = []
    for rank in range(world_size):
        monkeypatch.setattr(sampling, "get_dist_info", lambda rank=rank: (rank, world_size))
        sampler = SeededSampler(range(8), seed=1, endless=False)
        assert len(sampler) == math.ceil(8 / world_size)
        dealt.append(list(sampler))
    together = [draw for row in zip(*dealt, strict=True) for draw in row]
    assert together[:8] == alone
    assert [draw.number for draw in together] == list(range(len(together)))


def test_repeat_factors_by_hand():
    data = Labelled([[0]] * 98 + [[0, 1], []])
    # class 0 is on 99 of 100 pictures, class 1 on one: sqrt(0.05 / 0.01) = 2.24, rounded up
    assert repeat_factors(data, 0.05) == [1] * 98 + [3, 1]
    counts = Counter(take(SeededSampler(data, repeat_threshold=0.05), 102))
    assert counts[98] == 3 and counts[0] == 1
