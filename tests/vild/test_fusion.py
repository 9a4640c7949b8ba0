import pytest
import torch

from ovdet.vild.fusion import fuse, image_log_probabilities, text_exponents, text_log_probabilities


def logs(*values: float) -> torch.Tensor:
    return torch.tensor([values]).log()


def test_published_exponents_by_hand():  # acceptance 3
    share = text_exponents(torch.tensor([True, False]), 2, 2 / 3, 1 / 3, 0.6)
    fused = fuse(logs(0.8, 0.8), logs(0.2, 0.2), share)[0]
    assert fused[0].item() == pytest.approx(0.50397, abs=1e-5)
    assert fused[1].item() == pytest.approx(0.31748, abs=1e-5)


def test_one_exponent_where_nobody_says_which_classes_are_base():
    share = text_exponents(None, 3, 2 / 3, 1 / 3, 0.6)
    fused = fuse(logs(0.8, 0.5, 0.1), logs(0.2, 0.4, 0.3), share)[0]
    torch.testing.assert_close(fused, torch.tensor([0.8**0.6 * 0.2**0.4, 0.5**0.6 * 0.4**0.4, 0.1**0.6 * 0.3**0.4]))


def test_exponent_one_is_text_only():  # acceptance 3
    text, image = text_log_probabilities(torch.randn(5, 8)), image_log_probabilities(torch.randn(5, 7))
    assert torch.equal(fuse(text, image, torch.ones(7)), text.exp())
    assert torch.equal(fuse(text, image, torch.zeros(7)), image.exp())


def test_agreeing_heads_keep_their_argmax():  # acceptance 3
    logits = torch.randn(50, 7) * 5
    text, image = text_log_probabilities(torch.cat([logits, torch.zeros(50, 1)], 1)), image_log_probabilities(logits)
    fused = fuse(text, image, torch.full((7,), 2 / 3))
    assert torch.equal(fused.argmax(1), logits.argmax(1))


def test_fused_scores_are_not_renormalised():  # acceptance 3
    text, image = text_log_probabilities(torch.randn(50, 8)), image_log_probabilities(torch.randn(50, 7))
    for share in (2 / 3, 1 / 3):
        assert (fuse(text, image, torch.full((7,), share)).sum(1) < 1).all()


def test_pitfall_4_the_background_has_no_column_in_the_image_softmax():  # acceptance 3
    logits = torch.randn(9, 8)
    text = text_log_probabilities(logits).exp()
    torch.testing.assert_close(text.sum(1), 1 - logits.softmax(1)[:, -1])
    torch.testing.assert_close(image_log_probabilities(logits[:, :-1]).exp().sum(1), torch.ones(9))


def test_no_classes_no_scores():
    assert text_log_probabilities(torch.randn(3, 1)).shape == (3, 0)
    assert image_log_probabilities(torch.randn(3, 0)).shape == (3, 0)
