import json
import runpy
from pathlib import Path

import pytest

from ovdet.errors import InputError
from ovdet.metrics.cider import read_frequencies

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "caption_frequencies.py"


def test_words_of_training_captions_are_counted(tmp_path, capsys):
    said = {"train": ["A dog.", "The dog!"], "restval": ["a dog"], "test": ["a cat", "dog"]}
    images = [
        {"filename": "x", "imgid": n, "split": split, "sentences": [{"raw": one} for one in captions]}
        for n, (split, captions) in enumerate(said.items())
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    main = runpy.run_path(str(SCRIPT))["main"]
    main([str(tmp_path / "dataset.json"), "--out", str(tmp_path / "out.json")])
    assert "words of 2 pictures" in capsys.readouterr().out
    once_each = dict.fromkeys(("a", "dog", "<end>", "a dog", "dog <end>", "a dog <end>"), 2)
    assert read_frequencies(tmp_path / "out.json") == (once_each, 2)
    with pytest.raises(InputError, match="no picture of val"):
        main([str(tmp_path / "dataset.json"), "--out", str(tmp_path / "out.json"), "--splits", "val"])
