import numpy as np
import torch

from ovdet.data.colouring import ViewConfig
from ovdet.data.painted import PaintedPictures, painted_pictures
from ovdet.data.sampling import Draw
from ovdet.data.segments import IGNORED, SegmentedPicture


class Halves:
    """Class 0 on the left, class 2 on the right, an ignored line above; the picture is 50 times its class."""

    def __len__(self):
        return 3

    def keys_of(self, index):
        return (0, 2)

    def __getitem__(self, index):
        owner = np.zeros((30, 40), np.int32)
        owner[:, 20:] = 2
        image = np.repeat(50 * owner[..., None], 3, axis=2).astype(np.uint8)
        owner[:3] = IGNORED
        return SegmentedPicture(image, owner, np.arange(3))


PALETTE = np.asarray([[255, 255, 255], [10, 20, 30], [0, 90, 200]], np.uint8)


def test_each_class_has_its_colour_in_every_picture():
    pictures = PaintedPictures(Halves(), PALETTE, ViewConfig(size=32, jitter_share=0.0), seed=1)
    assert len(pictures) == 3
    for index in range(3):
        sample = pictures[index]
        left = sample["image"][0] == 0
        judged = sample["valid"]
        assert (sample["painting"][:, left & judged] == 255).all()
        right = sample["image"][0] == 100
        assert (sample["painting"][:, right & judged].T == torch.tensor([0, 90, 200])).all()
        assert not sample["painting"][:, ~judged].any()
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8
    assert torch.equal(pictures[Draw(0, 7)]["image"], pictures[Draw(0, 7)]["image"])
    assert not torch.equal(pictures[Draw(0, 7)]["painting"], pictures[Draw(0, 8)]["painting"])


def test_a_config_says_it_all():
    pictures = painted_pictures(
        dict(type=Halves), lambda count: PALETTE[:count], 3, dict(size=16, scale=[0.5, 1.0]), seed=4
    )
    assert pictures.view.scale == (0.5, 1.0) and pictures.seed == 4 and len(pictures.palette) == 3
    assert pictures[0]["painting"].shape == (3, 16, 16)
