import torch
from torch.nn import functional as F

from ovdet.vild.teacher import CropTeacher


def test_embeddings_are_those_of_the_unpadded_picture(tower):
    picture = torch.rand(3, 40, 60)
    padded = torch.zeros(1, 3, 64, 64)
    padded[0, :, :40, :60] = picture
    boxes = torch.tensor([[5.0, 5.0, 55.0, 38.0], [0.0, 0.0, 10.0, 10.0]])
    expected = tower.region_embed_crop(picture[None], [boxes])[0]
    got = CropTeacher(tower).embed(padded, [(40, 60)], [boxes])[0]
    assert torch.equal(got, expected)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2))


def test_each_picture_keeps_its_own_boxes(tower):
    images = torch.rand(2, 3, 32, 32)
    boxes = [torch.tensor([[1.0, 2, 20, 30]]), torch.zeros(0, 4)]
    first, second = CropTeacher(tower).embed(images, [(32, 32)] * 2, boxes)
    assert first.shape == (1, 32)
    assert second.shape == (0, 32)


def test_the_teacher_works_in_float32_under_autocast_and_never_learns(tower):
    images, boxes = torch.rand(1, 3, 32, 32), [torch.tensor([[1.0, 2, 20, 30]])]
    teacher = CropTeacher(tower)
    expected = teacher.embed(images, [(32, 32)], boxes)[0]
    with torch.autocast("cpu", torch.bfloat16):
        got = teacher.embed(images, [(32, 32)], boxes)[0]
    assert torch.equal(got, expected)
    assert not got.requires_grad
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_both_crops_take_part(tower):
    """The vector is that of the tight crop plus that of the 1.5 times wider one, brought to unit length."""
    image, box = torch.rand(1, 3, 64, 64), torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    tight, wide = (tower.region_embed_crop(image, [box], scales=(scale,))[0] for scale in (1.0, 1.5))
    got = CropTeacher(tower).embed(image, [(64, 64)], [box])[0]
    torch.testing.assert_close(got, F.normalize(tight + wide, dim=1))
