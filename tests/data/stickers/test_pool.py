import numpy as np
import pytest
import torch

from ovdet.data.stickers.episodes import CastWorld
from ovdet.data.stickers.pool import PooledCanvases, pooled_canvases
from ovdet.errors import InputError
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.examples import resize_labels

WORLD = dict(split="48-17", side=96, objects=(1, 2), long_side=(40, 70))


@pytest.fixture
def pool(real_names_pack, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    return pooled_canvases(WORLD, size=48, patch=16, of_name=4, same_drawing=[1.0, 0.0, 10, 10], white_share=0.5)


def test_samples_are_canvases_of_the_pool(pool):
    assert len(pool.images) == 4 * len(pool.labels)
    sizes = set()
    for number in range(30):
        sample = pool[number]
        assert sample["image"].shape == sample["painting"].shape == (3, 96, 48)
        assert sample["masked"].tolist() == [[False] * 3] * 3 + [[True] * 3] * 3 and sample["valid"].all()
        first, second = sample["pictures"].tolist()
        assert first != second, "two scenes"
        for half, place in ((slice(48), first), (slice(48, None), second)):
            assert np.array_equal(sample["image"][:, half].numpy(), pool.images[place])
            inside = sample["painting"][:, half].bool().any(dim=0).numpy()
            keys = np.unique(pool.keys[place][inside])
            assert len(keys) == 1 and keys[0] in pool.labels, "one name, a base one, in both halves"
            assert np.array_equal(inside, pool.keys[place] == keys[0])
        sizes.add(len(np.unique(sample["painting"].flatten(1).numpy(), axis=1).T))
    assert sizes == {2}, "black and one colour"


def test_patches_tell_the_name_that_covers_half_of_them(pool):
    for number in range(10):
        sample = pool[number]
        for names, place in zip(sample["names"].numpy(), sample["pictures"].tolist(), strict=True):
            for row, column in np.ndindex(3, 3):
                patch = pool.keys[place][16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)]
                keys, counts = np.unique(patch, return_counts=True)
                covered = [key for key, count in zip(keys, counts, strict=True) if count >= 128 and key in pool.labels]
                assert names[row, column] == (pool.labels.index(covered[0]) if len(covered) == 1 else -1) or (
                    len(covered) == 2 and names[row, column] in [pool.labels.index(key) for key in covered]
                )


def test_the_same_drawing_comes_first(pool):
    """Samples below the ramp are of the first two scenes of a name, later ones of anybody's."""
    first = [pool[number]["pictures"].numpy() for number in range(10)]
    assert all((pair % 4 < 2).all() and len(set(pair // 4)) == 1 for pair in first)
    later = [pool[number]["pictures"].numpy() for number in range(10, 60)]
    assert not all((pair % 4 < 2).all() for pair in later)


@pytest.mark.parametrize("share", ["twin_share", "absent_share"])
def test_twins_and_pictures_without_the_thing(real_names_pack, monkeypatch, share):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    drawn = []
    draw = CastWorld.draw
    monkeypatch.setattr(CastWorld, "draw", lambda self, rng: drawn.append(draw(self, rng)) or drawn[-1])
    pool = pooled_canvases(WORLD, size=48, patch=16, of_name=4, **{share: 1.0})
    for number in range(20):
        sample = pool[number]
        above, below = sample["painting"].bool().any(dim=0).chunk(2)
        prompt, target = sample["pictures"].tolist()
        assert above.any()
        if share == "twin_share":
            assert below.any() and (prompt // 4, {prompt % 4, target % 4}) == (target // 4, {0, 1})
            assert set(drawn[target].sprites) <= set(drawn[prompt].sprites) or prompt % 4 == 1
        else:
            label = pool.keys[prompt][above.numpy()][0]
            assert not below.any() and label not in pool.keys[target]


def test_every_other_scene_by_anybody_is_crowded(real_names_pack, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    drawn = []
    draw = CastWorld.draw
    monkeypatch.setattr(CastWorld, "draw", lambda self, rng: drawn.append(draw(self, rng)) or drawn[-1])
    one = {**WORLD, "objects": (1, 1)}
    pooled_canvases(one, size=48, patch=16, of_name=4, crowded={"objects": (5, 5), "long_side": (12, 20)})
    things = np.asarray([len(scene.labels) for scene in drawn]).reshape(-1, 4)
    assert (things[:, :3] == 1).all(), "the first half by one drawing, and every other one of the rest"
    assert (things[:, 3] >= 3).all() and (things[:, 3] == 5).mean() > 0.5


def test_a_pool_where_all_show_the_name_has_none_without(pool):
    pool.keys[:] = pool.labels[0]
    with pytest.raises(InputError, match="the pool has none"):
        pool._without(np.random.default_rng(0), pool.labels[0])


def test_samples_are_a_function_of_seed_and_number(pool):
    again = pool[7]
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(again[key])) for key, value in pool[7].items())
    with pytest.raises(IndexError, match="sample 1000000 of 1000000"):
        pool[1_000_000]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"of_name": 3}, "at least 4"),
        ({"size": 50}, "multiple of 16"),
        ({"twin_share": 0.6, "several_share": 0.5}, "at most 1"),
    ],
)
def test_contradictions_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        PooledCanvases(None, **{"size": 48, "patch": 16, **changes})


