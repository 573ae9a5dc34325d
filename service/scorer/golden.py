"""Golden queries: a bundle that is served must answer as it did when it was exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from momok.model.answer import Answer, Query
from momok.model.bundle.bundle import BundleError
from momok.model.bundle.catalogue import Catalogue

TOLERANCE = 1e-3
"""Largest difference of a golden score, relative to the largest, between machines of different arithmetic."""


def check_golden(bundle: Catalogue, answer: Callable[[Sequence[Query]], Iterable[Answer]]) -> None:
    """Ask the golden queries. Raises ``BundleError``."""
    golden = bundle.manifest.golden
    best = [Query(item.entity, item.relation, len(item.entities), False) for item in golden]
    # Asked of these very entities too: the best of a table in another order would score the same.
    named = [replace(q, candidates=np.array(g.entities)) for q, g in zip(best, golden, strict=True)]
    for item, first, second in zip(golden, answer(best), answer(named), strict=True):
        allowed = TOLERANCE * max(1.0, *map(abs, item.scores))
        given = dict(zip(second.ranking.entities.tolist(), second.ranking.scores.tolist(), strict=True))
        named_scores = [given.get(e, np.inf) for e in item.entities]
        best_scores = first.ranking.scores.tolist() if first.ranking.exact else named_scores
        for found in (best_scores, named_scores):
            if len(found) != len(item.scores) or not np.allclose(found, item.scores, 0, allowed):
                raise BundleError(
                    f"{bundle.path}: a golden query scores {found[0]:.6g} here and "
                    f"{item.scores[0]:.6g} where the bundle was exported; export it again"
                )
