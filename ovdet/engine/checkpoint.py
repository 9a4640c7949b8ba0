"""mmengine's checkpoint loading, made safe: the one place where mmengine is patched.

mmengine 0.10 cannot resume its own checkpoints on torch >= 2.6, and what it downloads it unpickles. After
`install()` every file, local or downloaded, is read by `ovdet.compat.checkpoints`: weights and mmengine's training
state, and nothing is run.
"""

from __future__ import annotations

import os
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.runner import CheckpointLoader

from ovdet.compat import checkpoints


def install() -> None:
    """Make mmengine's Runner load, resume and download checkpoints safely; idempotent.

    Training and testing tools call it before they build a Runner. Two things are replaced in
    `mmengine.runner.checkpoint`: the loader of local files, and `load_url`, which its loaders of http(s)://,
    torchvision://, open-mmlab:// and mmcls:// addresses call. The loaders of pavi:// and s3:// are left to
    `torch.load`, which refuses what is not weights.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    mmengine_checkpoint.load_url = load_url


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint from a file; mmengine logs this function's name.

    Raises:
        InputError: See `ovdet.compat.checkpoints.load`.
    """
    return checkpoints.load(filename, map_location=map_location)


def load_url(
    url: str,
    model_dir: str | os.PathLike[str] | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
) -> dict[str, Any]:
    """Download a checkpoint once and read it; the arguments are those of `torch.hub.load_state_dict_from_url`.

    Raises:
        InputError: The address cannot be reached, or the file is not a checkpoint of weights.
    """
    with checkpoints.safe_loading(url):
        return torch.hub.load_state_dict_from_url(
            url, model_dir, map_location, progress, check_hash, file_name, weights_only=True
        )
