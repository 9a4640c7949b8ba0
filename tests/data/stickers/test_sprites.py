import json
import pickle
import shutil

import numpy as np
import pytest

from ovdet.data.stickers.sprites import LEVELS, ArtistRecord, SpriteKey, SpritePack, SpriteSheet, tight, write_sheet
from ovdet.errors import InputError


def test_sprites_are_kept_at_every_level(pack):
    key = pack.sprites_of("bar")["noto"][0]
    for level in LEVELS:
        picture = pack.sprite(key, level)
        assert max(picture.shape[:2]) == level and picture.shape[1] > picture.shape[0]
        assert (picture[..., :3] <= picture[..., 3:]).all()
    assert max(pack.sprite(key, 33).shape) == 48  # the smallest that need not be enlarged
    assert max(pack.sprite(key, 500).shape) == 128


def test_a_sprite_looks_as_it_was_drawn(pack):
    middle = pack.sprite(pack.sprites_of("disc")["noto"][0], 128)[64, 64]
    assert np.abs(middle.astype(int) - (220, 30, 30, 255)).max() <= 8


def test_tight_cuts_margins_and_keeps_the_shape():
    rgba = np.zeros((50, 90, 4), np.uint8)
    rgba[10:20, 30:70] = 255
    assert tight(rgba, 80).shape == (20, 80, 4)
    assert tight(np.zeros((5, 5, 4), np.uint8)) is None


def test_styles_are_chosen_and_a_lack_is_told(pack_folder):
    some = SpritePack(pack_folder, ["fxemoji", "openmoji"])
    assert set(some.sprites_of("disc")) == {"fxemoji", "openmoji"}
    assert set(some.sprites_of("star")) == {"openmoji"}
    assert some.sprites_of("no such thing") == {}
    with pytest.raises(InputError, match="has no style 'crayon'; it has noto,"):
        SpritePack(pack_folder, ["crayon"])


def test_a_pack_goes_to_other_processes(pack):
    key = SpriteKey("noto", 2)
    assert np.array_equal(pickle.loads(pickle.dumps(pack)).sprite(key, 64), pack.sprite(key, 64))


def test_the_scaled_copies_are_made_anew_when_cut_short(pack_folder, pack, tmp_path):
    shutil.copytree(pack_folder, tmp_path / "pack")
    for path in (tmp_path / "pack").glob("*.mips"):
        path.write_bytes(path.read_bytes()[:-1])
    again = SpritePack(tmp_path / "pack")
    assert np.array_equal(again.sprite(SpriteKey("noto", 0), 96), pack.sprite(SpriteKey("noto", 0), 96))


def test_damage_is_told(pack_folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is no sprite pack"):
        SpritePack(tmp_path)
    monkeypatch.delenv("OVDET_STICKERS", raising=False)
    with pytest.raises(InputError, match=r"no sprite pack is given.*\$OVDET_STICKERS"):
        SpritePack()
    shutil.copytree(pack_folder, tmp_path / "pack")
    sheet = tmp_path / "pack" / "noto.npz"
    sheet.write_bytes(sheet.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"noto\.npz is damaged"):
        SpritePack(tmp_path / "pack")
    sheet.unlink()
    with pytest.raises(InputError, match="cannot read the sprite sheet"):
        SpritePack(tmp_path / "pack")
    (tmp_path / "pack" / "pack.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="is not of format 1"):
        SpritePack(tmp_path / "pack")
    (tmp_path / "pack" / "pack.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        SpritePack(tmp_path / "pack")


def test_the_environment_names_the_pack(pack_folder, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(pack_folder))
    assert "ring" in SpritePack().concepts


def test_equal_drawings_give_equal_sheets(tmp_path):
    artist = ArtistRecord("none", "1", "sha512-none", "the tests", "https://example.org", "CC0-1.0", "")
    picture = np.full((128, 128, 4), 200, np.uint8)
    sheet = SpriteSheet("one", artist, ("square",), ("square",), (picture,))
    rows = [write_sheet(tmp_path / name, sheet) for name in ("a", "b")]
    assert rows[0] == rows[1] and rows[0]["licence"] == "CC0-1.0" and rows[0]["sprites"] == 1
