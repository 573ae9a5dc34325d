"""Data: the dataset directory, read, checked, reported and written. May import no other wing of training."""
