"""Write transformers_reference.npz: what transformers' SegGPT answers with the weights of our tiny model.

    python tests/seggpt/make_reference.py        (needs transformers; made with 5.23.0 and torch 2.14.1)

Weights and inputs are formulas, so only the answers are stored: the colours at every third pixel of a canvas in both
directions, for both kinds of mask, with the lower half hidden and with scattered patches hidden.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parent / "transformers_reference.npz"
STEP = 3


def wave(shape, seed: int) -> torch.Tensor:
    """Numbers of about unit variance that follow no pattern, the same on every machine."""
    count = int(np.prod(shape))
    values = np.sin(np.arange(1, count + 1, dtype=np.float64) * (12.9898 + seed)) * 43758.5453
    uniform = values - np.floor(values)
    return torch.from_numpy(((uniform - 0.5) * 12**0.5).astype(np.float32)).view(*shape)


def fill(model: torch.nn.Module) -> None:
    """Give each weight of one of our models a wave; matrices keep the size of what goes through them."""
    for seed, (name, value) in enumerate(sorted(model.state_dict().items())):
        scale = 0.3
        if "norm" in name and name.endswith("weight"):
            scale = 0.1
        elif name.endswith("weight"):
            scale = value[0].numel() ** -0.5
        wavy = wave(value.shape, seed) * scale
        value.copy_(wavy + 1 if "norm" in name and name.endswith("weight") else wavy)


def inputs(config, count: int = 2):
    """Pictures and paintings (N, 3, H, W), and two ways to hide patches (N, h, w)."""
    height, width = config.canvas_hw
    rows, columns = config.grid_hw
    images, paintings = (wave((count, 3, height, width), seed) for seed in (100, 200))
    lower = (torch.arange(rows) >= rows // 2).view(1, rows, 1).expand(count, rows, columns)
    return images, paintings, {"lower": lower, "scattered": wave((count, rows, columns), 300) > 0.2}


def compute(model) -> dict[str, np.ndarray]:
    """Answers of transformers with our model's weights, by the way of hiding and the kind of mask."""
    from transformers import SegGptConfig, SegGptForImageSegmentation

    from ovdet.seggpt.layouts import config_to_transformers, to_published

    other = SegGptForImageSegmentation(SegGptConfig(**config_to_transformers(model.config))).eval()
    other.load_state_dict(to_published(model.state_dict(), "transformers"), strict=True)
    images, paintings, hidden = inputs(model.config)
    half = model.config.picture_hw[0]
    answers = {}
    for way, masked in hidden.items():
        for kind in ("semantic", "instance"):
            with torch.no_grad():
                found = other(
                    pixel_values=images[:, :, half:],
                    prompt_pixel_values=images[:, :, :half],
                    prompt_masks=paintings[:, :, :half],
                    labels=paintings[:, :, half:],
                    bool_masked_pos=masked.flatten(1),
                    embedding_type=kind,
                    feature_ensemble=False,
                )
            answers[f"{way}_{kind}"] = found.pred_masks[:, :, ::STEP, ::STEP].numpy()
    return answers


if __name__ == "__main__":
    import runpy

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from ovdet.seggpt.build import seggpt

    tiny = seggpt(**runpy.run_path(str(FILE.parent / "conftest.py"))["TINY"]).eval()
    fill(tiny)
    np.savez_compressed(FILE, **compute(tiny))
    print(f"{FILE}: {FILE.stat().st_size} bytes")
