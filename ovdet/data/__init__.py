"""Readers and transforms of training and evaluation data.

In:  annotation files and pictures, or a seed.   Out: what a training loop takes.
Read coco.py first (detection with base and novel names), then transforms.py; `stickers/` is the offline world,
shapes.py its tiny cousin for tests. Segmentation by example: contexts.py, in_context.py, then episodes.py.
"""
