"""From RoI features to region embeddings, and from embeddings to class logits (arXiv:2104.13921, figure 3).

Every size is a number of the constructor; the 2-fc form with normalised fcs is the official one, the 1-fc form
DetPro's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes of one stack of shared layers.

    Attributes:
        in_channels: of the RoI features.
        roi_size: side of the RoI features.
        conv_channels: of each 3x3 convolution.
        num_convs: convolutions before the flattening.
        fc_channels: width of each fully connected layer.
        num_fcs: 2 in the official form, 1 in DetPro's.
    """

    in_channels: int = 256
    roi_size: int = 7
    conv_channels: int = 256
    num_convs: int = 4
    fc_channels: int = 1024
    num_fcs: int = 2


class RegionEncoder(nn.Module):
    """RoI features (N, C, S, S) to region vectors (N, F): convolutions, then fully connected layers."""

    def __init__(self, sizes: EncoderSizes, norm: Norm, fc_norm: Norm | None = None) -> None:
        super().__init__()
        self.sizes = sizes
        self.shared_convs = nn.ModuleList()
        self.shared_fcs = nn.ModuleList()
        channels = sizes.in_channels
        for _ in range(sizes.num_convs):
            conv = nn.Conv2d(channels, sizes.conv_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.shared_convs.append(_Block(conv=conv, norm=norm(sizes.conv_channels)))
            channels = sizes.conv_channels
        width = channels * sizes.roi_size**2
        for _ in range(sizes.num_fcs):
            fc = linear(width, sizes.fc_channels)
            self.shared_fcs.append(_Block(fc=fc, norm=fc_norm(sizes.fc_channels)) if fc_norm else _Block(fc=fc))
            width = sizes.fc_channels

    def encode(self, features: Tensor) -> Tensor:
        """(N, C, S, S) -> (N, F)."""
        for conv in self.shared_convs:
            features = conv(features)
        vectors = features.flatten(1)  # (N, C * S * S)
        for fc in self.shared_fcs:
            vectors = fc(vectors)
        return vectors


class BoxHead(RegionEncoder):
    """The text branch: class embedding and box of each region, and the learned background vector.

    The box is read off the region vector *before* the projection, the same box for all classes.
    """

    def __init__(
        self,
        sizes: EncoderSizes,
        embed_dim: int,
        norm: Norm,
        fc_norm: Norm | None = None,
        *,
        with_background: bool = True,
    ) -> None:
        super().__init__(sizes, norm, fc_norm)
        self.proj = linear(sizes.fc_channels, embed_dim)
        self.fc_reg = nn.Linear(sizes.fc_channels, 4)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        nn.init.zeros_(self.fc_reg.bias)
        self.bg_embedding = nn.Parameter(torch.randn(embed_dim) * 0.01) if with_background else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """RoI features (N, C, S, S) -> embeddings (N, D) of any length, box deltas (N, 4); both float32."""
        vectors = self.encode(features)
        return self.proj(vectors).float(), self.fc_reg(vectors).float()


class ImageHead(RegionEncoder):
    """The image branch of the ensemble: embeddings that only the teacher has taught."""

    def __init__(self, sizes: EncoderSizes, embed_dim: int, norm: Norm, fc_norm: Norm | None = None) -> None:
        super().__init__(sizes, norm, fc_norm)
        self.proj = linear(sizes.fc_channels, embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """RoI features (N, C, S, S) -> embeddings (N, D) of any length, float32."""
        return self.proj(self.encode(features)).float()


class Float32RPNHead(RPNHead):
    """mmdet's RPN, whose scores and deltas leave in float32.

    Under autocast mmdet would lay out its anchors in the type of the scores, and bfloat16 places a box at
    x = 1000 only to within 4 pixels.
    """

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels of (B, C, h, w) -> levels of (B, A, h, w) scores and of (B, 4 A, h, w) deltas."""
        scores, deltas = super().forward(pyramid)
        return [level.float() for level in scores], [level.float() for level in deltas]


class Float32RoIExtractor(SingleRoIExtractor):
    """mmdet's extractor in float32: it casts boxes to the type of the features, and halves misplace them by pixels."""

    def forward(self, pyramid: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Levels of (B, C, h, w) and (N, 5) -> (N, C, S, S)."""
        levels = tuple(level.float() for level in pyramid[: self.num_inputs])
        with torch.autocast(levels[0].device.type, enabled=False):
            return super().forward(levels, rois.float())


def cosine_logits(
    embeddings: Tensor, class_embeddings: Tensor, background: Tensor | None, temperature: float
) -> Tensor:
    """Cosines with each class, and with the background where there is one, over the temperature.

    In float32 even under autocast: a cosine that is divided by 0.01 has no digits to lose.

    Args:
        embeddings: (N, D), any length.
        class_embeddings: (K, D), unit length.
        background: (D,), any length, or None.
        temperature: 0.01 multiplies the cosines by 100.

    Returns:
        (N, K) or, with a background, (N, K + 1) with the background last.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        columns = class_embeddings.float()
        if background is not None:
            columns = torch.cat([columns, F.normalize(background.float(), dim=0)[None]])  # (K + 1, D)
        return F.normalize(embeddings.float(), dim=1) @ columns.T / temperature


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a fully connected layer with Xavier weights and zero bias."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Block(nn.Sequential):
    """A layer, its normalisation if any, ReLU; takes zero regions, and in training one."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__(OrderedDict(layers))

    def forward(self, rows: Tensor) -> Tensor:
        for layer in self:
            rows = _few_rows_batch_norm(rows, layer) if _is_batch_norm(layer) else layer(rows)
        return F.relu(rows)


def _is_batch_norm(layer: nn.Module) -> bool:
    """Batch statistics of this process alone; those over processes take any number of rows in each."""
    return isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)


def _few_rows_batch_norm(rows: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """Batch normalisation; where a batch has no spread to measure, the running statistics serve."""
    values_per_channel = rows.numel() // max(rows.shape[1], 1)
    if values_per_channel > 1:
        return norm(rows)
    return F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
