"""Image encoders: a square picture to tokens, and parts of it to tokens, without a second look at the pixels.

Token 0 stands for the whole (the picture, or the region), the others for patches in rows from the top left. All
encoders keep one contract, `ImageEncoder`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ovdet.errors import InputError
from ovdet.xvlm.config import CLIP_MEAN, CLIP_STD, ImageSizes, SwinSizes, ViTSizes
from ovdet.xvlm.text import SharedTokens


class EncodedImages(NamedTuple):
    """What an encoder makes of B pictures.

    Attributes:
        tokens: (B, 1 + T, W).
        middle: (B, 1 + T, W) before the blocks that run on regions apart; None for encoders without such.
    """

    tokens: Tensor
    middle: Tensor | None = None

    def rows(self, index: Tensor | slice) -> EncodedImages:
        """Some of the pictures, in that order."""
        return EncodedImages(self.tokens[index], None if self.middle is None else self.middle[index])


class ImageEncoder(nn.Module):
    """The contract.

    Args:
        image_size: side of the square input in pixels.
        width: of a token.
        strides: of each level of patch tokens, in pixels; levels follow each other.
        mean: of RGB in [0, 1], for callers that prepare pictures.
        std: likewise.
    """

    def __init__(
        self,
        image_size: int,
        width: int,
        strides: tuple[int, ...],
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
    ) -> None:
        super().__init__()
        self.image_size, self.width, self.strides = image_size, width, strides
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor

    @property
    def tokens(self) -> int:
        """1 + T."""
        return 1 + sum((self.image_size // stride) ** 2 for stride in self.strides)

    def normalise(self, images: Tensor) -> Tensor:
        """RGB in [0, 1] (..., 3, S, S) -> what `forward` takes."""
        return (images - self.mean) / self.std

    def region_masks(self, boxes_xywh: Tensor) -> Tensor:
        """Which tokens each of R boxes touches, (R, 1 + T) bool; see `region_masks`."""
        levels = [region_masks(boxes_xywh, self.image_size // stride, stride) for stride in self.strides]
        return torch.cat([levels[0][:, :1], *(level[:, 1:] for level in levels)], dim=1)

    def forward(self, images: Tensor) -> EncodedImages:
        """Encode (B, 3, S, S), normalised.

        Raises:
            InputError: the pictures are not of the encoder's own size.
        """
        raise NotImplementedError

    def regions(self, encoded: EncodedImages, image_index: Tensor, masks: Tensor) -> SharedTokens:
        """Tokens of regions.

        Args:
            encoded: of B pictures.
            image_index: (R,) which picture each region is in.
            masks: (R, 1 + T) bool, true where the region has a token; column 0 is true.

        Returns:
            R rows; what lies outside a region is still there and to be masked by whoever attends to it.
        """
        return SharedTokens(encoded.tokens, image_index, region_means(encoded.tokens, image_index, masks))

    def _check(self, images: Tensor) -> None:
        side = self.image_size
        if images.shape[1:] != (3, side, side):
            raise InputError(f"images must be (B, 3, {side}, {side}), got {tuple(images.shape)}; resize them first")


def region_masks(boxes_xywh: Tensor, grid: int, stride: int) -> Tensor:
    """Which patches boxes touch: all that they overlap by any share, at least one; column 0 is always true.

    Args:
        boxes_xywh: (R, 4) left, top, width, height in pixels of the square input, in double precision if borders on
            patch edges matter.
        grid: n patches a side.
        stride: pixels of a patch.

    Returns:
        (R, 1 + n * n) bool.
    """
    start = boxes_xywh[:, :2]
    first = (start / stride).floor().clamp(0, grid - 1)  # (R, 2) of x and y
    past = ((start + boxes_xywh[:, 2:]) / stride).ceil().clamp(max=grid).maximum(first + 1)
    cells = torch.arange(grid, device=boxes_xywh.device)
    inside = (cells >= first[..., None]) & (cells < past[..., None])  # (R, 2, n)
    patches = inside[:, 1, :, None] & inside[:, 0, None, :]  # (R, n, n), rows are y
    return torch.cat([patches.new_ones(len(patches), 1), patches.flatten(1)], dim=1)


def region_means(tokens: Tensor, image_index: Tensor, masks: Tensor) -> Tensor:
    """Mean of the patch tokens in each region: tokens (B, 1 + T, W), masks (R, 1 + T) -> (R, W)."""
    weights = masks[:, 1:].to(tokens.dtype)  # (R, T)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights[:, None] @ tokens[:, 1:].index_select(0, image_index))[:, 0]


class SwinImages(ImageEncoder):
    """Swin, timm's; token 0 is the mean of the patches.

    A stage whose cells fit one window is never shifted, which timm does by itself and mmdet does not.

    Args:
        sizes: of the Swin.
    """

    def __init__(self, sizes: SwinSizes) -> None:
        super().__init__(sizes.image_size, sizes.out_width, (sizes.stride,))
        self.trunk = SwinTransformer(
            img_size=sizes.image_size,
            patch_size=4,
            num_classes=0,
            global_pool="",
            embed_dim=sizes.width,
            depths=tuple(sizes.depths),
            num_heads=tuple(sizes.heads),
            window_size=sizes.window,
            mlp_ratio=4.0,
            drop_path_rate=sizes.drop_path,
            norm_layer=nn.LayerNorm,
        )

    def forward(self, images: Tensor) -> EncodedImages:
        """See `ImageEncoder`."""
        self._check(images)
        patches = self.trunk.forward_features(images).flatten(1, 2)  # (B, n, n, W) -> (B, T, W)
        return EncodedImages(torch.cat([patches.mean(1, keepdim=True), patches], dim=1))


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the sigmoid of 1.702 x."""
        return x * torch.sigmoid(1.702 * x)


