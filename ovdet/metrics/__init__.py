"""Numbers in, numbers out: average precision of base, novel and all names."""
