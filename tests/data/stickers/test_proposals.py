import numpy as np
import pytest
import torch

from ovdet.data.batches import collate_texts
from ovdet.data.stickers.grounding import StickerExpressions
from ovdet.data.stickers.proposals import SceneProposals, scene_check
from ovdet.errors import InputError


@pytest.fixture
def boxes():
    return [np.array([[0, 0, 9, 9, 0.5], [3, 4, 20, 30, 0.9]]), np.zeros((0, 5)), np.array([[1, 1, 5, 5, 0.1]])]


def test_expressions_come_with_the_boxes_of_their_scenes(world, boxes, tmp_path):
    plain = StickerExpressions(world, 3)
    path = tmp_path / "some.npz"
    SceneProposals.write(path, boxes, [scene_check(plain.scenes.scene(index).image) for index in range(3)])
    data = StickerExpressions(world, 3, proposals=path)
    for index in range(3):
        sample = data[index]
        np.testing.assert_allclose(sample["candidates_xyxy"], boxes[index][:, :4])
        np.testing.assert_allclose(sample["candidate_scores"], boxes[index][:, 4], rtol=1e-6)
        assert torch.equal(sample["image"], plain[index]["image"]) and "candidates_xyxy" not in plain[index]
    batch = collate_texts([data[0], data[2]])
    assert [len(each) for each in batch["candidates_xyxy"]] == [2, 1] == [len(e) for e in batch["candidate_scores"]]


def test_mistakes(world, boxes, tmp_path):
    path = tmp_path / "some.npz"
    SceneProposals.write(path, boxes, [1, 2, 3])
    with pytest.raises(InputError, match="of other scenes: number 0"):
        StickerExpressions(world, 3, proposals=path)[0]
    with pytest.raises(InputError, match="boxes of 3 scenes, and 4"):
        StickerExpressions(world, 4, proposals=path)
    path.write_bytes(b"nothing")
    for wrong in (path, tmp_path / "missing.npz"):
        with pytest.raises(InputError, match=r"cannot read .*sticker_proposals\.py makes it"):
            StickerExpressions(world, 3, proposals=wrong)
