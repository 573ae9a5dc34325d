"""Objectives: what a model is trained to do, and everything that exists only to train it.

May import no other wing of training.
"""

from momok.training.objectives import adamf as _adamf  # noqa: F401  (registers the objectives)
from momok.training.objectives import mocme as _mocme  # noqa: F401
from momok.training.objectives import momok as _momok  # noqa: F401
