"""Vectors of a data set: the store on disk, its writer, and the cache in front of an encoder."""
