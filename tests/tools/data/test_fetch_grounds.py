"""Fetching grounds, from packages made here: what is pinned, what is written, and what is refused."""

import base64
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.data.stickers.grounds import read_photographs
from ovdet.errors import InputError

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools" / "data"))

import fetch_grounds  # noqa: E402
from fetch_grounds import CC0, PHOTOGRAPHS, Package, Photograph, tone_mapped, write_grounds  # noqa: E402


def picture(colour, size=(900, 600)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def wheel(tmp_path):
    """A package of two pictures, where a fetched one would lie; its photographs."""
    files = {"pictures/red_one.png": picture("red"), "pictures/blue.png": picture("blue", (40, 30))}
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with zipfile.ZipFile(downloads / "some_pictures-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    package = Package("pip", "some-pictures", "1.0")
    digests = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in files.items()}
    return [
        Photograph(package, "pictures/red_one.png", digests["pictures/red_one.png"], "A. Red", CC0),
        Photograph(package, "pictures/blue.png", digests["pictures/blue.png"], "B. Blue", CC0, "evaluation"),
    ]


def test_sides_sizes_and_the_record_of_licences(tmp_path, wheel):
    write_grounds(tmp_path / "out", tmp_path / "downloads", wheel)
    (red,) = read_photographs(tmp_path / "out", evaluation=False)
    (blue,) = read_photographs(tmp_path / "out", evaluation=True)
    assert red.shape == (512, 768, 3) and blue.shape == (30, 40, 3)
    assert red[0, 0].argmax() == 0 and blue[0, 0].argmax() == 2
    first = json.loads((tmp_path / "out/licences.json").read_text())[0]
    assert first["file"] == "training/red-one.jpg" and first["author"] == "A. Red" and first["licence"] == "CC0-1.0"
    assert first["source"] == "pictures/red_one.png of some-pictures 1.0"


def test_another_file_than_the_pinned_one_is_refused(tmp_path, wheel):
    bad = Photograph(wheel[0].package, wheel[0].path, "0" * 16, "A. Red", CC0)
    with pytest.raises(InputError, match="not the pinned file"):
        write_grounds(tmp_path / "out", tmp_path / "downloads", [bad])
    missing = Photograph(wheel[0].package, "pictures/none.png", "0" * 16, "A. Red", CC0)
    with pytest.raises(InputError, match="damaged or of another version"):
        write_grounds(tmp_path / "out", tmp_path / "downloads", [missing])
    assert not list((tmp_path / "out").rglob("*.jpg")) and not (tmp_path / "out/licences.json").exists()


def test_a_client_that_is_missing_or_fails_is_told(tmp_path, monkeypatch):
    package = Package("npm", "@some/pictures", "2.0")
    monkeypatch.setattr(Package, "command", lambda self, folder: ["there-is-no-such-client"])
    with pytest.raises(InputError, match=r"there-is-no-such-client is needed.*some-pictures-2\.0\.tgz"):
        fetch_grounds.fetch(package, tmp_path)
    monkeypatch.setattr(Package, "command", lambda self, folder: [sys.executable, "-c", "raise SystemExit('no net')"])
    with pytest.raises(InputError, match=r"could not fetch @some/pictures 2\.0: no net"):
        fetch_grounds.fetch(package, tmp_path)


def test_middle_gray_stays_and_light_without_end_is_white():
    light = np.full((20, 20, 3), 7.0, np.float32)
    light[0, 0], light[12, 1], light[0, 2] = np.inf, 0, np.nan
    shown = tone_mapped(light)
    expected = 0.25 * (1 + 0.25 / 9) / 1.25  # the curve, then sRGB's
    assert abs(int(shown[9, 9, 0]) - 255 * (1.055 * expected ** (1 / 2.4) - 0.055)) <= 1
    assert (shown[0, 0] == 255).all() and (shown[12, 1] == 0).all() and (shown[0, 2] == 255).all()


def test_black_specks_beside_lamps_are_filled():
    light = np.full((40, 40, 3), 1.0, np.float32)
    light[10:14, 10:14] = 1000
    light[11, 12] = light[12, 15] = 0
    light[30, 30] = 0
    shown = tone_mapped(light)
    assert shown[11, 12].min() == 255 and shown[12, 15].min() > 100 and shown[30, 30].max() == 0


def test_a_panorama_is_read_out_of_its_script(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    light = np.random.default_rng(0).uniform(0, 2, (256, 512, 3)).astype(np.float16)
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}) as exr:
        exr.write(str(tmp_path / "x.exr"))
    packed = base64.b64encode((tmp_path / "x.exr").read_bytes())
    script = b"export default 'data:application/exr;base64," + packed + b"'"
    assert np.array_equal(fetch_grounds.read_panorama(script), light.astype(np.float32))
    with tarfile.open(tmp_path / "pmndrs-assets-1.7.0.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("package/hdri/x.exr.js")
        info.size = len(script)
        tar.addfile(info, io.BytesIO(script))
    digest = hashlib.sha256(script).hexdigest()[:16]
    one = Photograph(fetch_grounds.POLY_HAVEN, "package/hdri/x.exr.js", digest, "Poly Haven", CC0)
    write_grounds(tmp_path / "out", tmp_path, [one])
    assert Image.open(tmp_path / "out/training/x.jpg").size == (512, 192)


def test_the_pinned_ones_are_free_to_ship_and_apart_from_the_labelled_photographs():
    labels = json.loads((ROOT / "tools/benchmarks/photographs/labels.json").read_text())
    labelled = {(row["package"], row["path"]) for row in labels["photographs"]}
    digests = {row["sha256"][:16] for row in labels["photographs"]}
    assert len({(one.side, one.stem) for one in PHOTOGRAPHS}) == len(PHOTOGRAPHS) > 20
    for one in PHOTOGRAPHS:
        assert one.licence in fetch_grounds.LICENCE_URLS and "SA" not in one.licence
        assert (one.package.name, one.path.removeprefix("./")) not in labelled and one.digest not in digests
    assert {one.side for one in PHOTOGRAPHS} == set(fetch_grounds.SIDES)
