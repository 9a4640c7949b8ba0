"""The teacher's embeddings of a whole data set, made once and read in training: halves in memory-mapped blocks.

In:  pictures, proposals and a teacher.   Out: a folder that says what it is, and rows by picture id.
Read facts.py (what a store says about itself), then reader.py; folder.py writes, making.py runs the extraction.
"""
