"""Class names become vectors: name processing, templates, and class embeddings that are computed once and kept."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from ovdet.errors import InputError
from ovdet.vlm import cache
from ovdet.vlm.base import VLMBackbone

PROCESSING_VERSION = 1
"""Part of every cache key: raise it when `clean_name` or the article rule changes."""

_BY_RULE = ("{article}", "the")
_PHOTO_KINDS = (
    *("good", "bad", "bright", "dark", "low resolution", "cropped", "close-up", "jpeg corrupted", "blurry"),
    *("pixelated", "black and white"),
)
_LOOKS = ("nice", "cool", "weird", "small", "large", "clean", "dirty", "hard to see")
_MATERIALS = ("plastic", "toy", "plushie", "cartoon")
_GRAMMAR: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (  # frame, determiners, adjectives
    ("There is {} in the scene.", _BY_RULE, ("",)),
    ("a photo of {} in the scene.", (*_BY_RULE, "one"), ("",)),
    ("itap of {}.", (*_BY_RULE, "my"), ("",)),  # "I took a picture"
    ("a photo of {}.", (*_BY_RULE, "my", "one", "many"), ("",)),
    *((f"a {kind} photo of {{}}.", _BY_RULE, ("",)) for kind in _PHOTO_KINDS),
    ("a photo of {}.", ("a", "the"), _LOOKS),
    ("{}.", ("a", "the"), _MATERIALS),
    ("{}.", ("an", "the"), ("embroidered",)),
    ("a painting of {}.", ("a", "the"), ("",)),  # "a" before a vowel too, as published
)


def _vild_templates() -> tuple[str, ...]:
    """ViLD's 63 templates; what starts with a lower-case "a" or "the" becomes a sentence with "This is"."""
    templates = []
    for frame, determiners, adjectives in _GRAMMAR:
        for adjective in adjectives:
            for determiner in determiners:
                text = frame.format(" ".join(filter(None, (determiner, adjective, "{name}"))))
                templates.append(f"This is {text}" if text.startswith(("a", "the")) else text)
    return tuple(templates)


TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    "name": ("{name}",),
    "plain": ("a photo of {article} {name}.",),
    "vild63": _vild_templates(),
}
"""Sets of templates by name. `{name}` is the cleaned class name, `{article}` its "a" or "an"."""


def clean_name(name: str) -> str:
    """Make a class name readable: "arctic_(type_of_shoe)" -> "arctic (type of shoe)", "TV/monitor" -> "tv or monitor".

    ViLD's rules (arXiv:2104.13921, released demo): "_" is a space, "/" is " or ", lower case, no trailing dot,
    parentheses stay. Runs of white space become one space, and Unicode its composed form.
    """
    text = unicodedata.normalize("NFC", name).replace("_", " ").replace("/", " or ").lower()
    return " ".join(text.split()).rstrip(". ")


def fill_templates(name: str, templates: str = "plain") -> list[str]:
    """The texts that stand for one class name, one for each template of the set.

    The article is "an" before a, e, i, o or u, judged on the cleaned name: "an hourglass" is out of its reach.

    Raises:
        InputError: no such template set.
    """
    cleaned = clean_name(name)
    article = "an" if cleaned.startswith(tuple("aeiou")) else "a"
    return [template.format(article=article, name=cleaned) for template in _template_set(templates)]


def _template_set(templates: str) -> tuple[str, ...]:
    if templates not in TEMPLATE_SETS:
        raise InputError(f"unknown template set {templates!r}; choose one of {', '.join(TEMPLATE_SETS)}")
    return TEMPLATE_SETS[templates]


def check_names(names: Sequence[str]) -> list[str]:
    """The class names as a list, unchanged, if they can be told apart.

    Raises:
        InputError: there is no name, one is no text or blank, or two are the same once cleaned; it names the
            index and the name.
    """
    if isinstance(names, str):
        raise InputError(f"class names must be a list of names, got the one text {names!r}; split it first")
    if not isinstance(names, Iterable) or isinstance(names, set | frozenset):  # a set has no order for labels to index
        raise InputError(f"class names must be a list of names, got {type(names).__name__}")
    names = list(names)
    if not names:
        raise InputError("the list of class names is empty; give at least one name")
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"class name {index} must be a text, got {name!r}")
        cleaned = clean_name(name)
        if not cleaned:
            raise InputError(f"class name {index} is blank ({name!r}); remove it")
        if cleaned in first:
            other = first[cleaned]
            raise InputError(f"class name {index} ({name!r}) is the same as class name {other} ({names[other]!r})")
        first[cleaned] = index
    return names


