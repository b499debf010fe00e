"""Pretrained encoders by their source, one file a kind: what a tower of kind `pretrained` computes with."""
