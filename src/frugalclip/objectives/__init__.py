"""Objectives: one file each; see `base`."""
