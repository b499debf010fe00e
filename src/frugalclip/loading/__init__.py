"""Batches: images and text views, sampling, and the loader."""
