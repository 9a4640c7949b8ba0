"""Blocks that two rooms use."""
