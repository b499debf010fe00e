"""Smaller networks: gates that are learned, and changes of the network between the stages of a run."""
