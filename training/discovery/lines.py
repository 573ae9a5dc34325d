"""Facts that a discovery has found, and their lines, as JSON or as rows of a table.

Axes: P found facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import orjson

from momok.model.answer import Answers, Query
from momok.model.arrays import Float64, Int64
from momok.model.bundle.bundle import Bundle
from momok.model.explanation import DECIMALS, Explanation, explanation_out

Format = Literal["jsonl", "tsv"]

COLUMNS = (
    "head", "relation", "tail", "head_label", "relation_label", "tail_label", "missing", "rank", "score",
    "exact", "modality_weights", "expert_gates", "relation_temperature",
)  # fmt: skip


class Asked(NamedTuple):
    """A query, whether its candidates provably are the best, and its explanation."""

    query: Query
    exact: bool
    explanation: Explanation


@dataclass(frozen=True, eq=False)
class Facts:
    """Candidates of answers, as columns.

    ``rows`` int64[P]: the place of a candidate's query in ``asked``; ``ranks`` int64[P], from 1;
    ``entities`` int64[P]; ``scores`` float64[P].
    """

    asked: Sequence[Asked]
    rows: Int64
    ranks: Int64
    entities: Int64
    scores: Float64

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """All candidates of a batch."""
        rankings = answers.rankings
        row_P = np.repeat(np.arange(len(answers)), rankings.counts)
        rank_P = np.arange(1, len(row_P) + 1) - np.array(rankings.bounds)[row_P]
        triples = zip(answers.queries, rankings.exact, answers.explanations, strict=True)
        return cls(list(starmap(Asked, triples)), row_P, rank_P, rankings.entities, rankings.scores)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Facts) -> Facts:
        return Facts(
            [*self.asked, *other.asked],
            np.concatenate([self.rows, other.rows + len(self.asked)]),
            np.concatenate([self.ranks, other.ranks]),
            np.concatenate([self.entities, other.entities]),
            np.concatenate([self.scores, other.scores]),
        )

    def least(self, score: float) -> Facts:
        """The facts with at least this score."""
        return self._taken(np.flatnonzero(self.scores >= score))

    def best(self, number: int) -> Facts:
        """This many of them, best first; of equal scores the query that was asked first stays."""
        return self._taken(np.argsort(-self.scores, kind="stable")[:number])

    def _taken(self, place_P: Int64) -> Facts:
        """Queries without a fact are dropped."""
        rows, row_P = np.unique(self.rows[place_P], return_inverse=True)
        asked = [self.asked[row] for row in rows.tolist()]
        return Facts(asked, row_P, self.ranks[place_P], self.entities[place_P], self.scores[place_P])


class Lines:
    """Renders facts; the explanation of a query is rendered once for all its candidates."""

    def __init__(self, bundle: Bundle, line_format: Format) -> None:
        self._json = line_format == "jsonl"
        self._entities, self._relations = bundle.vocabulary.entities, bundle.vocabulary.relations
        self._num_relations = bundle.model.config.num_relations
        self.modality_names = bundle.model.modality_names
        self.gated_modalities = bundle.model.gated_modalities

    @property
    def header(self) -> bytes:
        """The first line of a table; JSON has none."""
        return b"" if self._json else "\t".join(COLUMNS).encode() + b"\n"

    def render(self, facts: Facts) -> bytes:
        """A line a fact."""
        rows = self._rows(facts)
        if self._json:
            return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        # Names hold no tab and no line end (training.data.checks), so a table takes them as they are.
        return "".join("\t".join(map(_cell, row.values())) + "\n" for row in rows).encode()

    def _rows(self, facts: Facts) -> Iterator[dict[str, Any]]:
        entities, relations = self._entities, self._relations
        explanations = [self._explanation(asked) for asked in facts.asked]
        columns = (facts.rows.tolist(), facts.ranks.tolist(), facts.entities.tolist(), facts.scores.tolist())
        for place, rank, entity, score in zip(*columns, strict=True):
            query = facts.asked[place].query
            asks_head = query.relation >= self._num_relations
            head, tail = (entity, query.entity) if asks_head else (query.entity, entity)
            relation = query.relation % self._num_relations
            yield {
                "head": entities.keys[head],
                "relation": relations.keys[relation],
                "tail": entities.keys[tail],
                "head_label": entities.labels[head],
                "relation_label": relations.labels[relation],
                "tail_label": entities.labels[tail],
                "missing": "head" if asks_head else "tail",
                "rank": rank,
                "score": score,
                **explanations[place],
            }

    def _explanation(self, asked: Asked) -> dict[str, Any]:
        """The last columns, the same for all candidates of a query; weights and gates as written JSON."""
        explanation = explanation_out(self.modality_names, asked.explanation)
        if explanation["relation_temperature"] is not None:
            explanation["relation_temperature"] = round(explanation["relation_temperature"], DECIMALS)
        for name in ("modality_weights", "expert_gates"):
            if explanation[name] is not None:
                explanation[name] = orjson.Fragment(orjson.dumps(explanation[name]))
        return {"exact": asked.exact, **explanation}


def compact(value: Any) -> str:
    """JSON without blanks; letters of any script stay as they are."""
    return orjson.dumps(value).decode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else compact(value)
