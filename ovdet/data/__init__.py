"""Readers and transforms of training and evaluation data. COCO-format detection with base and novel names first."""
