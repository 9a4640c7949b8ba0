import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from ovdet.errors import InputError
from ovdet.vild.build import vild_stickers, vild_stickers_crops
from ovdet.vild.masks import paste_masks
from ovdet.vild.sticker_build import vild_stickers_masks
from ovdet.vild.sticker_masks import COPIES, LEARNS, FineMaskHead, about_things
from ovdet.vild.sticker_parts import Pyramid, Regions
from ovdet.vild.weights import CheckpointFacts, load_model, save_compact

SIDE = 64


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    model = vild_stickers("text").eval()
    path = tmp_path_factory.mktemp("start") / "detector.safetensors"
    save_compact(model, CheckpointFacts(**model.recipe), path, {})
    return load_model(path)[0], str(path)


def sample_of(mask):
    """A grey picture of one white thing, and what is to be known of it."""
    ys, xs = np.nonzero(mask)
    box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=torch.float32)
    sample = DetDataSample(metainfo=dict(img_shape=mask.shape, ori_shape=mask.shape, scale_factor=(1.0, 1.0)))
    masks = BitmapMasks(mask[None].astype(np.uint8), *mask.shape)
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long), masks=masks)
    return torch.from_numpy(mask).float().expand(1, 3, -1, -1) * 2 - 1, sample


def cross():
    """Two lines of four pixels, half a cell of stride 8."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[30:34, 8:56] = mask[8:56, 30:34] = True
    return mask


def test_boxes_lie_about_their_things():
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 50, 100], [0, 0, 30, 30]])
    found = about_things(boxes)
    assert len(found.pos_priors) == COPIES * len(boxes)
    shifts = (found.pos_priors - boxes[found.pos_assigned_gt_inds]).abs()
    assert 0 < shifts.max() < 0.25 * 80
    assert not len(about_things(torch.zeros(0, 4)).pos_priors)


def test_masks_alone_learn_and_find_thin_things(detector):
    model, start = detector
    torch.manual_seed(0)
    training = vild_stickers_masks(start, "text").train()
    training.init_weights()
    picture, sample = sample_of(cross())
    before = {name: value.clone() for name, value in training.state_dict().items()}
    optimizer = torch.optim.Adam([each for each in training.parameters() if each.requires_grad], lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        training.loss(picture, [sample])["loss_mask"].backward()
        optimizer.step()
    for name, value in training.state_dict().items():
        assert name.startswith(LEARNS) or torch.equal(value, before[name]), name
        if name in model.state_dict() and not name.startswith(LEARNS):
            assert torch.equal(value, model.state_dict()[name]), name
    with torch.no_grad():
        results = [InstanceData(bboxes=sample.gt_instances.bboxes)]
        training.roi_head.add_masks(training.extract_feat(picture), results)
    found = paste_masks(results[0].mask_probabilities, results[0].bboxes, (SIDE, SIDE))[0].numpy()
    wanted = cross()
    assert (found & wanted).sum() / (found | wanted).sum() > 0.6


def test_a_trained_one_goes_on_as_any_detector(detector, tmp_path):
    training = vild_stickers_masks(detector[1], "text")
    training.init_weights()
    save_compact(training, CheckpointFacts(**training.recipe), tmp_path / "new.safetensors", {})
    model, facts = load_model(tmp_path / "new.safetensors")
    assert facts.builder == "vild_stickers" and isinstance(model.roi_head.mask_head, FineMaskHead)
    named = vild_stickers_crops("text", fine_masks=True)
    named.load_state_dict(model.state_dict(), strict=True)
    again = vild_stickers_masks(str(tmp_path / "new.safetensors"), "text")  # from masks that are fine already
    again.init_weights()


def test_a_start_of_another_detector_is_refused(detector):
    with pytest.raises(InputError, match=r"does not fit: roi_head\.image_head"):
        vild_stickers_masks(detector[1], "ensemble").init_weights()


def test_no_regions_give_no_masks():
    head = FineMaskHead(8, 4, 4)
    maps = Pyramid(*(torch.zeros(1, 8, 8, 8) for _ in range(4)), torch.zeros(1, 4, 16, 16))
    assert head(Regions(maps, torch.zeros(0, 5))).shape == (0, 1, 28, 28)
