"""Floor 4: the step, the trainer, the optimiser and the checkpoints."""
