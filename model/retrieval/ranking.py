"""Ranking: the answer to one query; Rankings: those of a batch, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from typing import Self

import numpy as np

from momok.model.arrays import Float64, Int64


@dataclass(frozen=True, eq=False)
class Ranking:
    """The answer to one query, best first by float64 score; ties by entity id.

    ``entities`` int64[C], ``scores`` float64[C], ``branch_values`` float64[C, branches] in the unit of the
    fusion, C ≤ k. ``exact``: these provably are the best. ``engine`` says how they were found.
    """

    entities: Int64
    scores: Float64
    branch_values: Float64
    exact: bool
    engine: str


@dataclass(frozen=True, eq=False)
class Rankings:
    """Rankings one after the other; ``rankings[row]`` and iterating give each as a ``Ranking``.

    ``bounds``, B + 1 of them: row ``b`` has ``entities[bounds[b]:bounds[b + 1]]``, and so on. Columns spare
    an object a query.
    """

    bounds: list[int]
    entities: Int64
    scores: Float64
    branch_values: Float64
    exact: list[bool]
    engines: list[str]

    @classmethod
    def joined(cls, parts: Sequence[Rankings]) -> Self:
        """All of them, part after part."""
        return cls(
            list(accumulate(chain.from_iterable(part.counts for part in parts), initial=0)),
            np.concatenate([part.entities for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.branch_values for part in parts]),
            [exact for part in parts for exact in part.exact],
            [engine for part in parts for engine in part.engines],
        )

    @property
    def counts(self) -> list[int]:
        """How many candidates each has."""
        return [stop - start for start, stop in pairwise(self.bounds)]

    def __len__(self) -> int:
        return len(self.exact)

    def __getitem__(self, row: int) -> Ranking:
        row = range(len(self))[row]
        candidates = slice(self.bounds[row], self.bounds[row + 1])
        return Ranking(
            self.entities[candidates],
            self.scores[candidates],
            self.branch_values[candidates],
            self.exact[row],
            self.engines[row],
        )

    def __iter__(self) -> Iterator[Ranking]:
        return map(self.__getitem__, range(len(self)))

    def at_least(self, least: Sequence[float | None]) -> Rankings:
        """Of each the candidates that score at least so much; None for all of them."""
        if all(score is None for score in least):
            return self
        least_P = np.repeat([-np.inf if score is None else score for score in least], self.counts)
        enough_P = self.scores >= least_P
        ends = np.concatenate([[0], np.cumsum(enough_P)])
        return replace(
            self,
            bounds=ends[self.bounds].tolist(),
            entities=self.entities[enough_P],
            scores=self.scores[enough_P],
            branch_values=self.branch_values[enough_P],
        )

    def taken(self, rows: Sequence[int]) -> Rankings:
        """Those of some rows, in their order."""
        if list(rows) == list(range(len(self))):
            return self
        spans = [range(self.bounds[row], self.bounds[row + 1]) for row in rows]
        place_P = np.fromiter(chain.from_iterable(spans), dtype=np.int64)
        return Rankings(
            list(accumulate(map(len, spans), initial=0)),
            self.entities[place_P],
            self.scores[place_P],
            self.branch_values[place_P],
            [self.exact[row] for row in rows],
            [self.engines[row] for row in rows],
        )
