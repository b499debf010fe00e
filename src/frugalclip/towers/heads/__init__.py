"""Heads: from the output of a tower or a backbone to an embedding. One file each."""
