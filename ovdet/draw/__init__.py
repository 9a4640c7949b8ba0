"""Boxes, masks and labels on a picture.

In:  (H, W, 3) uint8 RGB and its `Detections`.   Out: a copy with everything drawn on it.
Read painter.py first; fonts.py finds a font for a text, bidi.py orders right-to-left text where Pillow cannot.
"""

from ovdet.draw.painter import draw_detections

__all__ = ["draw_detections"]
