"""Photo-like scenes: a function of seed and index, annotated by what is visible, less like stickers than stickers."""

import numpy as np
import pytest
import torch

from ovdet.data.stickers.grounds import TRAIN_PAINTERS
from ovdet.data.stickers.photolike import PatchworkGrounds, PhotolikeScenes, retexture, soften_rims, through_a_lens
from ovdet.errors import InputError
from ovdet.ops.masks import boxes_xyxy_of_masks


@pytest.fixture(scope="module")
def scenes(make_world):
    worlds = [make_world(long_side=(20.0, 60.0)), make_world(long_side=(60.0, 120.0), objects=(1, 2))]
    return PhotolikeScenes(worlds, (0.5, 0.5), 100, seed=3)


def test_a_sample_is_a_function_of_seed_and_index(scenes):
    first, again = scenes[5], PhotolikeScenes(scenes.worlds, scenes.shares, 100, seed=3)[5]
    other_seed = PhotolikeScenes(scenes.worlds, scenes.shares, 100, seed=4)[5]
    other_stream = PhotolikeScenes(scenes.worlds, scenes.shares, 100, seed=3, stream="validation")[5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["image"], scenes[6]["image"])
    assert not torch.equal(first["image"], other_seed["image"])
    assert not torch.equal(first["image"], other_stream["image"])


def test_boxes_are_tight_around_what_each_thing_owns(scenes):
    for index in range(12):
        sample = scenes[index]
        owner = sample["owner"].numpy()
        count = len(sample["boxes_xyxy"])
        assert sample["image"].dtype == torch.uint8 and sample["image"].shape == (3, *owner.shape)
        assert count and owner.max() == count - 1 and owner.min() >= -1
        masks = owner[None] == np.arange(count)[:, None, None]
        np.testing.assert_array_equal(boxes_xyxy_of_masks(masks), sample["boxes_xyxy"].numpy())


def test_half_of_the_scenes_are_mirrored_with_their_boxes(scenes):
    # the lens and the mirror come after the drawing: the owners are the drawn masks, or their mirror image
    mirrored = 0
    for index in range(16):
        from ovdet.data.stickers.dataset import scene_generator

        rng = scene_generator("train", 3, index)
        scene = scenes.worlds[int(rng.choice(2, p=(0.5, 0.5)))].draw(rng)
        drawn = np.where(scene.masks.any(axis=0), scene.masks.argmax(axis=0), -1)
        owner = scenes[index]["owner"].numpy()
        as_drawn, in_the_mirror = (owner == drawn).all(), (owner == drawn[:, ::-1]).all()
        assert as_drawn or in_the_mirror
        mirrored += int(in_the_mirror)
    assert 3 <= mirrored <= 13


def test_retexture_changes_things_and_nothing_else(world):
    rng = np.random.default_rng(0)
    scene = world.draw(rng)
    painted = retexture(rng, scene.image, scene.masks, world.grounds, share=1.0)
    things = scene.masks.any(axis=0)
    assert (painted[~things] == scene.image[~things]).all()
    for mask in scene.masks:
        assert (painted[mask] != scene.image[mask]).any(axis=1).mean() > 0.5
    assert (retexture(rng, scene.image, scene.masks, world.grounds, share=0.0) == scene.image).all()


def test_rims_lose_contrast_and_the_rest_stays():
    image = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 16:48, 16:48] = True
    image[mask[0]] = 200
    steepest = [np.abs(np.diff(soften_rims(np.random.default_rng(seed), image, mask)[32, :, 0].astype(int))).max()
                for seed in range(20)]  # fmt: skip
    assert min(steepest) < 120 and max(steepest) == 200  # some are left alone
    softened = soften_rims(np.random.default_rng(1), image, mask)
    assert (softened[30:34, 30:34] == 200).all() and (softened[:4, :4] == 0).all()


def test_a_lens_keeps_shape_and_type_and_changes_pictures_differently(world):
    scene = world.draw(np.random.default_rng(0))
    things = scene.masks.any(axis=0)
    seen = [through_a_lens(np.random.default_rng(seed), scene.image, things) for seed in range(6)]
    assert all(image.shape == scene.image.shape and image.dtype == np.uint8 for image in seen)
    assert len({image.tobytes() for image in seen}) == 6


def test_patchwork_blends_grounds_along_smooth_lines():
    grounds = PatchworkGrounds(TRAIN_PAINTERS)
    grounds.patch_share = 1.0
    plain = np.random.default_rng(0)
    images = [grounds.draw(plain, (48, 64)).image for _ in range(5)]
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in images)


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6)])
def test_shares_that_do_not_fit_are_refused(world, shares):
    with pytest.raises(InputError, match="share"):
        PhotolikeScenes([world, world], shares, 10)