class ViTImages(ImageEncoder):
    """A plain vision transformer, timm's, in DeiT's or in CLIP's form; token 0 is learned.

    The first blocks run once a picture, the last `region_depth` also on each region, whose tokens then attend to
    nothing outside it.

    Args:
        sizes: of the transformer.
    """

    def __init__(self, sizes: ViTSizes) -> None:
        super().__init__(sizes.image_size, sizes.width, (sizes.patch,))
        clip = sizes.kind == "clip"
        self.region_depth = sizes.region_depth
        self.trunk = VisionTransformer(
            img_size=sizes.image_size,
            patch_size=sizes.patch,
            num_classes=0,
            global_pool="",
            embed_dim=sizes.width,
            depth=sizes.depth,
            num_heads=sizes.heads,
            mlp_ratio=sizes.hidden / sizes.width,
            pre_norm=clip,
            drop_path_rate=sizes.drop_path,
            norm_layer=partial(nn.LayerNorm, eps=1e-5 if clip else 1e-6),
            act_layer=QuickGELU if sizes.activation == "quick_gelu" else nn.GELU,
        )

    def forward(self, images: Tensor) -> EncodedImages:
        """See `ImageEncoder`."""
        self._check(images)
        trunk = self.trunk
        patches = trunk.patch_embed(images)  # (B, T, W)
        whole = trunk.cls_token.expand(len(patches), -1, -1)
        x = trunk.norm_pre(torch.cat([whole, patches], dim=1) + trunk.pos_embed)
        split = len(trunk.blocks) - self.region_depth
        for block in trunk.blocks[:split]:
            x = block(x)
        middle = x
        for block in trunk.blocks[split:]:
            x = block(x)
        return EncodedImages(trunk.norm(x), middle)

    def regions(self, encoded: EncodedImages, image_index: Tensor, masks: Tensor) -> SharedTokens:
        """See `ImageEncoder`; every token is computed anew from those of its region."""
        assert encoded.middle is not None, "encoded by another encoder"
        x = encoded.middle[image_index]  # (R, 1 + T, W)
        count = x.shape[1]
        hidden = x.new_zeros(masks.shape).masked_fill(~masks.bool(), -1e4)  # added to attention logits
        hidden = hidden[:, None, None].expand(-1, 1, count, -1)  # (R, 1, 1 + T, 1 + T)
        for block in self.trunk.blocks[len(self.trunk.blocks) - self.region_depth :]:
            x = block(x, attn_mask=hidden)
        return SharedTokens(self.trunk.norm(x), torch.arange(len(x), device=x.device))


def make_image_encoder(sizes: ImageSizes) -> ImageEncoder:
    """The encoder of these sizes, with random weights."""
    return SwinImages(sizes) if isinstance(sizes, SwinSizes) else ViTImages(sizes)


def square_picture(image: np.ndarray, side: int) -> Tensor:
    """A picture as X-VLM takes it: squeezed to a square, bicubic; (H, W, 3) uint8 RGB -> (3, side, side) in [0, 1].

    Raises:
        InputError: it is no such array.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"a picture must be an (H, W, 3) uint8 RGB array, got {got}")
    if min(image.shape[:2]) < 1:
        raise InputError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels has nothing in it")
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
