"""Words without training: boxes and masks from the dense maps of a vision-language backbone.

In:  pictures, a class-embedding table.   Out: one `Detections` a picture.
Read predict.py first. ConSE: Norouzi et al. 2014 (arXiv:1312.5650);
dense classification maps: Zhou et al. 2016 (arXiv:1512.04150).
"""
