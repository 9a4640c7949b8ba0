"""X-VLM: sentences and pictures, or parts of pictures, aligned at every grain, with a box for each sentence.

In:  square images (B, 3, S, S) and sentences.   Out: one `Grounding` a sentence; also matching and retrieval scores.
Paper: arXiv:2111.08276. Read model.py first, then images.py and text.py; losses.py, masking.py and training.py run in
training only, tasks.py holds the models for questions, pairs and captions. build.py puts it together, weights.py keeps
our checkpoints and official.py reads foreign ones, predict.py is the desk.
"""
