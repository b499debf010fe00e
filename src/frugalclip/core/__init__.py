"""Types, encoders, configuration, records, jobs, randomness, distribution and errors; imports only itself."""
