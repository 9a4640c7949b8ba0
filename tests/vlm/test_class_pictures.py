from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ovdet.errors import CapabilityError
from ovdet.vlm.class_pictures import class_rows
from ovdet.vlm.contrastive.imagenet_words import CLASSES, ImageNetWords


def backbone(share):
    return SimpleNamespace(spec=SimpleNamespace(name="some", picture_share=share, temperature=0.05))


def test_a_row_is_what_the_picture_says_about_names_and_a_share_of_itself():
    rng = torch.Generator().manual_seed(0)
    known, vectors = (normalize(torch.randn(n, 16, generator=rng), dim=1) for n in (5, 3))
    rows = class_rows(backbone(0.25), vectors, known)
    for vector, row in zip(vectors.numpy().astype(np.float64), rows.numpy(), strict=True):
        weights = np.exp(known.numpy() @ vector / 0.1)
        said = (weights[:, None] * known.numpy()).sum(0)
        wanted = 0.25 * vector + 0.75 * said / np.linalg.norm(said)
        np.testing.assert_allclose(row, wanted / np.linalg.norm(wanted), atol=1e-5)
    assert (class_rows(backbone(0.25), vectors) == vectors).all()  # no names to speak of


def test_a_space_that_keeps_pictures_apart_wants_names():
    with pytest.raises(CapabilityError, match="keeps pictures and names too far apart"):
        class_rows(backbone(0.0), torch.eye(3), torch.zeros(0, 3))
    known = torch.eye(3)
    assert class_rows(backbone(0.0), torch.eye(3), known).argmax(dim=1).tolist() == [0, 1, 2]


def test_imagenet_words_matches_pictures_as_it_matches_names():
    probabilities = torch.zeros(3, CLASSES + 1)
    probabilities[0, 7], probabilities[1, [7, 8]] = 1, torch.tensor([0.5, 0.5])
    probabilities[2, :CLASSES] = 1 / CLASSES  # says nothing
    vectors = normalize(probabilities, dim=1)
    rows = class_rows(SimpleNamespace(rows_of_pictures=lambda v: ImageNetWords.rows_of_pictures(None, v)), vectors)
    scores = ImageNetWords.match(None, vectors, rows)
    assert scores[0, 0] > 0.99 and scores[1, 1] > 0.99 and scores[0, 1] > 0.99  # as "cat or dog" is right about a cat
    assert 0.45 < scores[1, 0] < 0.55
    assert (scores[2] < 0.01).all() and (scores[:, 2] < 0.01).all()
