import base64
import hashlib
import io
import json
import runpy
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES
from ovdet.errors import InputError

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "pack_stickers.py"


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def archive(path, **files):
    """An npm package with these JSON files (dots for underscores); its SHA-512 in base64."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


SQUARE = '<path fill="#f00" d="M4 4h8v8H4z"/>'
INFO = {"author": {"name": "A", "url": "u"}, "license": {"spdx": "MIT", "url": "l"}}


@pytest.fixture
def icons(script, tmp_path):
    content = {
        "icons": {"dog-face": {"body": SQUARE}, "guidedog": {"body": SQUARE}, "cat": {"body": SQUARE, "width": 8}},
        "aliases": {"puppy": {"parent": "dog-face"}, "mirrored": {"parent": "cat", "hFlip": True}},
        "width": 16,
        "height": 16,
    }
    archive(tmp_path / "icons.tgz", icons=content, info=INFO, chars={"1f436": "puppy"})
    return script.Icons(tmp_path / "icons.tgz")


def test_every_style_is_pinned(script):
    assert set(script.ARTISTS) == {*TRAIN_STYLES, *HELD_OUT_STYLES}
    for _, _, integrity in (*script.ARTISTS.values(), script.NAMES, script.TAGS):
        assert len(base64.b64decode(integrity)) == 64


def test_drawings_are_found_by_character_then_by_slug(script, icons):
    assert icons.name_of("\U0001f436", []) == "puppy"
    assert icons.name_of("\U0001f9ae", script.slugs_of("\U0001f9ae", "guide dog", icons)) == "guidedog"
    assert icons.name_of("\U0001f408", script.slugs_of("\U0001f408", "tabby", icons)) == "cat"  # by its name in Unicode
    assert icons.name_of("x", ["mirrored", "nothing"]) is None
    assert 'viewBox="0 0 8 16"' in icons.svg("cat")


def test_a_drawing_counts_once(script, icons):
    concepts = [{"name": "dog", "emoji": ["\U0001f436", "\U0001f415", "\U0001f9ae"]}]
    emoji = {"\U0001f436": {"name": "dog face"}, "\U0001f415": {"name": "dog"}, "\U0001f9ae": {"name": "guide dog"}}
    assert list(script.drawings(icons, concepts, emoji, icons)) == [("dog", "puppy"), ("dog", "guidedog")]


def test_archives_are_checked(script, tmp_path):
    integrity = archive(tmp_path / "some-set-1.0.tgz", info=INFO)
    assert script.fetch(("@some/set", "1.0", integrity), tmp_path) == tmp_path / "some-set-1.0.tgz"
    with pytest.raises(InputError, match=r"is not the pinned @some/set@1\.0: its SHA-512 differs"):
        script.fetch(("@some/set", "1.0", "AAAA"), tmp_path)


def test_a_missing_npm_is_told(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="npm is needed to fetch @some/set"):
        script.fetch(("@some/set", "1.0", "AAAA"), tmp_path)
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(InputError, match=r"npm could not fetch @some/set@1\.0: no network"):
        script.fetch(("@some/set", "1.0", "AAAA"), tmp_path)


def test_sprites_are_rendered(script, icons):
    pytest.importorskip("resvg_py")
    sheet = script.render_sheet("noto", icons, [("dog", "puppy"), ("cat", "cat")])
    assert sheet.concepts == ("dog", "cat") and sheet.artist.licence == "MIT"
    assert sheet.pictures[0].shape == (128, 128, 4)
    assert sheet.pictures[0][64, 64].tolist() == [255, 0, 0, 255]


def test_the_vocabulary_leaves_out_what_few_artists_drew(script):
    concepts = [{"name": f"thing{i}", "emoji": [], "group": "Objects", "aliases": [], "tags": []} for i in range(80)]
    coverage = {row["name"]: set(script.ARTISTS) for row in concepts}
    coverage["thing7"] = {"noto", "fxemoji", "twemoji", "openmoji"}
    content = script.make_vocabulary(concepts, coverage)
    assert len(content["concepts"]) == 79 and "thing7" not in content["splits"]["75-25"]["base"]
    assert [len(content["splits"]["48-17"][side]) for side in ("base", "novel")] == [48, 17]


def test_mistakes_are_told(script, tmp_path, capsys):
    assert script.main(["--out", str(tmp_path), "--vocabulary", "--styles", "noto"]) == 2
    assert "--vocabulary needs all styles" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert script.main(["--out", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err
