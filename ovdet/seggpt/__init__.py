"""SegGPT: segmentation in context by an in-painter (arXiv:2304.03284).

In:  example pictures with their masks, a target picture.   Out: one `Detections` with masks a target.
Read model.py first, then blocks.py and attention.py; decoder.py turns tokens into colours. examples.py and
colours.py say what an example is and how masks become colours and back, postprocess.py makes masks of soft maps.
build.py holds the sizes, weights.py reads both published layouts, predict.py is the desk.
"""
