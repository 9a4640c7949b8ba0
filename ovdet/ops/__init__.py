"""Pure functions on boxes and masks: no state, no nn.Module.

In:  tensors or arrays whose name says their frame.   Out: the same.
`boxes.py` for torch boxes (what torchvision.ops has is used from there), `masks.py` for COCO run lengths.
"""
