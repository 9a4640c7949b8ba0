import pytest
import torch
from torch.nn.functional import normalize

from ovdet.errors import CapabilityError
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.dense import dense_pyramid, region_embed_roi, resize_dense, score_maps

SPEC = BackboneSpec("means", "contrastive", 3, 8, (0, 0, 0), (1, 1, 1), "Apache-2.0", stride=8)


class Means(VLMBackbone):
    """A location's vector is the mean colour of its square of 8 pixels."""

    def __init__(self, spec=SPEC):
        super().__init__(spec)

    def forward_dense(self, images):
        return normalize(torch.nn.functional.avg_pool2d(images, 8), dim=1)

    def encode_image(self, images):
        raise NotImplementedError

    def encode_text(self, texts):
        raise NotImplementedError


@pytest.fixture
def dense():
    return normalize(torch.randn(2, 5, 6, 9, generator=torch.Generator().manual_seed(0)), dim=1)


def test_a_region_on_the_grid_is_the_mean_of_its_locations(dense):
    cells = [torch.tensor([[0, 0, 9, 6], [2, 1, 5, 3], [8, 5, 9, 6]]), torch.tensor([[3, 0, 4, 6]])]
    regions = region_embed_roi(dense, [boxes * 16.0 for boxes in cells], stride=16)
    for index, boxes in enumerate(cells):
        for (x1, y1, x2, y2), region in zip(boxes.tolist(), regions[index], strict=True):
            expected = normalize(dense[index, :, y1:y2, x1:x2].mean(dim=(1, 2)), dim=0)
            torch.testing.assert_close(region, expected, atol=1e-6, rtol=0)


def test_strides_may_differ_by_direction(dense):
    region = region_embed_roi(dense[:1], [torch.tensor([[20.0, 8, 50, 24]])], stride=(8, 10))[0][0]
    torch.testing.assert_close(region, normalize(dense[0, :, 1:3, 2:5].mean(dim=(1, 2)), dim=0), atol=1e-6, rtol=0)


def test_pictures_without_boxes_and_boxes_without_area(dense):
    boxes = torch.tensor([[24.0, 40, 24, 40], [500, 600, 510, 640], [-50, -60, -40, -30]])
    none, regions = region_embed_roi(dense, [torch.zeros(0, 4), boxes], stride=16)
    assert none.shape == (0, 5)
    expected = torch.stack([dense[1, :, 2, 1], dense[1, :, 5, 8], dense[1, :, 0, 0]])
    torch.testing.assert_close(regions, expected, atol=2e-3, rtol=0)


def test_scores_are_dot_products(dense):
    names = normalize(torch.randn(4, 5), dim=1)
    scores = score_maps(dense, names)
    assert scores.shape == (2, 4, 6, 9)
    torch.testing.assert_close(scores[1, 2, 3, 4], dense[1, :, 3, 4] @ names[2])
    torch.testing.assert_close(score_maps(dense, names.flip(0)), scores.flip(1))


def test_resized_maps_keep_unit_length_and_constants(dense):
    larger = resize_dense(dense, (12, 18))
    torch.testing.assert_close(larger.norm(dim=1), torch.ones(2, 12, 18))
    constant = dense[:, :, :1, :1].expand(-1, -1, 6, 9)
    torch.testing.assert_close(resize_dense(constant, (3, 20)), dense[:, :, :1, :1].expand(-1, -1, 3, 20))
    torch.testing.assert_close(resize_dense(dense, (6, 9)), dense)


def test_a_region_is_the_same_at_every_level_of_the_pyramid():
    """Flat colours: what lies in the box is red on blue, at any scale."""
    images = torch.zeros(1, 3, 64, 96)
    images[:, 2] = 1
    images[:, :, 16:48, 32:80] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    box = torch.tensor([[32.0, 16, 80, 48]])
    levels = dense_pyramid(Means(), images, scales=(0.5, 1.0, 2.0, 1.37))
    assert [tuple(dense.shape[-2:]) for dense, _ in levels] == [(4, 6), (8, 12), (16, 24), (11, 16)]
    for dense, stride_hw in levels[:3]:
        region = region_embed_roi(dense, [box], stride_hw)[0][0]
        torch.testing.assert_close(region, torch.tensor([1.0, 0, 0]), atol=0.05, rtol=0)
    assert levels[3][1] == (8 * 64 / 88, 8 * 96 / 132)


def test_no_pyramid_without_a_dense_map():
    spec = BackboneSpec("blind", "contrastive", 3, 8, (0, 0, 0), (1, 1, 1), "Apache-2.0")
    with pytest.raises(CapabilityError, match="blind"):
        dense_pyramid(Means(spec), torch.rand(1, 3, 16, 16))
