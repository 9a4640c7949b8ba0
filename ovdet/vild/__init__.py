"""ViLD: a two-stage detector whose box classifier is a table of text embeddings (arXiv:2104.13921).

In:  images (B, 3, H, W), a class-embedding table (K, D).   Out: one `Detections` a picture.
Read model.py first, then roi_head.py; losses.py and the teacher run in training only. The only room that knows mmdet.
"""
