"""Facts: what a discovery has found, as columns, so that a batch of them is chosen and rendered at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from momok.model.answer import Answer, Answers
from momok.model.arrays import Float64, Int64


@dataclass(frozen=True)
class Facts:
    """Candidates that answers offer, as columns.

    ``rows`` int64[P]: the place in ``answers`` of the one that offers it; ``ranks`` int64[P], from 1;
    ``entities`` int64[P]; ``scores`` float64[P].
    """

    answers: Sequence[Answer]
    rows: Int64
    ranks: Int64
    entities: Int64
    scores: Float64

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """All that they offer."""
        rankings = answers.rankings
        row_P = np.repeat(np.arange(len(answers)), rankings.counts)
        rank_P = np.arange(1, len(row_P) + 1) - np.array(rankings.bounds)[row_P]
        return cls(list(answers), row_P, rank_P, rankings.entities, rankings.scores)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Facts) -> Facts:
        return Facts(
            [*self.answers, *other.answers],
            np.concatenate([self.rows, other.rows + len(self.answers)]),
            np.concatenate([self.ranks, other.ranks]),
            np.concatenate([self.entities, other.entities]),
            np.concatenate([self.scores, other.scores]),
        )

    def least(self, score: float) -> Facts:
        """Those that score at least so much."""
        return self._taken(np.flatnonzero(self.scores >= score))

    def best(self, number: int) -> Facts:
        """So many of them, best first; of equal scores the query that was asked first stays."""
        return self._taken(np.argsort(-self.scores, kind="stable")[:number])

    def _taken(self, place_P: Int64) -> Facts:
        """Answers that nothing is taken of are let go, and of others their lists, parts of a batch's."""
        rows, row_P = np.unique(self.rows[place_P], return_inverse=True)
        answers = [_without_list(self.answers[row]) for row in rows.tolist()]
        return Facts(answers, row_P, self.ranks[place_P], self.entities[place_P], self.scores[place_P])


def _without_list(answer: Answer) -> Answer:
    nobody, nothing = np.empty(0, dtype=np.int64), np.empty(0)
    ranking = replace(answer.ranking, entities=nobody, scores=nothing, branch_values=nothing)
    return replace(answer, ranking=ranking)
