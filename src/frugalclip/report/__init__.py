"""Floor 4: one self-contained HTML page for a run."""
