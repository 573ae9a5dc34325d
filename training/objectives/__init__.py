"""Objectives: what a model is trained to do, and everything that exists only to train it.

May import no other wing of training.
"""
