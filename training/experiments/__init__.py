"""Experiments: grids, sweeps and robustness. May import `data`, `fit`, `evaluation` and `export`."""
