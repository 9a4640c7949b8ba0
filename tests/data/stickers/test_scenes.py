import numpy as np
import pytest

from ovdet.data.stickers import scenes
from ovdet.data.stickers.colours import colour_shares
from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES
from ovdet.data.stickers.grounds import GroundSource, evaluation_grounds, meadow, training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.errors import InputError

COUNT = 40


@pytest.fixture(scope="module")
def drawn(world):
    return [world.draw(np.random.default_rng((7, index))) for index in range(COUNT)]


def test_scenes_repeat_and_differ(world, drawn):
    again = world.draw(np.random.default_rng((7, 3)))
    for field in ("image", "masks", "boxes_xyxy", "labels", "colours"):
        assert np.array_equal(getattr(again, field), getattr(drawn[3], field)), field
    assert again.sprites == drawn[3].sprites and again.ground == drawn[3].ground
    assert len({scene.image.tobytes() for scene in drawn}) == COUNT


def test_masks_do_not_overlap_and_boxes_are_tight(drawn):
    for scene in drawn:
        assert scene.masks.sum(axis=0).max() == 1 and len(scene.labels) >= 1
        for mask, (left, top, right, bottom) in zip(scene.masks, scene.boxes_xyxy.astype(int), strict=True):
            rows, columns = np.nonzero(mask)
            assert (left, top) == (columns.min(), rows.min())
            assert (right, bottom) == (columns.max() + 1, rows.max() + 1)


def test_colours_are_those_of_the_picture(drawn):
    for scene in drawn[:10]:
        for mask, shares in zip(scene.masks, scene.colours, strict=True):
            assert np.allclose(shares, colour_shares(scene.image[mask]))


def test_masks_and_visibility_against_painting_all_again(make_world, monkeypatch):
    """Every thing's solid pixels are recorded as it is pasted; then they are painted pixel by pixel, back to front."""
    world = make_world(long_side=(20.0, 90.0), objects=(6, 14))
    layers = []
    cover = scenes._Canvas.try_to_cover
    paste = scenes.paste

    def recording_paste(canvas, patch, left, top):
        layers.append((patch[..., 3] >= 128, left, top, True))
        paste(canvas, patch, left, top)

    def recording_cover(canvas, rng):
        before = canvas.image.copy()
        cover(canvas, rng)
        layers.append(((before != canvas.image).any(axis=2), 0, 0, False))

    monkeypatch.setattr(scenes, "paste", recording_paste)
    monkeypatch.setattr(scenes._Canvas, "try_to_cover", recording_cover)
    hidden_some = 0
    for index in range(15):
        layers.clear()
        scene = world.draw(np.random.default_rng((11, index)))
        top_of = np.full(scene.image.shape[:2], -1)
        things = [layer for layer in layers if layer[3]]
        for order, (inside, left, top, _) in enumerate(things):
            for row, column in zip(*np.nonzero(inside), strict=True):
                if 0 <= top + row < top_of.shape[0] and 0 <= left + column < top_of.shape[1]:
                    top_of[top + row, left + column] = order
        for inside, _, _, is_thing in layers:
            if not is_thing:  # a cover may take the very colour that it hides: then the pixel looks unchanged
                assert not scene.masks.any(axis=0)[inside].any()
                top_of[~scene.masks.any(axis=0)] = -1
        assert len(things) == len(scene.labels)
        for order, (mask, (inside, *_)) in enumerate(zip(scene.masks, things, strict=True)):
            assert np.array_equal(mask, top_of == order)
            assert mask.sum() >= max(world.config.min_pixels, world.config.min_visible * inside.sum())
            hidden_some += mask.sum() < inside.sum()
    assert hidden_some > 5  # the rule was put to the test


def test_nearer_things_stand_lower_and_are_larger(make_world):
    world = make_world(grounds=GroundSource([meadow]), standing_share=1.0, size_hw=(192, 192), objects=(3, 3))
    sizes, feet, steps = [], [], []
    for index in range(60):
        scene = world.draw(np.random.default_rng((3, index)))
        steps += np.diff(scene.boxes_xyxy[:, 3]).tolist()
        sizes += np.log(np.prod(scene.boxes_xyxy[:, 2:] - scene.boxes_xyxy[:, :2], axis=1)).tolist()
        feet += scene.boxes_xyxy[:, 3].tolist()
    assert np.mean(np.array(steps) >= -3) > 0.9  # painted from far to near; some feet are hidden
    assert np.corrcoef(sizes, feet)[0, 1] > 0.4


def test_only_the_asked_styles_are_drawn(make_world):
    for styles in (TRAIN_STYLES, ("twemoji",), ("openmoji",), ("fxemoji",)):
        world = make_world(styles)
        seen = {key.style for i in range(30) for key in world.draw(np.random.default_rng(i)).sprites}
        assert seen == set(styles)
        if styles == TRAIN_STYLES:
            assert not seen & set(HELD_OUT_STYLES)


def test_all_names_turn_up_but_those_that_no_style_draws(make_world):
    def seen(world):
        return {int(label) for i in range(60) for label in world.draw(np.random.default_rng(i)).labels}

    assert seen(make_world()) == set(range(6))
    assert seen(make_world(("fxemoji",))) == set(range(5))


def test_held_out_styles_are_kept_from_training(pack, shapes_vocabulary):
    with pytest.raises(InputError, match="'openmoji' is held out: it cannot be mixed"):
        StickerWorld(pack, shapes_vocabulary, evaluation_grounds(), (*TRAIN_STYLES, "openmoji"))
    with pytest.raises(InputError, match="'twemoji' is held out for evaluation: use evaluation grounds"):
        StickerWorld(pack, shapes_vocabulary, training_grounds(), ("twemoji",))
    with pytest.raises(InputError, match="has no style 'crayon'"):
        StickerWorld(pack, shapes_vocabulary, training_grounds(), ("crayon",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_hw": (16, 64)}, "size_hw must be at least 32"),
        ({"objects": (5, 2)}, "objects must be"),
        ({"long_side": (4.0, 9.0)}, "long_side must be"),
        ({"min_visible": 1.5}, "min_visible must be"),
    ],
)
def test_configs_that_make_no_sense_are_told(values, message):
    with pytest.raises(InputError, match=message):
        SceneConfig(**values)


def test_things_may_be_larger_than_the_picture(make_world):
    world = make_world(size_hw=(64, 64), long_side=(30.0, 200.0))
    for index in range(20):
        assert len(world.draw(np.random.default_rng(index)).labels) >= 1


def test_scenes_that_cannot_be_are_told(make_world):
    with pytest.raises(InputError, match="no thing can be placed so that enough of it is seen"):
        make_world(min_pixels=10**6).draw(np.random.default_rng(0))
