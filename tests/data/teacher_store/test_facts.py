import hashlib
import json

import pytest

from ovdet.data.teacher_store.facts import StoreFacts, read_stated, sha256_of, stated
from ovdet.errors import InputError


def test_facts_survive_json(facts, tmp_path):
    said = json.loads(json.dumps(facts().as_json()))
    back = StoreFacts.from_json(said, tmp_path)
    assert back.as_json() == facts().as_json()
    assert back.teacher.crop_scales == [1.0, 1.5] and back.teacher.image_size == 224


@pytest.mark.parametrize("said", [None, {}, {"teacher": {"name": "a"}}, {"teacher": {}, "proposals": 3}])
def test_facts_that_say_nothing_are_refused(said, tmp_path):
    with pytest.raises(InputError, match="does not say which teacher"):
        StoreFacts.from_json(said, tmp_path / "index.json")


def test_a_width_that_is_no_number(facts, tmp_path):
    said = facts().as_json()
    said["teacher"]["embed_dim"] = "512"
    with pytest.raises(InputError, match="embed_dim"):
        StoreFacts.from_json(said, tmp_path / "index.json")


def test_only_files_of_this_format_and_version_are_read(tmp_path):
    path = tmp_path / "index.json"
    path.write_bytes(stated(rows=3))
    assert read_stated(path)["rows"] == 3
    for content, message in (
        ("{", "not valid JSON"),
        ("[]", "not of a teacher store"),
        ('{"format": "tar"}', "not of a teacher store"),
        (path.read_text().replace('"version": 1', '"version": 2'), "of version 2 .* reads version 1"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_stated(path)
    with pytest.raises(InputError, match="No such file"):
        read_stated(tmp_path / "none.json")


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InputError, match="cannot read"):
        sha256_of(tmp_path / "b")
