import base64
import json
from itertools import islice

import pytest

from ovdet.data.grains import captioned_pictures, open_source, pretraining_steps, region_texts
from ovdet.data.records import LineFiles
from ovdet.data.shards import TarShards, write_shards
from ovdet.errors import InputError


@pytest.fixture
def files(tmp_path, red_picture):
    """Captions as lines and regions as shards."""
    content = red_picture("a.png", (60, 40), (5, 5, 20, 20)).read_bytes()
    row = {"caption": "a red thing", "binary": base64.b64encode(content).decode()}
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "0.jsonl").write_text(json.dumps(row))
    fields = {"elems": [{"caption": "r ##ed", "bb": [5, 5, 20, 20]}, {"caption": "grey", "bb": [0, 0, 50, 30]}]}
    write_shards([(content, "png", fields)] * 2, tmp_path / "regions")
    return [str(tmp_path / "captions")], [str(tmp_path / "regions")]


def test_sources_are_told_apart(files, tmp_path):
    captions, regions = files
    assert isinstance(open_source(captions), LineFiles) and isinstance(open_source(regions), TarShards)
    assert isinstance(open_source([tmp_path / "regions" / "00000.tar"]), TarShards)
    with pytest.raises(InputError, match="give one kind"):
        open_source(captions + regions)


def test_steps_of_both_grains(files):
    data = pretraining_steps(
        *files,
        side=32,
        image_batch=2,
        region_pictures=2,
        region_texts_drawn=3,
        region_share=1.0,
        tokenized_regions=True,
    )
    for step in islice(iter(data), 3):
        assert step["images"]["texts"] == ["a red thing"] * 2 and len(step["regions"]["texts"]) == 3
        assert set(step["regions"]["texts"]) <= {"red", "grey"}


def test_each_grain_alone_writes_down_what_is_broken(files, tmp_path):
    (tmp_path / "captions" / "1.jsonl").write_text("no json\n")
    data = captioned_pictures(files[0], side=32, broken_log=str(tmp_path / "broken.jsonl"))
    assert len(list(islice(iter(data), 5))) == 5
    assert json.loads((tmp_path / "broken.jsonl").read_text().splitlines()[0])["sample"].endswith("1.jsonl:1")
    assert next(iter(region_texts(files[1], side=32, max_regions=1)))["texts"]
