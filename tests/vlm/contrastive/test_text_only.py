import pytest
import torch

from ovdet.errors import CapabilityError, InputError
from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.zoo import create_vlm, list_models


def test_it_is_the_sentence_tower_and_nothing_else():
    backbone, texts = create_vlm("sentence-tower"), ["a red circle", "a green circle", "a dog"]
    vectors = backbone.encode_text(texts)
    torch.testing.assert_close(vectors, SentenceTower.load().encode(texts))
    assert vectors.shape == (3, backbone.spec.embed_dim)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert backbone.fingerprint
    for refused in (backbone.encode_image, backbone.forward_dense):
        with pytest.raises(CapabilityError, match="texts only"):
            refused(torch.zeros(1, 3, 8, 8))


def test_it_is_no_detector_to_choose_and_has_no_random_weights():
    assert "sentence-tower" not in list_models()
    with pytest.raises(InputError, match="weights"):
        create_vlm("sentence-tower", weights=None)
