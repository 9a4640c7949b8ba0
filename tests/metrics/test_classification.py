"""Top-k accuracy."""

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from ovdet.errors import InputError
from ovdet.metrics.classification import top_k_accuracy


def test_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(200, 12, generator=generator), torch.randint(12, (200,), generator=generator)
    shares = top_k_accuracy(scores, labels, (1, 3, 5))
    for k in (1, 3, 5):
        assert shares[f"top{k}"] == pytest.approx(top_k_accuracy_score(labels, scores, k=k, labels=range(12)))


def test_a_constant_answer_earns_nothing():
    assert top_k_accuracy(torch.zeros(4, 10), torch.arange(4)) == {"top1": 0.0, "top5": 0.0}


@pytest.mark.parametrize(("scores", "labels"), [((0, 3), (0,)), ((3, 3), (2,)), ((3,), (3,))])
def test_what_does_not_fit_is_refused(scores, labels):
    with pytest.raises(InputError, match="scores"):
        top_k_accuracy(torch.zeros(scores), torch.zeros(labels))
