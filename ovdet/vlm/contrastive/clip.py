"""CLIP, SigLIP and their kin: any model of open_clip behind the zoo's contract. The one door to open_clip.

Read `OpenClipBackbone`, then `open_clip_backbone`, which builds it; clip_maps.py has the dense maps.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.format import Format
from timm.models.convnext import ConvNeXt
from timm.models.fastvit import FastVit
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from ovdet.errors import CapabilityError, InputError
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.cache import offline
from ovdet.vlm.contrastive import clip_maps

Tokenizer = Callable[[list[str]], Tensor]
DenseMap = Callable[[Any, Tensor], Tensor]

_TEXT_BLOCK = {"cpu": 8, "cuda": 256}
_PROBE_TEXTS = ["a photo of an arctic (type of shoe).", "Ferris wheel, 1203 % naïve zebras!", "كوب 咖啡", ""]
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


class OpenClipBackbone(VLMBackbone):
    """A model of open_clip.

    Texts are encoded in blocks of one size, padded if need be: with other matrix shapes the same text would get
    other last bits. So a text's vector depends on nothing but the text, on one machine with one thread count.

    Args:
        model: an `open_clip.CLIP` or `CustomTextCLIP`.
        tokenizer: texts to (K, L) token ids; None where it cannot be had: then there is no text.
        spec: its facts.
        text_block: texts a block; None suits the device.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer | None, spec: BackboneSpec, text_block: int | None = None
    ) -> None:
        super().__init__(spec)
        self.model: Any = model
        self.tokenizer = tokenizer
        self.text_block = text_block
        self._fingerprint: tuple[list[tuple[int, int]], str] | None = None
        self.eval()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of what the tokenizer makes of some texts; anew only after a change."""
        state: dict[str, Tensor] = self.model.state_dict()
        version = [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in state.values()]
        if self._fingerprint is None or self._fingerprint[0] != version:
            self._fingerprint = version, self._hash(state)
        return self._fingerprint[1]

    def _hash(self, state: dict[str, Tensor]) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        if self.tokenizer is not None:
            digest.update(self.tokenizer(_PROBE_TEXTS).numpy().tobytes())
        return digest.hexdigest()

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed whole pictures, see `VLMBackbone`."""
        return normalize(self.image_features(images), dim=1)

    def image_features(self, images: Tensor) -> Tensor:
        """Embed whole pictures, (B, 3, S, S) in [0, 1] -> (B, D), of the length that the tower gives."""
        side = self.spec.image_size
        if images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be (B, 3, {side}, {side}), got {tuple(images.shape)}; resize them first")
        features: Tensor = self.model.encode_image(self._pixels(images))
        return features.float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts one by one, see `VLMBackbone`; what exceeds the context length is cut off."""
        if self.tokenizer is None:
            raise CapabilityError(f"{self.spec.name} has no tokenizer on this machine, so it cannot embed texts")
        device = self.mean.device
        if not texts:
            return torch.zeros(0, self.spec.embed_dim, device=device)
        block = self.text_block or _TEXT_BLOCK.get(device.type, 32)
        vectors = []
        for tokens in self.tokenizer(list(texts)).to(device).split(block):
            padded = tokens[torch.arange(block).clamp(max=len(tokens) - 1)]  # (block, L), the last text repeated
            vectors.append(normalize(self.model.encode_text(padded).float(), dim=1)[: len(tokens)])
        return torch.cat(vectors)  # (K, D)

    def forward_dense(self, images: Tensor) -> Tensor:
        """Embed every location, (B, 3, H, W) in [0, 1] -> (B, D, ceil(H / stride), ceil(W / stride)).

        Pictures are padded with the mean colour to whole strides, to the right and below.

        Raises:
            CapabilityError: no dense map is known for this kind of image tower.
        """
        kind = _dense_kind(self.model.visual)
        if kind is None:
            raise CapabilityError(f"{self.spec.name} gives no dense map: its image tower pools in a way of its own")
        dense_map, stride = kind
        height, width = images.shape[-2:]
        pixels = pad(self._pixels(images), (0, -width % stride, 0, -height % stride))
        return normalize(dense_map(self.model.visual, pixels).float(), dim=1)

    def _pixels(self, images: Tensor) -> Tensor:
        return self.normalise(images).to(self.mean.dtype)


def open_clip_backbone(
    model: str,
    tag: str | None = None,
    *,
    weights: str | Path | None = "default",
    device: str | torch.device = "cpu",
    name: str | None = None,
    licence: str = "LicenseRef-see-model-card",
) -> OpenClipBackbone:
    """Build one of open_clip's models.

    Args:
        model: a name of `open_clip.list_models()`, or the path of a JSON file in that form.
        tag: of the published weights; may be left out where a model has one.
        weights: "default" for the published ones, None for random ones, or a path: a checkpoint file, or a folder
            as a model hub gives it (configuration, weights, tokenizer).
        device: where to put it.
        name: of the spec.
        licence: SPDX id of the weights.

    Raises:
        InputError: unknown model or tag, or weights that are missing, damaged or of another model.
    """
    folder = Path(weights) if weights not in (None, "default") and Path(str(weights)).is_dir() else None
    config, preprocess = _read_folder(folder) if folder else (_model_config(model), _preprocess(model, tag))
    file = _find_in_folder(folder) if folder else _weights_file(model, tag, weights)
    tokenizer = _tokenizer(config, folder, required=weights is not None)
    network = _construct(config, model)
    if file:
        _load(network, file, model)
    kind = _dense_kind(network.visual)
    capabilities = {"image", "region"} | ({"text"} if tokenizer else set()) | ({"dense"} if kind else set())
    spec = BackboneSpec(
        name=name or f"open_clip:{model}" + (f"/{tag}" if tag else ""),
        family="contrastive",
        embed_dim=int(config["embed_dim"]),
        image_size=int(config["vision_cfg"].get("image_size", 224)),
        mean=tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
        licence=licence,
        temperature=1 / float(network.logit_scale.detach().exp()),
        capabilities=frozenset(capabilities),
        stride=kind[1] if kind else None,
    )
    return OpenClipBackbone(network, tokenizer, spec).to(device)


def find_weights(model: str, tag: str | None) -> Path | None:
    """The file of published weights that an earlier download left on this machine, or None; asks no network."""
    published: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag or "")
    repository, _, filename = published.get("hf_hub", "").rpartition("/")
    if not repository:
        return None
    for candidate in (str(Path(filename).with_suffix(".safetensors")), filename) if filename else _HUB_FILES:
        found = try_to_load_from_cache(repository, candidate)
        if isinstance(found, str):
            return Path(found)
    return None


def _model_config(model: str) -> dict[str, Any]:
    if model.endswith(".json"):
        try:
            config = json.loads(Path(model).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the model configuration {model}: {error}") from error
        return _checked_config(config, model)
    known: dict[str, Any] | None = open_clip.get_model_config(model)
    if known is None:
        near = get_close_matches(model, open_clip.list_models(), 1, cutoff=0.4)
        raise InputError(f"open_clip has no model {model!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return known


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and preprocessing of a folder as a model hub gives it."""
    path = folder / "open_clip_config.json"
    if not path.is_file():
        raise InputError(f"the folder {folder} holds no open_clip_config.json; give a checkpoint file instead")
    return _model_config(str(path)), json.loads(path.read_text(encoding="utf-8")).get("preprocess_cfg", {})


