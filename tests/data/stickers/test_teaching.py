"""Crops and texts for a teacher."""

import pytest
import torch

from ovdet.data.sampling import Draw
from ovdet.data.stickers.teaching import TeacherCrops, open_world
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError


def test_texts_of_a_name_speak_of_it_alone(real_names_pack):
    crops = TeacherCrops("75-25", 8, pack=real_names_pack)
    assert crops.names == load_vocabulary("75-25").names
    assert len(crops.of_names) == len(crops.names)
    for concept, own in zip(load_vocabulary("75-25").concepts, crops.of_names, strict=True):
        said = [crops.texts[index] for index in own]
        assert all(any(name in text for name in (concept.name, *concept.aliases)) for text in said)
        assert concept.name in said[0]


def test_samples_point_at_true_texts(real_names_pack):
    crops = TeacherCrops("75-25", 40, pack=real_names_pack)
    for index in range(40):
        sample, plain = crops[index], crops.crops[index]
        assert torch.equal(sample["image"], plain["image"])
        assert sample["label"] == plain["label"]
        text = crops.texts[sample["text"]]
        assert crops.names[sample["label"]] in text
        assert plain["colour"] in text


def test_a_share_of_the_crops_comes_out_of_scenes(real_names_pack):
    crops = TeacherCrops("75-25", 80, pack=real_names_pack, scene_share=0.5)
    from_scene = 0
    for index in range(80):
        sample, alone = crops[index], crops.crops[index]
        name = crops.names[sample["label"]]
        assert name in crops.texts[sample["text"]]
        from_scene += not torch.equal(sample["image"], alone["image"])
    assert 15 < from_scene < 65
    cut = next(k for k in range(80) if not torch.equal(crops[k]["image"], crops.crops[k]["image"]))
    assert torch.equal(crops[Draw(7, cut)]["image"], crops[cut]["image"])  # scenes are counted by the draw
    with pytest.raises(InputError, match="scene_share must lie in"):
        TeacherCrops("75-25", 8, pack=real_names_pack, scene_share=1.5)


def test_base_only_neither_shows_nor_names_the_others(real_names_pack):
    crops = TeacherCrops("75-25", 30, pack=real_names_pack, base_only=True)
    novel = load_vocabulary("75-25").novel
    assert not novel & set(crops.names)
    shown = {crops.names[crops[index]["label"]] for index in range(30)}
    assert shown
    assert not shown & novel


def test_held_out_styles_are_not_for_training(real_names_pack):
    with pytest.raises(InputError, match="never trained on, got twemoji"):
        open_world("75-25", "train", "twemoji", real_names_pack)
    assert open_world("75-25", "evaluation", "twemoji", real_names_pack).styles == ("twemoji",)


def test_photographs_come_from_the_environment(real_names_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_GROUNDS", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no folder of photographs"):
        open_world("75-25", pack=real_names_pack)
