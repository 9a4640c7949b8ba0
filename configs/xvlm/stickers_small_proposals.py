"""The small X-VLM of stickers_small.py, which chooses among boxes of the sticker detector instead of drawing its own.

python tools/data/sticker_proposals.py --scenes 1010 --out data/sticker_proposals.npz
python tools/test.py configs/xvlm/stickers_small_proposals.py ovdet/xvlm/stickers.safetensors --out results.json
OVDET_STICKERS must name the sprite pack (docs/stickers.md). For a held-out style give --styles twemoji to the first
and --cfg-options test_dataloader.dataset.styles=twemoji to the second.
Here: 2026-11-22 (docs/results.md): names 62.8 base, 58.2 novel; superlatives 54.1, relations 49.1 base.
"""

from mmengine.config import read_base

with read_base():
    from .stickers_small import *

test_dataloader.dataset.update(proposals="data/sticker_proposals.npz")
