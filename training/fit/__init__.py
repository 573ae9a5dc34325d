"""Fit: from a recipe and a dataset to a run. May import `data`, `objectives` and `evaluation`."""
