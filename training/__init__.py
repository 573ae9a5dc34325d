"""Everything offline: datasets, recipes, training, evaluation and export."""
