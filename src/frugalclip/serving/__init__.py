"""Search an index of images by words, by an image or by both, and serve it over HTTP."""
