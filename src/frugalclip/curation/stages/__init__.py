"""The stages of plans: one file each, found by its name. See `curation.base`."""
