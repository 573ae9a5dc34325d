"""Export: from a run to a bundle, its index and its metrics. May import `data`, `fit` and `evaluation`."""