def _checked_config(config: Any, source: str) -> dict[str, Any]:
    config = config.get("model_cfg", config) if isinstance(config, dict) else {}
    missing = [field for field in ("embed_dim", "vision_cfg", "text_cfg") if field not in config]
    if missing:
        raise InputError(f"the model configuration {source} lacks {', '.join(missing)}")
    checked: dict[str, Any] = config
    return checked


def _preprocess(model: str, tag: str | None) -> dict[str, Any]:
    """Mean and std of the published weights, also where others are loaded; by default those of the first tag."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    published: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag or tags[0]) if tags else {}
    return published


def _weights_file(model: str, tag: str | None, weights: str | Path | None) -> Path | None:
    """The checkpoint file to load, downloaded if need be; None for random weights."""
    if weights is None:
        return None
    if weights != "default":
        if not Path(weights).is_file():
            raise InputError(f"the weights file {weights} does not exist")
        return Path(weights)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag is None and len(tags) == 1:
        tag = tags[0]
    published = open_clip.get_pretrained_cfg(model, tag) if tag else None
    if not published:
        wanted = f"no published weights {tag!r} of {model}" if tag else f"which published weights of {model}?"
        known = f"open_clip has {', '.join(tags)}" if tags else "give weights=FILE, or weights=None for random ones"
        raise InputError(f"{wanted}; {known}")
    found = find_weights(model, tag)
    if found:
        return found
    source = published.get("hf_hub", "").rstrip("/")
    if offline():
        raise InputError(
            f"the weights {tag} of {model} ({source}) are not on this machine and the network is switched off by "
            "OVDET_OFFLINE or HF_HUB_OFFLINE; switch it on once, or give weights=FILE"
        )
    try:
        _check_network()
        return Path(open_clip.download_pretrained(published))
    except Exception as error:  # whatever the hub, the proxy or the disk may say
        raise InputError(f"cannot download the weights {tag} of {model} from {source}: {_reason(error)}") from error


def _check_network() -> None:
    """Fail at once where the hub's name cannot be resolved; the hub's client would try again for a minute."""
    host = urlsplit(ENDPOINT).hostname
    if host and not proxy_bypass(host) and getproxies():
        return
    socket.getaddrinfo(host, 443)


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _find_in_folder(folder: Path) -> Path:
    for name in _HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"the folder {folder} holds no weights; expected one of {', '.join(_HUB_FILES)}")


def _construct(config: dict[str, Any], model: str) -> Any:
    """The network with random weights; nothing is downloaded for one of its towers alone."""
    config = deepcopy(config)
    config["vision_cfg"]["timm_model_pretrained"] = False
    is_hugging_face = "hf_model_name" in config["text_cfg"]
    if is_hugging_face:
        config["text_cfg"]["hf_model_pretrained"] = False
    custom_text = config.pop("custom_text", False) or is_hugging_face
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    try:
        network = kind(**config)
    except (OSError, TypeError, RuntimeError) as error:  # the text tower's own configuration lies on a hub
        raise InputError(f"cannot build {model}: {_reason(error)}") from error
    _take_any_size(network.visual)
    return network


def _load(network: nn.Module, file: Path, model: str) -> None:
    try:
        open_clip.load_checkpoint(network, str(file), weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in many ways; it is never unpickled
        raise InputError(f"{file} is no checkpoint of {model}: {_reason(error)}") from error


def _tokenizer(config: dict[str, Any], folder: Path | None, *, required: bool) -> Tokenizer | None:
    """The model's tokenizer; None if it cannot be had and is not required."""
    text = config["text_cfg"]
    options = {"context_length": text.get("context_length", 77), **text.get("tokenizer_kwargs", {})}
    if not text.get("hf_tokenizer_name"):
        tokenizer: Tokenizer = open_clip.SimpleTokenizer(**options)
        return tokenizer
    source = str(folder) if folder else text["hf_tokenizer_name"]
    if offline():
        options["local_files_only"] = True
    try:
        tokenizer = HFTokenizer(source, tokenizer_mode=text.get("tokenizer_mode"), **options)
    except Exception as error:  # no network, no such files, or a package that this tokenizer needs
        if not required:
            return None
        raise InputError(f"cannot load the tokenizer {source}: {_reason(error)}") from error
    return tokenizer


