"""Two stages of retrieval against brute force."""

import numpy as np
import pytest
from PIL import Image

from ovdet.errors import CapabilityError, InputError
from ovdet.grounder import Grounder
from ovdet.metrics.retrieval import rerank
from ovdet.retrieval import Retriever, best_of_rows


@pytest.fixture
def pictures(tmp_path, paint):
    """Eight pictures with more or less of two colours."""
    paths = []
    for number in range(8):
        blobs = ("red", (0, 0, 5 * number, 20)), ("blue", (0, 20, 40 - 4 * number, 40)), ("green", (36, 36, 40, 40))
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(paint((40, 40), *blobs)).save(paths[-1])
    return paths


SENTENCES = ["red", "blue", "green", "yellow"]


@pytest.mark.parametrize("keep", [0, 1, 3, 100])
def test_rankings_are_those_of_brute_force(blob_grounder, pictures, keep):
    grounder = Grounder(blob_grounder)
    retriever = Retriever(grounder)
    gallery = retriever.gallery(pictures)
    similarity = blob_grounder.sentence_vectors(blob_grounder.read(SENTENCES)).numpy() @ gallery.vectors.T
    chances = np.array([grounder.match(path, SENTENCES) for path in pictures]).T  # (K, N)
    for ours, near, sure, by in (
        (retriever.rank_pictures(gallery, SENTENCES, rerank=keep), similarity, chances, "sentence"),
        (retriever.rank_sentences(gallery, SENTENCES, rerank=keep), similarity.T, chances.T, "picture"),
    ):
        assert len(ours) == len(near), by
        scores = rerank(near, keep, lambda row, some, sure=sure: sure[row, some]) if keep else near
        for row, hits in enumerate(ours):
            assert sorted(hit.place for hit in hits) == list(range(near.shape[1]))
            told = np.array([scores[row, hit.place] for hit in hits])
            assert (np.diff(told) <= 0).all()
            for hit in hits:
                assert hit.similarity == pytest.approx(near[row, hit.place], abs=1e-6)
                if scores[row, hit.place] == -100 or not keep:
                    assert hit.chance is None
                else:
                    assert hit.chance == pytest.approx(sure[row, hit.place], abs=1e-6)


def test_each_picture_is_looked_at_once_in_the_second_stage(blob_grounder, pictures):
    retriever = Retriever(Grounder(blob_grounder))
    gallery = retriever.gallery(pictures)
    blob_grounder.encoded = 0
    retriever.rank_pictures(gallery, SENTENCES, rerank=8)
    assert blob_grounder.encoded == 8


def test_the_best_of_each_row_and_of_equals_the_first():
    chosen = best_of_rows(np.array([[0.1, 0.3, 0.3, 0.2], [1, 1, 1, 1]]), 2)
    assert chosen.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert not best_of_rows(np.ones((2, 3)), 0).any() and best_of_rows(np.ones((2, 0)), 5).shape == (2, 0)


def test_bad_pictures_are_told_or_raised(blob_grounder, pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    retriever, told = Retriever(Grounder(blob_grounder), tmp_path / "x.index"), []
    files = [pictures[0], tmp_path / "bad.png", tmp_path / "gone.png", pictures[1]]
    gallery = retriever.gallery(files, on_problem=told.append)
    assert gallery.paths == (pictures[0], pictures[1]) and gallery.vectors.shape == (2, 4)
    assert ["bad.png" in str(told[0]), "gone.png" in str(told[1])] == [True, True]
    with pytest.raises(InputError, match=r"bad\.png"):
        retriever.gallery(files)
    empty = retriever.gallery([])
    assert retriever.rank_pictures(empty, SENTENCES) == [[]] * 4 and retriever.rank_sentences(empty, SENTENCES) == []


def test_a_model_without_a_joint_space_is_refused(blob_grounder):
    blob_grounder.lacks = "space"
    with pytest.raises(CapabilityError, match="no space"):
        Retriever(Grounder(blob_grounder))
