"""Query: one question to a scorer; Answer: to one query; Answers: to a batch, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from momok.model.arrays import Float32, Int64
from momok.model.explanation import Explanations
from momok.model.retrieval.ranking import Ranking, Rankings


@dataclass(frozen=True, eq=False)
class Query:
    """``entity`` and ``relation`` in [0, 2R) ask for the best ``k`` tails.

    ``candidates``: all entities (None), those known to answer any query of the relation (``"observed"``), or
    these ids (int64).
    """

    entity: int
    relation: int
    k: int
    exclude_known: bool = True
    candidates: Literal["observed"] | Int64 | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """A ranking, and the fields of the ``Explanation`` of its query.

    ``num_excluded`` known answers were kept out; ``seconds``: of its batch, to ``encode``, ``search`` and
    ``rescore``.
    """

    query: Query
    ranking: Ranking
    modality_weights: Float32
    expert_gates: Mapping[str, Float32 | None]
    relation_temperature: float | None
    num_excluded: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answers:
    """One a query, in order; ``answers[row]`` and iterating make each an ``Answer``.

    ``num_excluded``: one a query; ``seconds``: of the whole batch.
    """

    queries: Sequence[Query]
    rankings: Rankings
    explanations: Explanations
    num_excluded: Sequence[int]
    seconds: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, row: int) -> Answer:
        query, excluded = self.queries[row], self.num_excluded[row]
        return Answer(query, self.rankings[row], *self.explanations[row], excluded, self.seconds)

    def __iter__(self) -> Iterator[Answer]:
        return map(self.__getitem__, range(len(self)))

    def taken(self, rows: Sequence[int]) -> Answers:
        """The answers of some rows, in their order."""
        if list(rows) == list(range(len(self))):
            return self
        return Answers(
            [self.queries[row] for row in rows],
            self.rankings.taken(rows),
            self.explanations.taken(rows),
            [self.num_excluded[row] for row in rows],
            self.seconds,
        )
