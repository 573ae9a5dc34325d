"""Evaluation: filtered ranks and what the gates do. May import no other wing of training."""
