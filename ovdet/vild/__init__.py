"""ViLD: a two-stage detector whose box classifier is a table of text embeddings (arXiv:2104.13921).

In:  images (B, 3, H, W), a class-embedding table (K, D).   Out: one `Detections` a picture.
Read model.py first, then roi_head.py and heads.py; losses.py and teacher.py run in training only, fusion.py and
select.py at test time only. build.py puts it together, predict.py is the desk. The only room that knows mmdet.
"""
