"""The zoo: vision-language backbones behind one contract.

In:  pictures (B, 3, H, W) in [0, 1] RGB, and texts.   Out: vectors of one space, for pictures, regions, maps and texts.
Read base.py first, then zoo.py; prompts.py turns class names into cached class embeddings,
dense.py maps into regions and scores.
"""
