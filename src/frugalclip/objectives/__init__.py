"""Floor 3: supervision signals, one file each. See `base`."""
