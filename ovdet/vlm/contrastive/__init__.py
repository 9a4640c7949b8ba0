"""Backbones that put pictures and texts into one space: CLIP through open_clip, and ImageNet words (ConSE)."""
