from collections import Counter

import numpy as np
import pytest

from ovdet.data.contexts import PictureContexts
from ovdet.data.segments import cut
from ovdet.data.stickers.colours import WORDS
from ovdet.errors import InputError

PAINTS = ((220, 20, 20), (20, 40, 220), (20, 160, 40))


class Pictures:
    """Pictures of one block a class, each of a colour; picture i has the classes and paints of row i."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def keys_of(self, index):
        return [key for key, _ in self.rows[index]]

    def __getitem__(self, index):
        image = np.full((8, 40, 3), 255, np.uint8)
        image[0, 0] = index  # to know it again
        masks = []
        for place, (_, paint) in enumerate(self.rows[index]):
            mask = np.zeros((8, 40), bool)
            mask[2:6, 8 * place + 2 : 8 * place + 7] = True
            image[mask] = PAINTS[paint]
            masks.append(mask)
        return cut(image, masks, self.keys_of(index))


ROWS = [[(0, 0), (1, 1)], [(1, 1)], [(1, 2), (2, 0)], [], [(2, 1)], [(3, 2), (3, 2)]]


def numbers(context):
    return [int(picture.image[0, 0, 0]) for picture in context.pictures]


def test_semantic_contexts_share_a_class():
    contexts = PictureContexts(Pictures(ROWS))
    rng, same = np.random.default_rng(0), 0
    pairs = Counter()
    for _ in range(400):
        context = contexts.draw(rng, 0, 2)
        assert context.kind == "semantic"
        target, other = numbers(context)
        pairs[target] += 1
        assert {key for key, _ in ROWS[target]} & {key for key, _ in ROWS[other]}
        same += target == other
    # half of the time by choice; picture 5 has no partner and always goes with itself
    assert set(pairs) == {0, 1, 2, 4, 5}
    expected = 400 * (4 / 5 * 0.5 + 1 / 5)
    assert abs(same - expected) < 45


def test_all_pictures_of_a_larger_context_share_one_class():
    contexts = PictureContexts(
        Pictures([[(0, 0), (1, 1)], [(0, 0), (2, 1)], [(0, 0)], [(1, 0)], [(1, 1)]]), same_picture=0
    )
    rng = np.random.default_rng(0)
    for _ in range(100):
        shown = [set(picture.keys.tolist()) for picture in contexts.draw(rng, 0, 4).pictures]
        assert set.intersection(*shown)


def test_instances_are_looked_for_in_the_same_picture_only():
    contexts = PictureContexts(Pictures(ROWS), "instance")
    rng = np.random.default_rng(0)
    for _ in range(50):
        context = contexts.draw(rng, 0, 3)
        assert len(set(numbers(context))) == 1
        assert context.pictures[0].keys.tolist() == list(range(len(ROWS[numbers(context)[0]])))
    with pytest.raises(InputError, match="one picture only"):
        PictureContexts(Pictures(ROWS), "instance", 0.5)


def test_objects_of_a_clip_are_found_in_other_frames():
    contexts = PictureContexts(Pictures([[(7, 0)], [(7, 0), (8, 1)], [(8, 1)]]), "instance", 0.0, same_objects=True)
    rng = np.random.default_rng(0)
    pairs = {tuple(sorted(numbers(contexts.draw(rng, 0, 2)))) for _ in range(60)}
    assert pairs == {(0, 1), (1, 2)}


def test_colours_are_shared_whatever_the_class():
    contexts = PictureContexts(Pictures(ROWS), "colour", 0.0)
    rng, mixed = np.random.default_rng(0), 0
    for _ in range(60):
        context = contexts.draw(rng, 0, 2)
        first, second = (set(picture.shown().tolist()) for picture in context.pictures)
        assert first & second <= {WORDS.index(word) for word in ("red", "blue", "green")} and first & second
        one, two = ({key for key, _ in ROWS[number]} for number in numbers(context))
        mixed += not one & two
    assert mixed > 10


def test_parts_are_cut_where_asked_for():
    picture = PictureContexts(Pictures(ROWS), "part", cut_parts=True).draw(np.random.default_rng(1), 0, 2).pictures[0]
    assert min(picture.keys) >= 0 and set((picture.keys // len(WORDS)).tolist()) <= {0, 1, 2, 3}
    plain = PictureContexts(Pictures(ROWS), "part").draw(np.random.default_rng(1), 0, 2).pictures[0]
    assert set(plain.keys.tolist()) <= {0, 1, 2, 3}


def test_mistakes_are_told():
    with pytest.raises(InputError, match="no kind of context 'motion'"):
        PictureContexts(Pictures(ROWS), "motion")
    with pytest.raises(InputError, match="nothing to learn"):
        PictureContexts(Pictures([[], []]))
