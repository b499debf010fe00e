"""Floor 1: data sets: manifests, sources, tokens, views and the loader."""
