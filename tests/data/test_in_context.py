import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from ovdet.data.contexts import Context
from ovdet.data.episodes import EpisodePictures
from ovdet.data.in_context import CanvasConfig, EpisodeCanvases, InContextSamples, ViewConfig, mixture
from ovdet.data.sampling import Draw, SeededSampler
from ovdet.data.segments import IGNORED, cut
from ovdet.errors import InputError

SIZE = 64


class Blocks:
    """Pictures of square blocks, whose picture shows the key: grey level 20 * (key + 1). Writes down what was asked."""

    def __init__(self, kind="semantic", keys=range(6), tag=0):
        self.kind, self.keys, self.tag = kind, list(keys), tag
        self.asked = []

    def draw(self, rng, number, count):
        self.asked.append((number, count))
        return Context(tuple(self.picture(rng) for _ in range(count)), self.kind)

    def picture(self, rng):
        image = np.full((80, 100, 3), 250, np.uint8)
        image[..., 1] = self.tag
        masks = []
        for place, key in enumerate(self.keys):
            mask = np.zeros((80, 100), bool)
            top, left = 40 * (place // 3), 33 * (place % 3)
            mask[top + 4 : top + 36, left + 3 : left + 30] = True
            image[mask] = 20 * (key + 1)
            masks.append(mask)
        ignored = np.zeros((80, 100), bool)
        ignored[:, :3] = True
        return cut(image, masks, self.keys, ignored)


def plain(**settings):
    defaults = dict(half_mask_share=0.0, mix_share=0.0, ensemble_share=0.0, crop_share=0.0, max_colours=3)
    view = ViewConfig(size=SIZE, jitter_share=0.0)
    return CanvasConfig(view=view, **{**defaults, **settings})


def samples_of(config, count=20, source=None, **settings):
    samples = InContextSamples([source or Blocks()], config=config, length=1000, **settings)
    return [samples[index] for index in range(count)]


def key_of(image):
    """Key of each pixel, read off the grey level; -1 where it is between two."""
    grey = image[0].long()
    return torch.where((grey % 20 == 0) & (grey <= 120) & (image[0] == image[2]), grey // 20 - 1, -1)


def painted_keys(sample):
    """Key -> the colours that its pixels have in the painting."""
    keys, found = key_of(sample["image"]), {}
    for key in range(6):
        inside = keys == key
        if inside.any():
            found[key] = Counter(map(tuple, sample["painting"][:, inside].T.tolist()))
    return found


@pytest.mark.parametrize("how", ["plain", "mix", "ensemble", "crop"])
def test_one_key_has_one_colour_in_both_halves(how):
    shares = {"mix": dict(mix_share=1.0), "ensemble": dict(ensemble_share=1.0), "crop": dict(crop_share=1.0)}
    coloured = 0
    for sample in samples_of(plain(**shares.get(how, {}))):
        for colours in painted_keys(sample).values():
            (colour, most), total = colours.most_common(1)[0], sum(colours.values())
            if total >= 40:  # at the edges of a block, nearest and bicubic part
                assert most >= 0.8 * total
                coloured += any(colour)
    assert coloured > 10


def test_every_sample_colours_something_in_both_halves():
    for config in (plain(), plain(crop_share=1.0), plain(mix_share=0.5, ensemble_share=0.5)):
        for sample in samples_of(config, 10):
            colours = [
                set(map(tuple, half.flatten(1).T.tolist())) - {(0, 0, 0)} for half in sample["painting"].chunk(2, dim=1)
            ]
            assert sample["painting"].any()
            if not config.crop_share:
                assert colours[0] & colours[1]


def test_colours_are_drawn_anew_for_every_sample():
    seen = Counter()
    for sample in samples_of(plain(max_colours=1), 20):
        colours = set(map(tuple, sample["painting"].flatten(1).T.tolist())) - {(0, 0, 0)}
        assert len(colours) == 1
        seen.update(colours)
    assert len(seen) == 20
    numbers = Counter(
        len(set(map(tuple, s["painting"].flatten(1).T.tolist())) - {(0, 0, 0)}) for s in samples_of(plain(), 45)
    )
    assert set(numbers) == {1, 2, 3} and min(numbers.values()) > 5
    white = samples_of(plain(max_colours=1, white_share=1.0), 5)
    assert all(set(sample["painting"].unique().tolist()) == {0, 255} for sample in white)


def test_shapes_kinds_and_masks():
    sample = samples_of(plain(half_mask_share=1.0), 1, Blocks("instance"))[0]
    assert sample["image"].shape == sample["painting"].shape == (3, 2 * SIZE, SIZE)
    assert sample["image"].dtype == sample["painting"].dtype == torch.uint8
    assert sample["valid"].shape == (2 * SIZE, SIZE) and sample["valid"].dtype == torch.bool
    assert sample["masked"].shape == (8, 4) and sample["masked"][4:].all() and not sample["masked"][:4].any()
    assert sample["kind"] == 1
    other = samples_of(plain(), 1, Blocks("part"))[0]
    assert other["kind"] == 0 and other["masked"].sum() == 16


def test_half_masks_come_as_often_as_told():
    half = sum(bool(sample["masked"][4:].all()) for sample in samples_of(plain(half_mask_share=0.3), 100))
    assert 15 < half < 45


def test_ignored_pixels_are_not_judged():
    for sample in samples_of(plain(), 10):
        ignored = ~sample["valid"]
        assert not sample["painting"][:, ignored].any()
        assert (sample["image"][0][ignored] > 100).all()
    assert sum(int((~sample["valid"]).sum()) for sample in samples_of(plain(), 20)) > 100


def test_sources_are_drawn_by_their_weights():
    sources = [Blocks(tag=10), Blocks(tag=200), Blocks(tag=100)]
    samples = InContextSamples(sources, [0.6, 0.4, 0.0], plain(), length=100)
    for index in range(100):
        samples[index]
    drawn = [len(source.asked) for source in sources]
    assert sum(drawn) == 100 and 45 < drawn[0] < 75 and drawn[2] == 0


def test_layouts_ask_for_as_many_pictures_as_they_show():
    for config, count in ((plain(), 2), (plain(mix_share=1.0), 4), (plain(ensemble_share=1.0), 5)):
        source = Blocks()
        samples_of(config, 3, source)
        assert {asked for _, asked in source.asked} == {count}


def test_a_sample_is_a_function_of_seed_and_draw():
    config = plain(mix_share=0.3, ensemble_share=0.3, crop_share=0.5, half_mask_share=0.5)
    source = Blocks()
    samples = InContextSamples([source], config=config, length=50, seed=3)
    again = InContextSamples([Blocks()], config=config, length=50, seed=3)
    for name in ("image", "painting", "valid", "masked"):
        assert torch.equal(samples[7][name], again[7][name])
    assert not torch.equal(samples[7]["painting"], InContextSamples([source], None, config, 50, 4)[7]["painting"])
    assert torch.equal(samples[Draw(2, 31)]["image"], samples[31]["image"]), "the number of the draw counts"
    source.asked.clear()
    samples[Draw(2, 31)]
    assert source.asked[0][0] == 31


def test_worker_processes_and_restarts_change_nothing():
    samples = InContextSamples([Blocks()], config=plain(), length=8, seed=1)
    whole = list(DataLoader(samples, 2, sampler=SeededSampler(samples, seed=0, endless=False), num_workers=0))
    split = list(DataLoader(samples, 2, sampler=SeededSampler(samples, seed=0, endless=False), num_workers=2))
    for one, other in zip(whole, split, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    rest = SeededSampler(samples, seed=0, endless=True, start=4)
    first = default_collate([samples[draw] for draw, _ in zip(rest, range(2), strict=False)])
    assert torch.equal(first["image"], whole[2]["image"])
    assert pickle.loads(pickle.dumps(samples)).length == 8


def test_a_config_says_it_all():
    samples = mixture(
        [dict(type=Blocks, weight=3.0, tag=7), dict(type=Blocks, kind="instance")],
        view=dict(size=32, scale=[0.5, 1.0]),
        canvas=dict(patch=8, crop_ratio=[0.4, 0.6]),
        length=5,
        seed=2,
    )
    assert samples.shares.tolist() == [0.75, 0.25] and samples.sources[0].tag == 7 and samples.seed == 2
    assert samples.config.view.scale == (0.5, 1.0) and samples.config.crop_ratio == (0.4, 0.6)
    assert samples[0]["masked"].shape == (8, 4)


def test_published_figures_are_the_defaults():
    config = CanvasConfig()
    assert config.grid_hw == (56, 28) and config.view.size == 448 and config.hidden_share == 0.5
    assert (config.view.scale, config.view.ratio) == ((0.3, 1.0), (3 / 4, 4 / 3))
    assert (config.view.jitter, config.view.jitter_share, config.view.flip_share) == ((0.4, 0.4, 0.2, 0.1), 0.8, 0.5)
    assert (config.half_mask_share, config.crop_scale, config.crop_ratio) == (0.1, (0.3, 1.0), (0.3, 0.7))


def test_mistakes_are_told():
    with pytest.raises(InputError, match="multiple of patches"):
        CanvasConfig(view=ViewConfig(size=100))
    with pytest.raises(InputError, match="sum must be at most 1"):
        CanvasConfig(mix_share=0.7, ensemble_share=0.7)
    with pytest.raises(InputError, match="half_mask_share must lie"):
        CanvasConfig(half_mask_share=2.0)
    for sources, weights in (([], None), ([Blocks()], [0.0]), ([Blocks()], [1.0, 1.0]), ([Blocks()], [-1.0])):
        with pytest.raises(InputError, match="want as many weights"):
            InContextSamples(sources, weights)
    with pytest.raises(IndexError):
        InContextSamples([Blocks()], length=3)[3]


def test_episodes_become_canvases():
    rng = np.random.default_rng(0)
    picture, other = Blocks(keys=[0, 1, 2, 3]).picture(rng), Blocks(keys=[3, 1]).picture(rng)
    judged = picture.owner != IGNORED
    episode = EpisodePictures(3, picture.image, picture.mask(3), judged, ((other.image, other.mask(3)),) * 2)
    sample = EpisodeCanvases([episode], size=80, patch=8)[0]
    above, below = sample["painting"].chunk(2, dim=1)
    keys = key_of(sample["image"])
    assert set(above.unique().tolist()) == {0, 255} and not below.any()
    assert ((keys[:80] == 3) == (above[0] > 0)).float().mean() > 0.97
    assert ((keys[80:] == 3) == sample["truth"]).float().mean() > 0.97
    assert sample["valid"].shape == (80, 80) and 0.02 < (~sample["valid"]).float().mean() < 0.05
    assert sample["label"] == 3 and sample["masked"][10:].all() and not sample["masked"][:10].any()
