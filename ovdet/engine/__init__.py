"""The only room that knows mmengine's Runner: configs, hooks, checkpoints, resume, distributed runs.

In:  a config file, which brings rooms, data and metrics by import.   Out: a work directory; metrics.
Read train.py first, then launch.py and hooks.py; test.py measures a checkpoint.
"""
