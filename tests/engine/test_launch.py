import argparse

import pytest
import torch
from torch.utils.data import DataLoader

from ovdet.engine import launch
from ovdet.errors import InputError


class Broken:
    """A data set whose pictures are not there."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise InputError(f"cannot read the picture {index}.png: No such file")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_is_one_sentence_also_out_of_a_reading_process(capsys, workers):
    assert launch.run(lambda: list(DataLoader(Broken(), num_workers=workers))) == 2
    assert capsys.readouterr().err == "error: cannot read the picture 0.png: No such file\n"


def test_success_is_zero_and_bugs_are_not_hidden():
    assert launch.run(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        launch.run(lambda: 1 / 0)


def test_cfg_options_are_typed():
    parser = argparse.ArgumentParser()
    launch.add_common_arguments(parser)
    args = parser.parse_args(["--cfg-options", "a=1", "b.c=[1,2]", "d=True", "e=some text", "--cfg-options", "f=0.5"])
    assert args.cfg_options["b.c"] == [1, 2]
    assert args.cfg_options["f"] == 0.5
    assert parser.parse_args([]).cfg_options == {}


def test_the_cpu_can_be_asked_for(monkeypatch):
    import mmengine.device.utils

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(mmengine.device.utils, "DEVICE", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    launch._choose_device("cpu")
    assert mmengine.device.get_device() == "cpu"


def test_the_command_line_is_as_typed():
    assert launch.command_line(["a.py", "b.pth", "--seed", "3"], "test") == "python tools/test.py a.py b.pth --seed 3"
