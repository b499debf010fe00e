"""Floor 1: encoders.

Heads used at inference live here too; heads used in training only belong to their objective.
"""
