"""Foreign data formats, one file each: how a format is recognised, and how it is read."""
