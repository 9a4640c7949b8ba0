import pytest
import torch
from torch.nn import functional as F

from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.crops import CropEncoder, _blocks


def test_embeddings_are_those_of_the_unpadded_picture(tower):
    picture = torch.rand(3, 40, 60)
    padded = torch.zeros(1, 3, 64, 64)
    padded[0, :, :40, :60] = picture
    boxes = torch.tensor([[5.0, 5.0, 55.0, 38.0], [0.0, 0.0, 10.0, 10.0]])
    expected = tower.region_embed_crop(picture[None], [boxes])[0]
    got = CropEncoder(tower).embed(padded, [(40, 60)], [boxes])[0]
    assert torch.equal(got, expected)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2))


def test_each_picture_keeps_its_own_boxes(tower):
    images = torch.rand(2, 3, 32, 32)
    boxes = [torch.tensor([[1.0, 2, 20, 30]]), torch.zeros(0, 4)]
    first, second = CropEncoder(tower).embed(images, [(32, 32)] * 2, boxes)
    assert first.shape == (1, 32)
    assert second.shape == (0, 32)


def test_a_backbone_works_in_float32_under_autocast_and_never_learns(tower):
    images, boxes = torch.rand(1, 3, 32, 32), [torch.tensor([[1.0, 2, 20, 30]])]
    encoder = CropEncoder(tower)
    expected = encoder.embed(images, [(32, 32)], boxes)[0]
    with torch.autocast("cpu", torch.bfloat16):
        got = encoder.embed(images, [(32, 32)], boxes)[0]
    assert torch.equal(got, expected)
    assert not got.requires_grad
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_both_crops_take_part(tower):
    """The vector is that of the tight crop plus that of the 1.5 times wider one, brought to unit length."""
    image, box = torch.rand(1, 3, 64, 64), torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    tight, wide = (tower.region_embed_crop(image, [box], scales=(scale,))[0] for scale in (1.0, 1.5))
    got = CropEncoder(tower).embed(image, [(64, 64)], [box])[0]
    torch.testing.assert_close(got, F.normalize(tight + wide, dim=1))


def test_square_crops_keep_shapes_and_are_black_outside():
    """A teacher that gives its crop back: a box 10 wide and 20 high is shown in a square of 20 x scale about it."""

    class Crops(VLMBackbone):
        def __init__(self):
            super().__init__(
                BackboneSpec("crops", "contrastive", 3 * 20 * 20, 20, (0.0,) * 3, (1.0,) * 3, "Apache-2.0")
            )

        def encode_image(self, images):
            return images.flatten(1)

        def encode_text(self, texts):
            raise NotImplementedError

        def forward_dense(self, images):
            raise NotImplementedError

    image = torch.rand(1, 3, 64, 64)
    encoder = CropEncoder(Crops(), (1.0,), square=True)
    inside, corner = encoder.embed(image, [(64, 64)], [torch.tensor([[25.0, 10, 35, 30], [-10, -10, 10, 10]])])[0]
    torch.testing.assert_close(inside, F.normalize(image[0, :, 10:30, 20:40].flatten(), dim=0))
    shown = corner.view(3, 20, 20)
    assert (shown[:, :9] == 0).all() and (shown[:, :, :9] == 0).all()
    torch.testing.assert_close(
        F.normalize(shown[:, 10:, 10:].flatten(), dim=0), F.normalize(image[0, :, :10, :10].flatten(), dim=0)
    )


@pytest.mark.parametrize("sizes", [[5], [9], [3, 3, 3], [1, 9, 1], [0, 4], []])
def test_blocks_hold_all_rows_in_order_and_never_more_than_asked(sizes):
    rows = torch.arange(sum(sizes))
    blocks = list(_blocks(rows.split(sizes) if sizes else [], 4))
    assert torch.equal(torch.cat([rows[:0], *blocks]), rows)
    assert [len(block) for block in blocks] == [4] * (len(rows) // 4) + [len(rows) % 4] * bool(len(rows) % 4)
