"""Pictures as classes among names, by the share of their own vector: python tools/benchmarks/class_pictures.py.

Validation crops of the sticker world: one of each name stands for its class in the place of its word, among the words
of all others; two more of each name are to be named. Needs the sprites (docs/stickers.md). A minute or two of one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from ovdet.data.stickers.teaching import TeacherCrops
from ovdet.vlm.class_pictures import class_rows
from ovdet.vlm.contrastive.sticker_clip import StickerCLIP, sticker_clip
from ovdet.vlm.prompts import class_embeddings

BLOCK = 64


def main() -> None:
    """Print a line for each share, with the class's own word known to the model and unknown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0])
    args = parser.parse_args()
    model = sticker_clip()
    crops = TeacherCrops(split="75-25", length=2223, stream="validation")
    words = class_embeddings(model, crops.names)  # (K, D)
    count = len(words)
    vectors, labels = embed(model, crops)
    examples = torch.empty_like(words)
    examples[labels[:count]] = vectors[:count]
    asked, truth = vectors[count:], labels[count:]
    print(f"{count} names, {len(asked)} crops; words alone: {told(asked, truth, words, words)}")
    for share in args.shares:
        model.spec = replace(model.spec, picture_share=share)
        known = class_rows(model, examples, words)
        others = torch.stack(
            [class_rows(model, examples[k : k + 1], torch.cat([words[:k], words[k + 1 :]]))[0] for k in range(count)]
        )
        print(
            f"share {share}: word known {told(asked, truth, words, known)}; unknown {told(asked, truth, words, others)}"
        )


@torch.no_grad()
def embed(model: StickerCLIP, crops: TeacherCrops) -> tuple[Tensor, Tensor]:
    """Vectors (N, D) and labels (N,) of all crops."""
    vectors, labels = [], []
    for start in range(0, len(crops), BLOCK):
        samples = [crops[index] for index in range(start, min(start + BLOCK, len(crops)))]
        vectors.append(model.encode_image(torch.stack([each["image"] for each in samples]).float() / 255))
        labels += [each["label"] for each in samples]
    return torch.cat(vectors), torch.tensor(labels)


def told(asked: Tensor, truth: Tensor, words: Tensor, rows: Tensor) -> str:
    """How often a class's row wins its own crops among the words of all others, and how often those of others."""
    every = torch.arange(len(words))
    by_word, by_row = asked @ words.T, asked @ rows.T  # (N, K)
    best = by_word.topk(2, dim=1)
    rival = torch.where(best.indices[:, :1] == every, best.values[:, 1:], best.values[:, :1])  # best word but class k's
    wins = by_row > rival
    own = truth[:, None] == every
    return f"{100 * wins[own].float().mean():.1f} % of its own, {100 * wins[~own].float().mean():.3f} % of others"


if __name__ == "__main__":
    main()
