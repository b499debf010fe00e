"""Floor 3: numbers about a model, with the floors they stand on."""