@pytest.fixture
def drawn_pool(real_names_pack, monkeypatch):
    """Makes a pool of pairs of one kind, and gives it with its scenes in the order of their places."""
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    scenes = {}
    fill = PooledCanvases._draw
    monkeypatch.setattr(
        PooledCanvases,
        "_draw",
        lambda self, world, number, **more: scenes.setdefault(number, fill(self, world, number, **more)),
    )
    wide = {**WORLD, "side": 192}
    return lambda **share: (
        pooled_canvases(wide, size=48, patch=16, of_name=4, palette="ovdet.seggpt.colours.class_colours", **share),
        scenes,
    )


def test_several_names_are_painted_in_one_colour_each(drawn_pool):
    pool, _ = drawn_pool(several_share=1.0, white_share=0.5)
    assert len(pool.images) == 6 * len(pool.labels) and len(pool.sharing) > len(pool.labels) / 2
    usual, counts = 0, set()
    for number in range(60):
        sample = pool[number]
        pictures = sample["pictures"].tolist()
        assert sample["kind"] == 0 and min(pictures) >= 4 * len(pool.labels) and abs(pictures[0] - pictures[1]) == 1
        keys = np.concatenate([pool.keys[place] for place in pictures])
        painting = sample["painting"].numpy()
        painted = {int(key): painting[:, keys == key] for key in np.unique(keys) if painting[:, keys == key].any()}
        colours = {key: tuple(paint[:, 0].tolist()) for key, paint in painted.items()}
        assert all((paint == paint[:, :1]).all() for paint in painted.values())
        assert len(set(colours.values())) == len(colours) and set(colours) <= set(pool.labels)
        assert not painting[:, ~np.isin(keys, list(painted))].any()
        for half in keys.reshape(2, -1):
            assert set(painted) <= set(half.tolist()), "each in both halves"
        usual += set(colours.values()) <= set(map(tuple, class_colours(len(colours)).tolist()))
        counts.add(len(colours))
    assert counts == {2, 3} and 15 < usual < 45


def test_one_of_two_drawings_of_a_name_is_painted(drawn_pool):
    pool, scenes = drawn_pool(instance_share=1.0)
    both = 0
    for number in range(40):
        sample = pool[number]
        pictures = sample["pictures"].tolist()
        assert sample["kind"] == 1 and abs(pictures[0] - pictures[1]) == 1
        meant = []
        for place, paint in zip(pictures, sample["painting"].bool().any(dim=0).numpy().reshape(2, 48, 48), strict=True):
            keys = np.unique(pool.keys[place][paint])
            assert len(keys) == 1 and keys[0] in pool.labels
            both += (pool.keys[place] == keys[0]).sum() > paint.sum()
            scene = scenes[place]
            masks = np.stack([resize_labels(mask.astype(np.int32), (48, 48)) > 0 for mask in scene.masks])
            best = np.argmax([(mask & paint).sum() / (mask | paint).sum() for mask in masks])
            meant.append(scene.sprites[best])
        assert meant[0] == meant[1], "the same drawing in both"
    assert both > 40, "the other one is there too, and stays black"


def test_a_world_too_small_for_several_is_refused(real_names_pack, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.setattr(PooledCanvases, "_draw_sharing", lambda *args: None)
    with pytest.raises(InputError, match="larger scenes"):
        pooled_canvases(WORLD, size=48, patch=16, of_name=4, several_share=0.5)
