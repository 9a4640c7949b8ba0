"""The only room that knows mmengine's Runner: configs, checkpoints, resume, distributed runs."""
