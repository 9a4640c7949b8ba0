"""Distillation carries: two detectors of the results' table, equal but for the teacher, on 100 fixed scenes.

Their weights, and the vectors of the names by the teacher that they were shown, come from tools/reproduce/pack_arms.py.
Figures on 1,000 scenes are in docs/results.md; so few scenes are rougher, so only the sign and a margin are held.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from ovdet.vild.predict import ViLDDetector
from ovdet.vild.weights import load_model
from ovdet.vlm.zoo import create_vlm

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).with_name("claim")


@pytest.fixture(scope="module", params=["75-25", "48-17"])
def arms(request, figures_on_fixed_scenes):
    """Figures of ViLD-text and of ViLD-ensemble."""
    split = request.param
    with np.load(FOLDER / "names.npz") as stored:
        vectors = dict(zip(stored["names"].tolist(), torch.from_numpy(stored["vectors"]).float(), strict=True))
    figures = {}
    for arm in ("text", "ensemble"):
        model, facts = load_model(FOLDER / f"{split.replace('-', '_')}-{arm}.safetensors")
        detector = ViLDDetector(model, create_vlm("sticker-clip"), facts)  # the tower is not asked: vectors are given

        def detect(picture, names, detector=detector):
            embeddings = torch.stack([vectors[name] for name in names])
            return detector.predict([picture], names, embeddings, score_threshold=0.001)[0]

        figures[arm] = figures_on_fixed_scenes(split, detect)
    return figures["text"], figures["ensemble"]


def test_the_teacher_carries_over_to_names_without_boxes(arms):
    text, ensemble = arms
    assert ensemble["box_novel"] >= 1.1 * text["box_novel"]
    assert ensemble["mask_novel"] > text["mask_novel"]


def test_boxed_names_do_not_pay_for_it(arms):
    text, ensemble = arms
    assert ensemble["box_base"] >= text["box_base"] - 5
