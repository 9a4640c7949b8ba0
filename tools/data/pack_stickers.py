"""Fetch the sticker artists' packages, render them and pack them: python tools/data/pack_stickers.py --out DIR.

Packages come from the npm registry by `npm pack` at pinned versions and digests; `pip install ovdet[stickers]`
brings the renderer. With --vocabulary the committed names and splits are made anew as well.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ovdet.data.stickers import curation, sprites, vocabulary
from ovdet.errors import InputError
from ovdet.files import write_whole

ARTISTS = {
    "noto": (
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "noto-v1": (
        "@iconify-json/noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "fluent-emoji": (
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
    "fluent-emoji-flat": (
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "fxemoji": (
        "@iconify-json/fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
    "emojione": (
        "@iconify-json/emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "twemoji": (
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "openmoji": (
        "@iconify-json/openmoji",
        "1.2.29",
        "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
    ),
}
"""Style -> package, version and SHA-512 of its archive."""
NAMES = (
    "unicode-emoji-json",
    "0.9.0",
    "HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
)
TAGS = (
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
RENDER_SIDE = 192
MIN_TRAIN_STYLES = 3
"""A concept that fewer training artists drew is no part of the vocabulary."""

Package = tuple[str, str, str]


def fetch(package: Package, folder: Path) -> Path:
    """The package's archive in `folder`, fetched if it is not there, and checked.

    Raises:
        InputError: npm is missing or fails, or the archive is not the pinned one.
    """
    name, version, integrity = package
    path = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        command = ["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise InputError(f"npm is needed to fetch {name}; install it, or put {path.name} into {folder}") from error
        if done.returncode or not path.exists():
            raise InputError(f"npm could not fetch {name}@{version}: {(done.stderr.strip() or 'no file came')[-200:]}")
    if base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode() != integrity:
        raise InputError(
            f"{path} is not the pinned {name}@{version}: its SHA-512 differs; remove the file and try again"
        )
    return path


def member(archive: Path, name: str, default: Any = None) -> Any:
    """A JSON file out of a package."""
    with tarfile.open(archive) as tar:
        try:
            stream = tar.extractfile(f"package/{name}")
        except KeyError:
            return default
        return json.load(stream) if stream else default


class Icons:
    """One artist's drawings, found by character."""

    def __init__(self, archive: Path) -> None:
        self.content = member(archive, "icons.json")
        self.info = member(archive, "info.json")
        self.characters = member(archive, "chars.json", {})

    def name_of(self, character: str, slugs: list[str]) -> str | None:
        """The set's own name: by its table of characters, else the first of `slugs` that it knows."""
        code = "-".join(f"{ord(part):x}" for part in character)
        for key in (code, code.replace("-fe0f", "")):
            if self._known(self.characters.get(key)):
                return self.characters[key]
        return next((slug for slug in slugs if self._known(slug)), None)

    def svg(self, name: str) -> str:
        """The drawing as a whole SVG file."""
        icon = self.content["icons"][self.resolve(name)]
        width, height = (icon.get(key, self.content.get(key, 16)) for key in ("width", "height"))
        left, top = icon.get("left", 0), icon.get("top", 0)
        box = f"{left} {top} {width} {height}"
        spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {spaces} viewBox="{box}">{icon["body"]}</svg>'

    def _known(self, name: str | None) -> bool:
        return name is not None and self.resolve(name) is not None

    def resolve(self, name: str) -> str | None:
        """The name after following aliases that only rename; None where the set has no such drawing."""
        while name not in self.content["icons"]:
            alias = self.content.get("aliases", {}).get(name)
            if alias is None or set(alias) != {"parent"}:
                return None
            name = alias["parent"]
        return name


def slugs_of(character: str, name: str, noto: Icons) -> list[str]:
    """Names under which a set without a table of characters may keep a character."""
    own = noto.name_of(character, [])
    first = character.replace("\N{VARIATION SELECTOR-16}", "")
    old = unicodedata.name(first, "") if len(first) == 1 else ""
    plain = [own or "", name, old, name.removesuffix(" face") + " face", old.removesuffix(" FACE")]
    dashed = [
        "-".join("".join(c if c.isalnum() else " " for c in one.lower().replace("'", "")).split()) for one in plain
    ]
    return [slug for one in dashed if one for slug in (one, one.replace("-", ""))]


def drawings(
    icons: Icons, concepts: list[dict[str, Any]], emoji: dict[str, Any], noto: Icons
) -> Iterator[tuple[str, str]]:
    """(concept, name in the artist's set) of every drawing there is, each only once."""
    seen: set[tuple[str, str]] = set()
    for concept in concepts:
        for character in concept["emoji"]:
            name = icons.name_of(character, slugs_of(character, curation.clean(emoji[character]["name"]), noto))
            if name is not None and (concept["name"], icons.resolve(name)) not in seen:
                seen.add((concept["name"], icons.resolve(name)))
                yield concept["name"], name


