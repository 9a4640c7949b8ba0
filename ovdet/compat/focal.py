"""Stand-ins for mmcv's focal losses (arXiv:1708.02002), in closed form.

Signatures are those that mmcv/ops/focal_loss.py calls. `weight` is per class and looked up by the target, or has
no elements. Logarithms are taken of the logits, so nothing is clipped where a probability underflows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovdet.compat.boxes import working_dtype


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit.

    Args:
        input: (N, K) logits.
        target: (N,) class of each row; any other number, mmcv uses K, is background.
        weight: (K,) or (0,); rows of background weigh 1.
        output: (N, K), written.
        gamma: How much easy examples are discounted.
        alpha: Weight of positives, against 1 - alpha of negatives.
    """
    logits = input.to(working_dtype(input))
    positive = _one_hot(target, logits.shape[1])
    agreeing = torch.where(positive, logits, -logits)  # p of what is true = sigmoid(agreeing)
    balance = torch.where(positive, alpha, 1 - alpha)
    loss = -balance * torch.sigmoid(-agreeing) ** gamma * F.logsigmoid(agreeing)
    output.copy_(loss * _row_weight(target, weight, logits)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each element of `sigmoid_focal_loss_forward` with respect to its logit."""
    logits = input.to(working_dtype(input))
    positive = _one_hot(target, logits.shape[1])
    agreeing = torch.where(positive, logits, -logits)
    right, wrong = torch.sigmoid(agreeing), torch.sigmoid(-agreeing)
    balance = torch.where(positive, alpha, alpha - 1)
    grad = balance * wrong**gamma * (gamma * right * F.logsigmoid(agreeing) - wrong)
    grad_input.copy_(grad * _row_weight(target, weight, logits)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each row.

    Args:
        softmax: (N, K) probabilities.
        target: (N,) class of each row; negative means that the row does not count.
        weight: (K,) or (0,).
        output: (N,), written.
        gamma: How much easy examples are discounted.
        alpha: A factor on everything.
    """
    probability = _probability_of(softmax, target)
    loss = -alpha * (1 - probability) ** gamma * _safe_log(probability)
    output.copy_(torch.where(target >= 0, loss * _row_weight(target, weight, loss), 0.0))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each row's loss with respect to its K logits; `buff` (N,) is scratch space."""
    probability = _probability_of(softmax, target)
    miss = (1 - probability).clamp(min=torch.finfo(probability.dtype).tiny)
    slope = alpha * (gamma * miss ** (gamma - 1) * probability * _safe_log(probability) - miss**gamma)
    slope = torch.where(target >= 0, slope * _row_weight(target, weight, slope), 0.0)
    buff.copy_(slope)
    chosen = _one_hot(target, softmax.shape[1]).to(slope.dtype)
    grad_input.copy_(slope[:, None] * (chosen - softmax.to(slope.dtype)))


def _one_hot(target: Tensor, classes: int) -> Tensor:
    return target[:, None] == torch.arange(classes, device=target.device)


def _row_weight(target: Tensor, weight: Tensor, like: Tensor) -> Tensor:
    """Weight of each row's class; 1 for background and where no weights are given."""
    ones = like.new_ones(len(target))
    if weight.numel() == 0:
        return ones
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight.to(like.dtype)[target.clamp(0, len(weight) - 1)], ones)


def _probability_of(softmax: Tensor, target: Tensor) -> Tensor:
    return softmax.to(working_dtype(softmax)).gather(1, target.clamp(min=0)[:, None])[:, 0]


def _safe_log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
