"""Models in the formats of other libraries: one file a target, each with a measured parity."""
