import runpy
from pathlib import Path

import pytest

from ovdet.data.davis import clip_folders
from ovdet.errors import InputError

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "make_sticker_clips.py"


def test_clips_are_written(real_names_pack, tmp_path, monkeypatch):
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    main = runpy.run_path(str(SCRIPT))["main"]
    options = ["--out", str(tmp_path / "clips"), "--pack", str(real_names_pack), "--clips", "2", "--frames", "3"]
    main([*options, "--side", "64", "--long-side", "20", "30"])
    assert [len(clip.frames) for clip in clip_folders(tmp_path / "clips")] == [3, 3]
    with pytest.raises(InputError, match="held-out styles are never trained on"):
        main([*options, "--styles", "twemoji", "--stream", "train"])
