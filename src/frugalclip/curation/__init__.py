"""Curation: which rows of a data set to train on, and a ledger that gives every row's fate and its reason."""
