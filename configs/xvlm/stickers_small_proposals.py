"""The small X-VLM of stickers_small.py, which chooses among boxes of the sticker detector instead of drawing its own.

python tools/data/sticker_proposals.py --scenes 1010 --out data/sticker_proposals.npz
python tools/test.py configs/xvlm/stickers_small_proposals.py ovdet/xvlm/stickers.safetensors --out results.json
OVDET_STICKERS must name the sprite pack (docs/stickers.md). For a held-out style give --styles twemoji to the first
and --cfg-options test_dataloader.dataset.styles=twemoji to the second.
Without the closer look at each box: --cfg-options "model.task.fit_weights=[1,-0.25,5,2.5,4]".
Here: 2026-11-30 (docs/results.md): names 81.9 base, 78.1 novel; superlatives 66.0, relations 56.2 base.
"""

from mmengine.config import read_base

with read_base():
    from .stickers_small import *

test_dataloader.dataset.update(proposals="data/sticker_proposals.npz")
