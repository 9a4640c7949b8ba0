"""mmdet's Grounding DINO with a tiny local BERT folder, where transformers is installed."""

from __future__ import annotations

from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config

from ovdet.compat.grounding import adapt_language_model

transformers = pytest.importorskip("transformers")

CONFIG = Path(mmdet.__file__).parent / ".mim/configs/grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py"
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? cat dog red car".split()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    register_all_modules()
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), **size))
    bert.save_pretrained(folder)
    config = Config.fromfile(str(CONFIG)).model
    config.backbone.init_cfg = None
    config.backbone.zero_init_residual = False
    config.language_model.name = str(folder)
    config.num_queries = 30
    config.encoder.num_cp = 0  # otherwise mmdet demands fairscale
    config.encoder.num_layers = config.decoder.num_layers = 2
    config.test_cfg.max_per_img = 20
    model = MODELS.build(config)
    model.init_weights()
    return adapt_language_model(adapt_language_model(model))


def test_each_name_is_read_by_itself(detector):
    """The words of one name attend to each other and to nothing else: as if the name were all there is."""
    detector.eval()
    with torch.no_grad():
        embedded = detector.language_model(["cat . red car ."])["embedded"]  # [CLS] cat . red car . [SEP]
        changed = detector.language_model(["dog . red car ."])["embedded"]
        ids = torch.tensor([[WORDS.index(word) for word in ("red", "car", ".")]])
        bert = detector.language_model.language_backbone.body.model
        alone = bert(input_ids=ids, position_ids=torch.arange(3)[None])[0]
    torch.testing.assert_close(embedded[:, 3:6], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(changed[:, 3:6], embedded[:, 3:6], rtol=0, atol=0)
    assert (changed[:, 1] - embedded[:, 1]).abs().max() > 0.1


def test_a_training_step_and_a_prediction(detector):
    batch = demo_mm_inputs(2, [[3, 96, 96], [3, 80, 96]], num_items=[2, 2], num_classes=3)
    for sample in batch["data_samples"]:
        sample.set_metainfo({"text": ("cat", "dog", "red car"), "custom_entities": True, "scale_factor": (1.0, 1.0)})
    detector.train()
    total, logged = detector.parse_losses(detector(**detector.data_preprocessor(batch, True), mode="loss"))
    total.backward()
    assert all(torch.as_tensor(value).isfinite() for value in logged.values())
    for part in (detector.backbone, detector.language_model.language_backbone.body.model.encoder):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())
    detector.eval()
    with torch.no_grad():
        samples = detector(**detector.data_preprocessor(batch, False), mode="predict")
    for sample in samples:
        assert len(sample.pred_instances) == 20
        assert set(sample.pred_instances.label_names) <= {"cat", "dog", "red car", "unobject"}
