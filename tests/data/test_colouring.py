import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ovdet.data import colouring
from ovdet.data.colouring import (
    View,
    ViewConfig,
    draw_colours,
    nearest,
    paint,
    random_box,
    random_view,
    resized,
    stitch,
    whole_view,
)
from ovdet.data.segments import IGNORED, NOTHING, SegmentedPicture
from ovdet.errors import InputError


@pytest.fixture
def picture():
    """Every key knows its place: the key of a pixel is its column, its colour too."""
    owner = np.broadcast_to(np.arange(60, dtype=np.int32), (40, 60))
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 4 * owner
    return SegmentedPicture(image, owner, np.arange(60))


def test_painting_is_a_look_up_pixel_by_pixel():
    rng = np.random.default_rng(0)
    key_map = rng.integers(-2, 9, (7, 11))
    keys, colours = [6, 0, 3], rng.integers(1, 256, (3, 3)).astype(np.uint8)
    painted, judged = paint(key_map, keys, colours)
    for row in range(7):
        for column in range(11):
            key = key_map[row, column]
            wanted = colours[keys.index(key)].tolist() if key in keys else [0, 0, 0]
            assert painted[row, column].tolist() == wanted
            assert judged[row, column] == (key != IGNORED)
    nothing, _ = paint(key_map, [], np.zeros((0, 3), np.uint8))
    assert not nothing.any()


def test_colours_keep_their_distance():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 12):
        colours = np.concatenate([draw_colours(rng, count, 60).astype(int), np.zeros((1, 3), int)])
        distance = np.abs(colours[:, None] - colours[None]).sum(axis=2)
        assert (distance[~np.eye(count + 1, dtype=bool)] >= 60).all()
    assert draw_colours(rng, 0).shape == (0, 3)
    crowd = draw_colours(rng, 40, 200)
    assert len(np.unique(crowd, axis=0)) == 40, "where there is no room, they still differ"


def test_single_colours_spread_over_the_cube():
    rng = np.random.default_rng(1)
    colours = np.concatenate([draw_colours(rng, 1, 60) for _ in range(3000)]).astype(float)
    # uniform but for a corner of volume 60^3 / 6 that is cut off: 0.2 % of the cube
    assert colours.mean(axis=0) == pytest.approx([127.5] * 3, abs=4)
    assert colours.std(axis=0) == pytest.approx([73.9] * 3, abs=3)


def test_nearest_is_torchs_nearest_exact():
    for old, new in ((10, 4), (7, 7), (5, 16), (448, 128), (3, 100)):
        line = torch.arange(old, dtype=torch.float32)[None, None, :]
        wanted = torch.nn.functional.interpolate(line, new, mode="nearest-exact")[0, 0].long().numpy()
        assert np.array_equal(nearest(old, new), wanted)


def test_a_crop_is_resized_as_torchvision_does_it(picture):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    view = resized(View(noise, picture.key_map), (3, 5, 30, 20), (16, 24))
    wanted = F.resized_crop(Image.fromarray(noise), 3, 5, 30, 20, [16, 24], v2.InterpolationMode.BICUBIC)
    assert np.array_equal(view.image, np.asarray(wanted))
    assert np.array_equal(view.key_map[0], 5 + nearest(20, 24))


def test_picture_and_keys_stay_together(picture):
    config = ViewConfig(size=32, jitter_share=0.0)
    rng, flipped = np.random.default_rng(0), 0
    for _ in range(40):
        view = random_view(rng, picture, config)
        assert view.image.shape == (32, 32, 3) and view.key_map.shape == (32, 32)
        assert np.abs(view.image[..., 0] / 4 - view.key_map).max() < 2  # interpolated against nearest
        flipped += view.key_map[0, 0] > view.key_map[0, -1]
    assert 10 < flipped < 30
    whole = whole_view(picture, 30)
    assert np.array_equal(whole.key_map[0], np.arange(1, 60, 2))


def test_boxes_follow_torchvisions_rule():
    rng = np.random.default_rng(0)
    scale, ratio = (0.3, 1.0), (3 / 4, 4 / 3)
    mine = np.asarray([random_box(rng, (200, 300), scale, ratio) for _ in range(3000)], float)
    torch.manual_seed(0)
    image = torch.zeros(3, 200, 300)
    crop = v2.RandomResizedCrop(32, scale, ratio)
    theirs = [crop.make_params([image]) for _ in range(3000)]
    theirs = np.asarray([[one[key] for key in ("top", "left", "height", "width")] for one in theirs], float)
    spread = theirs.std(axis=0) / np.sqrt(3000)
    assert (np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < 5 * spread).all()
    assert (np.abs(mine.std(axis=0) / theirs.std(axis=0) - 1) < 0.08).all()
    assert (mine[:, 0] + mine[:, 2] <= 200).all() and (mine[:, 1] + mine[:, 3] <= 300).all()
    for size_hw in ((20, 900), (900, 20)):  # no crop of that shape fits: the middle is taken
        wanted = crop.make_params([torch.zeros(3, *size_hw)])
        found = random_box(rng, size_hw, (0.9, 1.0), ratio)
        assert found == tuple(wanted[key] for key in ("top", "left", "height", "width"))


def test_jitter_is_torchvisions(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for seed in range(5):
        twin = np.random.default_rng(seed)
        factors = [float(twin.uniform(0.6, 1.4)), float(twin.uniform(0.6, 1.4)), float(twin.uniform(0.8, 1.2))]
        twin.uniform(-0.1, 0.1)
        wanted = tensor
        for step in twin.permutation(4).tolist():
            wanted = wanted if step == 3 else changes[step](wanted, factors[step])
        monkeypatch.setattr(colouring, "_turn_hue", lambda picture, turn: picture)
        found = colouring._jittered(np.random.default_rng(seed), image, (0.4, 0.4, 0.2, 0.1))
        assert np.array_equal(found, wanted.permute(1, 2, 0).numpy())
        monkeypatch.undo()


def test_hues_turn_as_torchvisions_do():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for turn in (-0.1, 0.0, 0.05, 0.1):
        found = colouring._turn_hue(tensor, turn).float()
        difference = (found - F.adjust_hue(tensor, turn).float()).abs()
        assert difference.mean() < 3 and difference.quantile(0.99) < 9, "hues of two degrees, and rounding"


def test_stitched_views_lie_row_by_row():
    views = [View(np.full((4, 4, 3), n, np.uint8), np.full((4, 4), n)) for n in range(6)]
    whole = stitch(views, (2, 3))
    assert whole.key_map[::4, ::4].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.array_equal(whole.image[..., 1], whole.key_map)
    with pytest.raises(ValueError, match="takes 4 views"):
        stitch(views, (2, 2))


def test_impossible_settings_are_refused():
    for settings in (dict(size=8), dict(scale=(0.5, 0.2)), dict(ratio=(0.0, 1.0)), dict(flip_share=1.5)):
        with pytest.raises(InputError):
            ViewConfig(**settings)


def test_nothing_and_ignored_survive_resizing():
    owner = np.full((8, 8), NOTHING, np.int32)
    owner[:4] = IGNORED
    view = whole_view(SegmentedPicture(np.zeros((8, 8, 3), np.uint8), owner, np.zeros(0)), 16)
    assert (view.key_map[:8] == IGNORED).all() and (view.key_map[8:] == NOTHING).all()
