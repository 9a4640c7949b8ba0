import json
import runpy
from pathlib import Path

import pytest
import torch

from ovdet.vild.build import vild_detpro_r50_fpn
from ovdet.vild.weights import load_model

TOOL = Path(__file__).parents[2] / "tools" / "convert" / "vild.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture(scope="module")
def detpro_file(tmp_path_factory):
    """Our own weights under DetPro's names: the inverse of the renaming, done on text."""
    state = {}
    for key, value in vild_detpro_r50_fpn("vild", embed_dim=64).state_dict().items():
        name = key.replace(".bbox_head.proj.", ".projection.").replace(".norm.", ".bn.").replace(".fc.", ".")
        state[name] = value
    background = state.pop("roi_head.bbox_head.bg_embedding")
    state["roi_head.bg_embedding.weight"] = torch.full((64, 1), 0.25)
    state["roi_head.bg_embedding.bias"] = background - 0.25
    state["roi_head.clip_model.logit_scale"] = torch.ones(())
    path = tmp_path_factory.mktemp("detpro") / "detpro.pth"
    torch.save({"state_dict": state, "meta": {"epoch": 20}}, path)
    return path


def test_a_file_goes_through_the_command(main, detpro_file, tmp_path, capsys):
    lvis = tmp_path / "lvis.json"
    categories = [{"id": 2, "name": "dog", "frequency": "r"}, {"id": 1, "name": "cat", "frequency": "f"}]
    lvis.write_text(json.dumps({"categories": categories}))
    out = tmp_path / "out.pth"
    assert main([str(detpro_file), str(out), "--annotations", str(lvis), "--text-tower", "tower"]) == 0
    assert "no image branch: plain ViLD" in capsys.readouterr().out
    model, facts = load_model(out)
    assert facts.base_names == ["cat"]
    assert facts.text_tower == {"name": "tower"}
    assert model.config.test_temperature == 0.007
    torch.testing.assert_close(
        model.roi_head.bbox_head.proj.weight.detach(),
        torch.load(detpro_file)["state_dict"]["roi_head.projection.weight"],
    )


@pytest.mark.parametrize("kind", ["missing", "foreign", "bad annotations"])
def test_mistakes_are_one_sentence_and_code_2(main, detpro_file, tmp_path, capsys, kind):
    source, extra = detpro_file, []
    if kind == "missing":
        source = tmp_path / "none.pth"
    elif kind == "foreign":
        source = tmp_path / "foreign.pth"
        torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, source)
    else:
        (tmp_path / "a.json").write_text("{}")
        extra = ["--annotations", str(tmp_path / "a.json")]
    assert main([str(source), str(tmp_path / "out.pth"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()
