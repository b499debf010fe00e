"""Floor 0: types, configuration, run records, randomness, distribution, errors. Imports nothing of the project."""
