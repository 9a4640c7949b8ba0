"""Sizes of an X-VLM and of its parts (arXiv:2111.08276, section 4.1, and the published configurations)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from ovdet.errors import InputError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Of RGB in [0, 1]; used with every image encoder, Swin included."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Task = Literal["pretrain", "retrieval", "box", "vqa", "nlvr", "nlvr-pretrain", "caption"]
TASKS: tuple[str, ...] = get_args(Task)

Sizes = TypeVar("Sizes", bound="SwinSizes | ViTSizes | TextSizes")


@dataclass(frozen=True)
class SwinSizes:
    """A Swin image encoder.

    Attributes:
        image_size: side of the square input in pixels.
        window: side of an attention window in cells.
        width: of the first stage; each later stage doubles it.
        depths: blocks of each stage.
        heads: of each stage.
        drop_path: of the last block, linear from 0 at the first; kept in fine-tuning.
    """

    image_size: int = 384
    window: int = 12
    width: int = 128
    depths: Sequence[int] = (2, 2, 18, 2)
    heads: Sequence[int] = (4, 8, 16, 32)
    drop_path: float = 0.1
    kind: Literal["swin"] = "swin"

    def __post_init__(self) -> None:
        _positive(self, "image_size", "window", "width")
        if len(self.depths) != len(self.heads) or not self.depths:
            raise InputError(f"a Swin needs as many depths as heads, got {list(self.depths)} and {list(self.heads)}")
        if self.image_size % self.stride:
            raise InputError(f"image_size must be a multiple of {self.stride}, got {self.image_size}")
        for stage, heads in enumerate(self.heads):
            if (self.width << stage) % heads:
                raise InputError(f"stage {stage} of the Swin is {self.width << stage} wide, no multiple of {heads}")
            grid = self.image_size // (4 << stage)
            if grid % min(self.window, grid):
                raise InputError(f"a window of {self.window} does not divide the {grid} cells of stage {stage}")

    @property
    def stride(self) -> int:
        """Pixels of the input to one token."""
        return 4 << (len(self.depths) - 1)

    @property
    def out_width(self) -> int:
        """Of a token."""
        return self.width << (len(self.depths) - 1)


@dataclass(frozen=True)
class ViTSizes:
    """A plain vision transformer, of DeiT's form or of CLIP's.

    Attributes:
        kind: "vit" as DeiT has it, "clip" with a normalisation before the blocks and an activation of its own.
        image_size: side of the square input in pixels.
        patch: side of a patch in pixels.
        width: of a token.
        depth: blocks.
        heads: of each block.
        hidden: of the feed-forward parts.
        region_depth: last blocks, which run on each region apart.
        activation: of the feed-forward parts.
        drop_path: of the last block, linear from 0 at the first.
    """

    kind: Literal["vit", "clip"] = "vit"
    image_size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    region_depth: int = 4
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "image_size", "patch", "width", "depth", "heads", "hidden")
        if self.kind not in ("vit", "clip"):
            raise InputError(f"kind must be vit or clip, got {self.kind!r}")
        if self.activation not in ("gelu", "quick_gelu"):
            raise InputError(f"activation must be gelu or quick_gelu, got {self.activation!r}")
        if self.image_size % self.patch:
            raise InputError(f"image_size must be a multiple of the patch of {self.patch}, got {self.image_size}")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is no multiple of {self.heads} heads")
        if not 0 <= self.region_depth <= self.depth:
            raise InputError(f"region_depth must lie in 0..{self.depth}, got {self.region_depth}")

    @property
    def stride(self) -> int:
        """Pixels of the input to one token."""
        return self.patch

    @property
    def out_width(self) -> int:
        """Of a token."""
        return self.width


@dataclass(frozen=True)
class TextSizes:
    """BERT cut in two: text layers, and cross-modal layers that also look at the picture.

    Attributes:
        vocabulary: word pieces.
        width: of a token.
        heads: of each layer.
        hidden: of the feed-forward parts.
        positions: longest sentence in tokens.
        types: rows of BERT's table of sentence types; row 0 alone is used.
        text_layers: that see the sentence alone.
        fusion_layers: that see sentence and picture.
        dropout: after the embedding and after each part of a layer.
        attention_dropout: of attention probabilities.
        eps: of the normalisations.
    """

    vocabulary: int = 30522
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    types: int = 2
    text_layers: int = 6
    fusion_layers: int = 6
    dropout: float = 0.1
    attention_dropout: float = 0.1
    eps: float = 1e-12

    def __post_init__(self) -> None:
        _positive(self, "vocabulary", "width", "heads", "hidden", "positions", "types", "text_layers", "fusion_layers")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is no multiple of {self.heads} heads")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


ImageSizes = SwinSizes | ViTSizes


def plain(sizes: ImageSizes | TextSizes) -> dict[str, Any]:
    """Sizes as values that JSON and a checkpoint can hold."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(sizes).items()}


def image_sizes(said: ImageSizes | Mapping[str, Any]) -> ImageSizes:
    """Sizes of an image encoder, from themselves or from `plain` values.

    Raises:
        InputError: they are not such values.
    """
    if isinstance(said, SwinSizes | ViTSizes):
        return said
    return _from_plain(SwinSizes if said.get("kind", "swin") == "swin" else ViTSizes, said)


def text_sizes(said: TextSizes | Mapping[str, Any]) -> TextSizes:
    """Sizes of the text part, from themselves or from `plain` values.

    Raises:
        InputError: they are not such values.
    """
    return said if isinstance(said, TextSizes) else _from_plain(TextSizes, said)


def _from_plain(kind: type[Sizes], said: Mapping[str, Any]) -> Sizes:
    known = {field.name for field in fields(kind)}
    unknown = [name for name in said if name not in known]
    if unknown:
        raise InputError(f"{kind.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in said.items()})
    except TypeError as error:
        raise InputError(f"{kind.__name__} cannot be made of these values: {error}") from error


def _positive(sizes: ImageSizes | TextSizes, *names: str) -> None:
    for name in names:
        value = getattr(sizes, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number above 0, got {value!r}")
