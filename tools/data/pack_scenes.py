"""Pack a COCO-format folder of small pictures into one zip: lossy pictures, exact annotations; for tests.

python tools/data/make_stickers.py --out FOLDER --images 100 --split all --stream evaluation --seed 77
python tools/data/pack_scenes.py FOLDER tests/vild/sticker_scenes_75_25.zip
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from pathlib import Path

from PIL import Image

from ovdet.errors import InputError
from ovdet.files import replacing

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of all files in the zip, so that equal folders give equal zips."""


def pack(folder: Path, target: Path, quality: int = 85) -> int:
    """Write the zip; gives its bytes.

    Raises:
        InputError: the folder is no such data set, or the zip cannot be written.
    """
    try:
        content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for picture in content["images"]:
                stream = io.BytesIO()
                name = Path(picture["file_name"]).with_suffix(".webp").name
                Image.open(folder / "images" / picture["file_name"]).convert("RGB").save(
                    stream, "WEBP", quality=quality
                )
                picture["file_name"] = name
                archive.writestr(zipfile.ZipInfo(f"images/{name}", EPOCH), stream.getvalue())
            text = json.dumps(content, separators=(",", ":"), sort_keys=True)
            archive.writestr(zipfile.ZipInfo("annotations.json", EPOCH), text, zipfile.ZIP_DEFLATED)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no COCO-format folder of pictures ({error})") from error
    return target.stat().st_size


def main(argv: list[str] | None = None) -> int:
    """Pack one folder; 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with annotations.json and images/")
    parser.add_argument("target", type=Path, help="zip to write")
    args = parser.parse_args(argv)
    try:
        print(f"{args.target}: {pack(args.folder, args.target) / 1e6:.2f} MB")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
