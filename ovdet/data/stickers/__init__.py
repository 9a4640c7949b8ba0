"""The offline world: scenes of stickers by several artists, with names, exact masks and sentences.

In:  a sprite pack (tools/data/pack_stickers.py), a seed and an index.   Out: scenes, crops, or a COCO folder.
Read scenes.py first, then sprites.py and expressions.py; curation.py made the names and splits of vocabulary.json.
"""
