"""Floor 5: one file a verb; orchestration only."""
