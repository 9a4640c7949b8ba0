import json

import pytest

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VISION = {
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "vit": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Tests neither read nor fill the user's cache."""
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "ovdet_home"))


@pytest.fixture(scope="session")
def tiny_configs(tmp_path_factory):
    """Paths of JSON configurations of CLIPs below a million parameters, by kind of image tower."""
    folder = tmp_path_factory.mktemp("configs")
    paths = {}
    for kind, vision in VISION.items():
        paths[kind] = folder / f"{kind}.json"
        paths[kind].write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}))
    return paths


@pytest.fixture(scope="session")
def tiny_clips(tiny_configs):
    """CLIPs with random weights, every parameter away from zero; not to be changed by a test."""
    import torch

    from ovdet.vlm.contrastive.clip import open_clip_backbone

    clips = {}
    for kind, path in tiny_configs.items():
        torch.manual_seed(0)
        clips[kind] = open_clip_backbone(str(path), weights=None).requires_grad_(False)
        for name, parameter in clips[kind].model.named_parameters():
            if name != "logit_scale":
                parameter += 0.02 * torch.randn_like(parameter) + (1 if name.endswith("bn3.weight") else 0)
    return clips
