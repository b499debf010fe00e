"""Evaluation tasks and metrics of a model, with chance, intervals and baselines."""