def _take_any_size(visual: nn.Module) -> None:
    """Let timm's ViT interpolate its positions, as if it had been made with `dynamic_img_size=True`."""
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, TimmVisionTransformer):
        trunk: Any = visual.trunk
        embed = trunk.patch_embed
        trunk.dynamic_img_size = True
        embed.strict_img_size, embed.flatten, embed.output_fmt = False, False, Format.NHWC


def _dense_kind(visual: nn.Module) -> tuple[DenseMap, int] | None:
    """How to get a dense map out of an image tower, and its stride in pixels; None if there is no known way."""
    if isinstance(visual, ModifiedResNet):
        return clip_maps.resnet_map, 32
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        if isinstance(visual.transformer.resblocks[-1], ResidualAttentionBlock):
            return clip_maps.vit_map, visual.patch_size[0]
    trunk: Any = visual.trunk if isinstance(visual, TimmModel) else None
    if isinstance(trunk, ConvNeXt | FastVit):
        return clip_maps.mean_pool_map, int(trunk.feature_info[-1]["reduction"])  # type: ignore[call-overload]
    if isinstance(trunk, TimmVisionTransformer) and isinstance(trunk.attn_pool, AttentionPoolLatent):
        return clip_maps.siglip_map, trunk.patch_embed.patch_size[0]
    return None
