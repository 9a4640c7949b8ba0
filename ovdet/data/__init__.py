"""Readers and transforms of training and evaluation data: COCO-format detection with base and novel names.

In:  annotation files, pictures, proposals.   Out: what mmdet's models take (`inputs`, `data_samples`).
Read coco.py first, then splits.py; sampling.py makes runs repeatable; shapes.py generates a small data set.
"""
