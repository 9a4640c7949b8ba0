import numpy as np
import pytest
from scipy import ndimage

from ovdet.data.canvas import block_mask, half_mask


def test_the_half_mask_is_the_lower_half():
    mask = half_mask((56, 28))
    assert mask.shape == (56, 28) and not mask[:28].any() and mask[28:].all()


@pytest.mark.parametrize("grid_hw", [(56, 28), (16, 8), (32, 16), (4, 2)])
@pytest.mark.parametrize("share", [0.5, 0.75, 0.1])
def test_exactly_the_share_is_hidden(grid_hw, share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert block_mask(rng, grid_hw, share).sum() == round(share * grid_hw[0] * grid_hw[1])


def edges(mask):
    return int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())


def test_published_masks_are_blocks_anywhere_on_the_canvas():
    rng = np.random.default_rng(0)
    masks = np.stack([block_mask(rng, (56, 28)) for _ in range(200)])
    assert (masks.sum(axis=(1, 2)) == 784).all()
    scattered = rng.permuted(masks.reshape(200, -1), axis=1).reshape(masks.shape)
    assert np.mean([edges(mask) for mask in masks]) < 0.5 * np.mean([edges(mask) for mask in scattered])
    assert np.mean([ndimage.label(mask)[1] for mask in masks]) < 40
    seen = masks.mean(axis=0)
    middle = seen[4:-4, 4:-4]  # blocks lie inside the canvas: its rim is hidden less often
    assert 0.2 < middle.min() and seen.max() < 0.9, "every place is hidden at times, and seen at times"
    assert abs(masks[:, :28].mean() - masks[:, 28:].mean()) < 0.05