@torch.no_grad()
def class_embeddings(
    backbone: VLMBackbone,
    names: Sequence[str],
    *,
    templates: str = "plain",
    cache_dir: Path | None = None,
    block: int = 256,
) -> Tensor:
    """Embed a vocabulary of any length and order.

    Each text is embedded and brought to unit length, the texts of a name are averaged, and the mean is brought
    to unit length. Vectors are kept on disk by (backbone fingerprint, templates, name), so vocabularies that
    share names share vectors; as `encode_text` embeds texts one by one, neither the other names nor the order
    nor the cache changes a bit of a name's vector.

    Args:
        backbone: whose `encode_text` is used; one without a fingerprint is not cached.
        names: K class names, checked by `check_names`.
        templates: a key of `TEMPLATE_SETS`; ViLD's "vild63" or the one plain sentence.
        cache_dir: of the cache file; None is the user's own, see `ovdet.vlm.cache.cache_dir`.
        block: texts encoded at once, to bound memory.

    Returns:
        (K, D) float32 on the CPU, unit length, row k for `names[k]`.

    Raises:
        InputError: the names cannot be told apart or the template set is unknown.
    """
    cleaned = [clean_name(name) for name in check_names(names)]
    prefix = _key_prefix(backbone, templates)
    keys = {name: hashlib.sha256(f"{prefix}\n{name}".encode()).hexdigest() for name in cleaned}
    store = cache.VectorStore(Path(cache_dir or cache.cache_dir()) / "class_embeddings.sqlite3")
    vectors = store.get(list(keys.values())) if prefix else {}
    missing = [name for name in cleaned if keys[name] not in vectors]
    names_a_block = max(1, block // len(fill_templates(cleaned[0], templates)))
    starts = range(0, len(missing), names_a_block)
    for start in tqdm(starts, desc="embedding names", unit="block", leave=False, disable=len(starts) < 20):
        part = missing[start : start + names_a_block]
        texts = [text for name in part for text in fill_templates(name, templates)]
        encoded = backbone.encode_text(texts).float().cpu()  # (n * T, D)
        new = {keys[name]: _mean_direction(rows) for name, rows in zip(part, encoded.chunk(len(part)), strict=True)}
        vectors |= new
        if prefix:
            store.put(new)
    return torch.from_numpy(np.stack([vectors[keys[name]] for name in cleaned]))  # (K, D)


def _mean_direction(vectors: Tensor) -> np.ndarray:
    """(T, D) -> (D,): each to unit length, their mean to unit length; one name at a time, so always the same bits."""
    mean: np.ndarray = normalize(normalize(vectors, dim=1).mean(dim=0), dim=0).numpy()
    return mean


def _key_prefix(backbone: VLMBackbone, templates: str) -> str:
    """What a name's vector depends on besides the name; empty where the backbone cannot say what it is."""
    texts = _template_set(templates)
    try:
        fingerprint = backbone.fingerprint
    except NotImplementedError:
        return ""
    return json.dumps([fingerprint, texts, PROCESSING_VERSION])


@torch.no_grad()
def sentence_vectors(tower: Any, texts: Sequence[str], cache_dir: Path, block: int = 256) -> Tensor:
    """Vectors of texts as they are, computed once and kept on disk by (tower fingerprint, text).

    Args:
        tower: with `encode(texts) -> (n, D)` and a `fingerprint`.
        texts: T texts; they may repeat.
        cache_dir: of the cache file.
        block: texts encoded at once.

    Returns:
        (T, D) float32 on the CPU.
    """
    keys = {text: hashlib.sha256(f"{tower.fingerprint}\ntext\n{text}".encode()).hexdigest() for text in texts}
    store = cache.VectorStore(Path(cache_dir) / "class_embeddings.sqlite3")
    vectors = store.get(list(keys.values()))
    missing = sorted((text for text in keys if keys[text] not in vectors), key=len)
    starts = range(0, len(missing), block)
    for start in tqdm(starts, desc="embedding texts", unit="block", leave=False, disable=len(starts) < 4):
        part = missing[start : start + block]
        rows = tower.encode(part).float().cpu().numpy()
        new = {keys[text]: row for text, row in zip(part, rows, strict=True)}
        vectors |= new
        store.put(new)
    return torch.from_numpy(np.stack([vectors[keys[text]] for text in texts]))  # (T, D)
