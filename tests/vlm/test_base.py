import numpy as np
import pytest
import torch
from PIL import Image

from ovdet.vlm.base import BackboneSpec, VLMBackbone, crop_boxes

SIDE = 8
SPEC = BackboneSpec("pixels", "contrastive", 3 * SIDE * SIDE, SIDE, (0, 0, 0), (1, 1, 1), "Apache-2.0")


class Pixels(VLMBackbone):
    """A picture's vector is the picture."""

    def __init__(self):
        super().__init__(SPEC)
        self.batch_sizes = []

    def image_features(self, images):
        assert images.shape[1:] == (3, SIDE, SIDE)
        self.batch_sizes.append(len(images))
        return images.flatten(1)

    def encode_image(self, images):
        return torch.nn.functional.normalize(self.image_features(images), dim=1)

    def encode_text(self, texts):
        raise NotImplementedError

    def forward_dense(self, images):
        raise NotImplementedError


def picture(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255


def pil_crop(array, box, resample=Image.Resampling.BOX):
    """A crop warped to SIDE x SIDE by PIL, as a flat vector of [0, 1] floats (exact where no rounding is needed)."""
    channels = []
    for channel in range(3):
        plane = Image.fromarray(array[..., channel].astype(np.float32), mode="F")
        channels.append(np.asarray(plane.crop(box).resize((SIDE, SIDE), resample)) / 255)
    return np.stack(channels).reshape(-1)


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("box", "scale", "expected"),
    [
        ((10, 20, 50, 60), 1.5, (0, 10, 60, 70)),
        ((10, 20, 50, 60), 1.0, (10, 20, 50, 60)),
        ((5, 5, 45, 25), 1.5, (0, 0, 55, 30)),
        ((60, 60, 95, 79), 1.5, (51.25, 55.25, 100, 80)),
        ((-30, -20, 150, 120), 1.5, (0, 0, 100, 80)),
        ((30, 30, 30, 50), 1.0, (30, 30, 31, 50)),
        ((30.2, 30, 30.6, 30.1), 1.0, (30.2, 30, 31.2, 31)),
        ((100, 80, 100, 80), 1.0, (99, 79, 100, 80)),
        ((130, -20, 150, -10), 1.0, (99, 0, 100, 1)),
    ],
)
def test_boxes_become_crops_inside_the_picture(box, scale, expected):
    cut = crop_boxes(torch.tensor([box], dtype=torch.float32), scale, (80, 100))
    torch.testing.assert_close(cut, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize("box", [(3, 5, 11, 13), (16, 8, 32, 24), (0, 0, 96, 64), (8, 16, 48, 40), (80, 40, 96, 64)])
def test_a_crop_is_what_pil_crops(box):
    """Whole multiples of the side: both average the same pixels."""
    image = picture()
    (vector,), _ = Pixels().region_embed_crop(
        as_tensor(image).repeat(2, 1, 1, 1), [torch.tensor([box]), torch.zeros(0, 4)], scales=(1.0,)
    )
    np.testing.assert_allclose(vector.numpy(), unit(pil_crop(image, box)), atol=2e-6)


def test_the_second_crop_is_half_as_long_again_and_features_are_summed():
    image = picture(96, 96)
    box, wide = (24, 32, 40, 48), (20, 28, 44, 52)
    regions = Pixels().region_embed_crop(as_tensor(image), [torch.tensor([box])])
    expected = unit(pil_crop(image, box) + pil_crop(image, wide))
    np.testing.assert_allclose(regions[0][0].numpy(), expected, atol=2e-6)
    of_unit_vectors = unit(unit(pil_crop(image, box)) + unit(pil_crop(image, wide)))
    assert np.abs(expected - of_unit_vectors).max() > 1e-4


def test_regions_keep_their_picture_and_order_whatever_the_block():
    images = torch.cat([as_tensor(picture(seed=seed)) for seed in range(3)])
    boxes = [torch.rand(count, 4).cumsum(dim=1) * 15 for count in (5, 0, 2)]
    backbone = Pixels()
    together = backbone.region_embed_crop(images, boxes, block=3)
    assert max(backbone.batch_sizes) <= 3
    assert [tuple(regions.shape) for regions in together] == [
        (5, SPEC.embed_dim),
        (0, SPEC.embed_dim),
        (2, SPEC.embed_dim),
    ]
    for image, some, regions in zip(images, boxes, together, strict=True):
        for box, region in zip(some, regions, strict=True):
            alone = backbone.region_embed_crop(image[None], [box[None]])[0][0]
            torch.testing.assert_close(region, alone)


def test_degenerate_boxes_give_the_pixel_they_lie_on():
    image = picture()
    boxes = torch.tensor([[10.0, 20, 10, 20], [96, 64, 96, 64], [-9, -9, -5, -5]])
    regions = Pixels().region_embed_crop(as_tensor(image), [boxes], scales=(1.0,))[0]
    for region, (row, column) in zip(regions, [(20, 10), (63, 95), (0, 0)], strict=True):
        centre = region.view(3, SIDE, SIDE)[:, SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1]
        expected = torch.from_numpy(image[row, column]).float()
        cosine = torch.nn.functional.cosine_similarity(centre.mean(dim=(1, 2)), expected, dim=0)
        assert torch.isfinite(region).all()
        assert cosine > 0.99


def test_a_box_list_of_another_length_is_refused():
    with pytest.raises(ValueError):
        Pixels().region_embed_crop(torch.rand(2, 3, 20, 20), [torch.zeros(0, 4)])
