"""Training: recipes, the stages of a run, the loop, the step, the optimiser and the checkpoints."""
