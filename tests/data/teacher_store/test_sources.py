import hashlib

import numpy as np
import pytest

from ovdet.data.proposals import ProposalSource
from ovdet.data.teacher_store.sources import BoxesOfAnnotations, BoxesOfFile
from ovdet.errors import InputError


def test_boxes_of_a_file(tmp_path, contents):
    path = tmp_path / "p.npz"
    ProposalSource(contents).save(path)
    source = BoxesOfFile(path, limit=4)
    found = source({"img_id": 70})
    np.testing.assert_array_equal(found.boxes_xyxy, contents[70].boxes_xyxy[:4])
    np.testing.assert_array_equal(found.scores, contents[70].scores[:4])
    assert found.embeddings is None, "the rows of another teacher stay behind"
    assert len(source({"img_id": 12345}).scores) == 0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.facts == {"kind": "file", "file": "p.npz", "sha256": digest, "limit": 4}
    with pytest.raises(InputError, match="cannot read the proposal file"):
        BoxesOfFile(tmp_path / "none.npz")


def test_boxes_of_annotations():
    """Crowds are left out."""
    instances = [
        {"bbox": [1, 2, 30, 40], "ignore_flag": 0},
        {"bbox": [0, 0, 50, 50], "ignore_flag": 1},
        {"bbox": [5, 2, 7.5, 9], "ignore_flag": 0},
    ]
    source = BoxesOfAnnotations("annotated")
    found = source({"instances": instances, "width": 60, "height": 50})
    np.testing.assert_array_equal(found.boxes_xyxy, np.asarray([[1, 2, 30, 40], [5, 2, 7.5, 9]], np.float32))
    assert found.scores.tolist() == [1, 1]
    assert source({"instances": [], "width": 60, "height": 50}).boxes_xyxy.shape == (0, 4)
    assert source.facts == {"kind": "annotations", "split": "annotated"}