def render_sheet(style: str, icons: Icons, pairs: list[tuple[str, str]]) -> sprites.SpriteSheet:
    """Draw all of one artist's sprites; the few that do not draw are left out."""
    try:
        import resvg_py
    except ImportError as error:
        raise InputError("the renderer is missing: pip install ovdet[stickers]") from error
    kept = []
    for concept, name in tqdm(pairs, desc=style, unit="sprite", mininterval=2):
        try:
            png = bytes(resvg_py.svg_to_bytes(svg_string=icons.svg(name), width=RENDER_SIDE))
        except (ValueError, RuntimeError):
            continue
        picture = sprites.tight(np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")))
        if picture is not None:
            kept.append((concept, name, picture))
    package, version, integrity = ARTISTS[style]
    author, licence = icons.info["author"], icons.info["license"]
    artist = sprites.ArtistRecord(
        package, version, f"sha512-{integrity}", author["name"], author["url"], licence["spdx"], licence["url"]
    )
    names, sources, pictures = zip(*kept, strict=True)
    return sprites.SpriteSheet(style, artist, names, sources, pictures)


def make_vocabulary(concepts: list[dict[str, Any]], coverage: dict[str, set[str]]) -> dict[str, Any]:
    """The content of vocabulary.json; `coverage` is concept -> styles that draw it."""
    kept = []
    for concept in concepts:
        styles = [style for style in ARTISTS if style in coverage[concept["name"]]]
        if len(set(styles) & set(curation.TRAIN_STYLES)) >= MIN_TRAIN_STYLES:
            kept.append({**concept, "styles": styles})
    families = curation.families_of([row["name"] for row in kept])
    rows = [{**row, "family": families[row["name"]]} for row in kept]
    splits = {
        "75-25": curation.split_by_family(rows, 0.25, "75-25"),
        "48-17": curation.small_split(rows, 48, 17, "48-17", ARTISTS),
    }
    sources = {name: f"{version}, sha512-{integrity}" for name, version, integrity in (NAMES, TAGS)}
    return {"sources": sources, "concepts": rows, "splits": splits}


def read_concepts(downloads: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Curated concepts, and the standard's table of characters."""
    emoji = member(fetch(NAMES, downloads), "data-by-emoji.json")
    compact = member(fetch(TAGS, downloads), "en/compact.json")
    tags = {row["unicode"]: row.get("tags", []) for row in compact}
    return curation.concepts_of(emoji, tags), emoji


def write_vocabulary(content: dict[str, Any]) -> None:
    """Write the committed file, one concept a line."""
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in content["concepts"])
    rest = {key: json.dumps(content[key], ensure_ascii=False) for key in ("sources", "splits")}
    text = f'{{\n "sources": {rest["sources"]},\n "concepts": [\n{rows}\n ],\n "splits": {rest["splits"]}\n}}\n'
    assert json.loads(text) == content, "the vocabulary must survive being written"
    write_whole(vocabulary.PATH, text.encode())


def pack(out: Path, downloads: Path, styles: list[str], renew_vocabulary: bool) -> None:
    """Fetch, render and write; the index of the pack comes last, so that a pack is whole or none."""
    concepts, emoji = read_concepts(downloads)
    icons = {style: Icons(fetch(ARTISTS[style], downloads)) for style in dict.fromkeys(["noto", *styles])}
    pairs = {
        style: [
            pair
            for pair in drawings(icons[style], concepts, emoji, icons["noto"])
            if (style, pair[0]) not in curation.MISDRAWN
        ]
        for style in styles
    }
    if renew_vocabulary:
        coverage = {row["name"]: {style for style in styles if row["name"] in dict(pairs[style])} for row in concepts}
        write_vocabulary(make_vocabulary(concepts, coverage))
    wanted = set(vocabulary.load_vocabulary("75-25").names)
    rows: dict[str, dict[str, Any]] = {}
    for style in styles:
        chosen = [pair for pair in pairs[style] if pair[0] in wanted]
        rows[style] = sprites.write_sheet(out, render_sheet(style, icons[style], chosen))
    sprites.write_pack(out, rows)
    sprites.SpritePack(out)  # decodes once, so that nobody else has to


def main(argv: list[str] | None = None) -> int:
    """Write the pack; 2 where something is missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the pack, not in git")
    parser.add_argument("--downloads", type=Path, metavar="DIR", help="archives are kept here (default: OUT/downloads)")
    parser.add_argument("--styles", nargs="+", choices=list(ARTISTS), default=list(ARTISTS), help="default: all")
    parser.add_argument("--vocabulary", action="store_true", help="make the committed names and splits anew")
    args = parser.parse_args(argv)
    downloads = args.downloads or args.out / "downloads"
    try:
        if args.vocabulary and set(args.styles) != set(ARTISTS):
            raise InputError("--vocabulary needs all styles: it records which artists drew what")
        try:
            downloads.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {downloads}: {error.strerror or error}") from error
        pack(args.out, downloads, args.styles, args.vocabulary)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"sprites packed in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
