"""Turn an official X-VLM checkpoint into one that ovdet loads.

python tools/convert/xvlm.py 16m_base_model_state_step_199999.th --vision-config config_swinB_224.json
    --text-config config_bert.json --vocabulary vocab.txt --out xvlm.pth
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.config import SwinSizes
from ovdet.xvlm.official import convert_official, read_image_sizes, read_text_sizes, resize_weights
from ovdet.xvlm.tokens import read_vocabulary
from ovdet.xvlm.weights import WANTED_BY, XVLMFacts, save_model


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=" ".join(__doc__.splitlines()[2:]), allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, help="an official .th or .pth file of any task")
    parser.add_argument("--vision-config", type=Path, help="config_swinB_*.json or config_clipvitB.json; not for DeiT")
    parser.add_argument("--text-config", type=Path, required=True, help="config_bert.json")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt of bert-base-uncased, to be kept in the file")
    parser.add_argument("--image-size", type=int, help="start a fine-tuning at this size: positions are resized")
    parser.add_argument("--window", type=int, help="Swin's window at that size")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    chosen = parser.parse_args(arguments)
    try:
        print(convert(chosen))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(chosen: argparse.Namespace) -> str:
    """Read, rename, resize if asked, load strictly, write; returns what was done in a line."""
    checkpoint = load_checkpoint_file(chosen.checkpoint)
    state = checkpoint.get("model", checkpoint)
    image = read_image_sizes(chosen.vision_config, state)
    text = read_text_sizes(chosen.text_config)
    weights = convert_official(state, image, text)
    if chosen.image_size is not None:
        image = replace(image, image_size=chosen.image_size)
        if isinstance(image, SwinSizes) and chosen.window is not None:
            image = replace(image, window=chosen.window)
        weights = resize_weights(weights, image)
    facts = XVLMFacts(
        builder="xvlm",
        arguments=weights.arguments,
        vocabulary=read_vocabulary(chosen.vocabulary) if chosen.vocabulary else (),
        max_tokens=min(XVLMFacts.max_tokens, text.positions),
        trained_on=f"official checkpoint {chosen.checkpoint.name}",
    )
    if facts.vocabulary:
        facts.make_tokens()
    model = xvlm(**weights.arguments)
    try:
        model.load_state_dict(weights.state_dict, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{chosen.checkpoint} does not fit the given configurations: {reason}") from error
    save_model(model, facts, chosen.out)
    return f"{chosen.out}: {weights.summary}; for {WANTED_BY[facts.task]}"


if __name__ == "__main__":
    sys.exit(main())
