"""Sentences to vectors: a small copy of all-MiniLM-L6-v2's sentence space, shipped with the package.

The network is BERT's (6 layers, width 384), with the vocabulary pruned to English, the matrices in four bits and the
token table in three, distilled from sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) by
tools/distill/sentence_tower.py.
What it loses against its teacher, and how that was measured: docs/sentence_tower.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ovdet.errors import InputError
from ovdet.vlm.contrastive import few_bits
from ovdet.vlm.contrastive.wordpiece import WordPiece, fold

WEIGHTS = Path(__file__).with_name("sentence_tower.safetensors")
FORMAT = "ovdet-sentence-tower-1"
WIDTH, HEADS, HIDDEN, DEPTH = 384, 12, 1536, 6
MAX_TOKENS = 128  # of a text; the rest is left out


class SentenceTower(nn.Module):
    """Text encoder whose vectors compare by meaning.

    A vector has unit length and 384 numbers; the dot product of two is the cosine of all-MiniLM-L6-v2's space,
    nearly: about 1 for the same meaning, 0.5 to 0.8 for close relatives (cat, kitten), 0.1 to 0.3 for unrelated
    nouns; rarely below 0. It was trained on English only. Words in other scripts are mostly unknown to it, so
    that all of them get nearly the same vector. Vectors of this tower and of the teacher may be mixed.
    """

    embed_dim = WIDTH

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Build the network with random weights; `load` is what callers want.

        Args:
            vocabulary: word pieces in the order of their ids.
        """
        super().__init__()
        self.wordpiece = WordPiece(vocabulary)
        self.fingerprint = ""
        self.tokens = nn.Embedding(len(vocabulary), WIDTH)
        self.positions = nn.Embedding(MAX_TOKENS, WIDTH)  # BERT's type of the first sentence is added in
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
            )
            for _ in range(DEPTH)
        )

    @classmethod
    def load(cls, path: Path | None = None) -> SentenceTower:
        """Read a weights file, by default the shipped one; the tower is in eval mode, on the CPU.

        Raises:
            InputError: the file is missing, damaged or of another kind.
        """
        path = WEIGHTS if path is None else Path(path)
        try:
            tensors, digest = _read(path)
            tower = cls(bytes(tensors.pop("vocabulary").tolist()).decode("utf-8").split("\n"))
            tower.load_state_dict(_unpack_state(tensors), strict=True)
        except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path} is not a readable sentence tower ({reason}); reinstall ovdet or give another file."
            ) from error
        tower.fingerprint = digest
        return tower.eval()

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Split K texts into word pieces, lower-cased, without accents, typographic signs as in ASCII.

        Returns:
            ids (K, L) int64, padded to the longest; mask (K, L) bool, true where there is a token.
        """
        rows = [self.wordpiece.ids(fold(text), MAX_TOKENS) for text in texts]
        longest = max(map(len, rows), default=2)
        ids = torch.full((len(rows), longest), self.wordpiece.pad)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Turn tokens into sentence vectors.

        Args:
            ids: (K, L) int64.
            mask: (K, L) bool, true where there is a token; at least one a row.

        Returns:
            (K, 384), unit length.
        """
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]  # (K, L, D)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        weight = mask[..., None].to(x.dtype)  # (K, L, 1)
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)  # (K, D)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], block: int = 256) -> Tensor:
        """Encode texts, `block` at a time; a text's vector does not depend on what else is in the list.

        Args:
            texts: K texts in any order; an empty text is allowed and gets the vector of no words.
            block: how many texts are computed together; bounds the memory.

        Returns:
            (K, 384) float32, unit length, in the order of `texts`, on the tower's device.

        Raises:
            InputError: `texts` is one string instead of a sequence of strings.
        """
        if isinstance(texts, str):
            raise InputError(f"texts must be a list of strings, got the string {texts[:40]!r}; write [{texts[:40]!r}].")
        device = self.tokens.weight.device
        vectors = torch.empty(len(texts), WIDTH, device=device)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length together: less padding
        for start in range(0, len(order), block):
            chosen = order[start : start + block]
            ids, mask = self.tokenize([texts[i] for i in chosen])
            vectors[torch.tensor(chosen, device=device)] = self(ids.to(device), mask.to(device)).float()
        return vectors


def packed_tensors(tower: SentenceTower, scales: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The content of a weights file: matrices as `NAME.codes` and `NAME.scales`, the rest as float16.

    Args:
        tower: float weights.
        scales: (R, C / 64) a matrix by name, as trained; without it those with the least rounding error.
    """
    text = "\n".join(tower.wordpiece.vocabulary).encode("utf-8")
    tensors = {"vocabulary": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    for name, value in tower.state_dict().items():
        bits = stored_bits(name)
        if bits:
            steps = few_bits.best_scales(value, bits) if scales is None else scales[name]
            tensors[f"{name}.codes"], tensors[f"{name}.scales"] = few_bits.pack(value, steps, bits)
        else:
            tensors[name] = value.half()
    return tensors


def stored_bits(name: str) -> int:
    """In how many bits a weights file holds this parameter; 0 for those that it holds as float16."""
    if name == "tokens.weight":
        return 3
    return 4 if name.startswith("layers.") and "norm" not in name and name.endswith("weight") else 0


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return a weights file's tensors and its SHA-256."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).get("format")
    if found != FORMAT:
        raise ValueError(f"format {found!r} instead of {FORMAT!r}")
    return load_file(path), digest


def _unpack_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float32 parameters by name out of a weights file's tensors."""
    state = {}
    for name, value in tensors.items():
        if name.endswith(".codes"):
            name = name.removesuffix(".codes")
            value = few_bits.unpack(value, tensors[f"{name}.scales"])
        elif name.endswith(".scales"):
            continue
        state[name] = value.float()
        if not state[name].isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return state
