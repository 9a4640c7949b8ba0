"""Numbers in, numbers out: average precision of base, novel and all names.

In:  a COCO-format ground truth, rows of a COCO result file.   Out: percentages by name.
"""
