import numpy as np
import pytest

from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.errors import InputError


def some(count, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return Proposals(rng.uniform(0, 600, (count, 4)).astype(np.float32), rng.random(count).astype(np.float32), vectors)


def test_round_trip(tmp_path):
    source = ProposalSource({7: some(3), 9: some(0), 11: some(5, 1)}, teacher="clip")
    source.save(tmp_path / "p.npz")
    back = ProposalSource.load(tmp_path / "p.npz")
    assert (back.teacher, back.embed_dim, len(back)) == ("clip", 8, 3)
    for key in (7, 9, 11):
        np.testing.assert_array_equal(back[key].boxes_xyxy, source[key].boxes_xyxy)
        np.testing.assert_array_equal(back[key].scores, source[key].scores)
        assert (back[key].embeddings * source[key].embeddings).sum(axis=1) == pytest.approx(
            np.ones(len(source[key].scores)), abs=1e-3
        )
    assert back[12345].boxes_xyxy.shape == (0, 4)
    assert list(tmp_path.iterdir()) == [tmp_path / "p.npz"]


def test_boxes_alone(tmp_path):
    boxes = Proposals(np.zeros((2, 4), np.float32), np.ones(2, np.float32))
    ProposalSource({1: boxes}).save(tmp_path / "p.npz")
    back = ProposalSource.load(tmp_path / "p.npz")
    assert back[1].embeddings is None and back.embed_dim is None


def test_rows_must_match():
    with pytest.raises(ValueError, match="2 boxes, but 3 rows of embeddings"):
        Proposals(np.zeros((2, 4)), np.zeros(2), np.zeros((3, 8)))
    with pytest.raises(ValueError, match="one width"):
        ProposalSource({1: some(1, dim=4), 2: some(1, dim=5)})


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        ProposalSource.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    ProposalSource({1: some(300)}).save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "evil.npz", image_ids=np.asarray([print], dtype=object))
    for name in ("text", "cut", "other", "evil"):
        with pytest.raises(InputError, match="damaged or of another kind"):
            ProposalSource.load(tmp_path / f"{name}.npz")
    arrays = dict(np.load(tmp_path / "whole.npz"))
    np.savez(tmp_path / "short.npz", **{**arrays, "embeddings": arrays["embeddings"][:-1]})
    with pytest.raises(InputError, match="inconsistent"):
        ProposalSource.load(tmp_path / "short.npz")
