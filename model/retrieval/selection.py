"""Selection: which candidates a query wants; Proposal: those that an engine found for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from momok.model.arrays import Bool, Float64, Int64


@dataclass(frozen=True, eq=False)
class Selection:
    """The best ``k`` of ``candidates`` (all where None) not ``excluded``; both int64, sorted, distinct."""

    k: int
    excluded: Int64
    candidates: Int64 | None = None

    def __post_init__(self) -> None:
        assert self.k >= 1, "a query asks for at least one candidate"

    def allowed(self, num_entities: int) -> Bool:
        """bool[N]: the entities that may be answered."""
        allowed_N = np.full(num_entities, self.candidates is None)
        if self.candidates is not None:
            allowed_N[self.candidates] = True
        allowed_N[self.excluded] = False
        return allowed_N


@dataclass(frozen=True, eq=False)
class Proposal:
    """Pairs ``rows``, ``entities`` (int64[P], rows ascending), each once, all of them allowed.

    ``ceilings`` float64[B]: no candidate left out of a row scores more than this; -inf where none left out
    can be among the best k, NaN where nothing is known of them.
    """

    rows: Int64
    entities: Int64
    ceilings: Float64


def excluded_pairs(selections: Sequence[Selection]) -> tuple[Int64, Int64]:
    """All excluded entities as pairs (row, entity), rows ascending."""
    counts = [len(selection.excluded) for selection in selections]
    row_P = np.repeat(np.arange(len(selections)), counts)
    return row_P, np.concatenate([selection.excluded for selection in selections])


def gathered(selections: Sequence[Selection]) -> Proposal:
    """All candidates that each query names, without the excluded."""
    lists = []
    for selection in selections:
        assert selection.candidates is not None
        lists.append(np.setdiff1d(selection.candidates, selection.excluded, assume_unique=True))
    row_P = np.repeat(np.arange(len(selections)), [len(given) for given in lists])
    return Proposal(row_P, np.concatenate(lists), np.full(len(selections), -np.inf))
