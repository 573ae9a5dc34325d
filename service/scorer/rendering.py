"""Renderer: the answers of a batch as JSON, as in a ``PredictResponse``, without making one.

Building the models and dumping them takes as long as scoring does, and a dict for each candidate a fifth of
that. So a batch is written column by column: numbers become text all at once, what a candidate always says of
itself is written once and kept, and the pieces are laid side by side and joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from operator import attrgetter
from typing import NamedTuple

import orjson

from momok.model.answer import Answers, Query
from momok.model.bundle.bundle import Bundle
from momok.model.explanation import Explanation, explanation_out
from momok.model.filter_index import first_split
from momok.model.retrieval.ranking import Rankings
from momok.service.scorer.explanations import ExplanationWriter
from momok.service.scorer.json_numbers import texts
from momok.service.scorer.question import Question

KEPT = 50_000
"""Entities whose JSON is kept, some hundred bytes each."""
CODES = 8
"""Sets of splits that a candidate can be known from, each a code of three bits."""

_MARKS = [b',"known":%b' % orjson.dumps(code > 0 and first_split(code)) for code in range(CODES)]
_UNEXPLAINED = [
    mark + b',"branch_scores":null,"modality_weights":null,"expert_gates":null}' for mark in _MARKS
]


class _Entity(NamedTuple):
    """JSON of an entity: its names, alone and as a candidate; its weights and gates as a candidate."""

    named: bytes
    offered: bytes
    trusted: bytes


_OFFERED, _TRUSTED = attrgetter("offered"), attrgetter("trusted")


class Renderer:
    """Writes answers from one bundle; any number of threads may use one."""

    def __init__(self, bundle: Bundle) -> None:
        names, trusted = bundle.vocabulary, bundle.candidates
        self._known = bundle.known
        self._entities, self._num_relations = names.entities, bundle.num_relations
        self._relations = [
            _named(key, label)
            for key, label in zip(names.relations.keys, names.relations.labels, strict=True)
        ]
        self._modalities = bundle.modality_names
        self._explanations = ExplanationWriter(self._modalities)
        first, *others = [b'"%b":' % orjson.dumps(name)[1:-1] for name in bundle.branch_names]
        self._explained = [mark + b',"branch_scores":{' + first for mark in _MARKS]
        self._other_branches = [b"," + branch for branch in others]
        self._present_NM = bundle.present
        self._weights_NM = trusted.modality_weights.cpu().numpy()
        self._gates = {name: rows.cpu().numpy() for name, rows in trusted.expert_gates.items()}
        self._kept: dict[int, _Entity] = {}

    def write(self, questions: Sequence[Question], answers: Answers) -> list[bytes]:
        """Each as one of the answers of a response, in order."""
        written = [b""] * len(questions)
        for explain in (True, False):
            rows = [row for row, question in enumerate(questions) if question.explain == explain]
            if rows:
                least = [questions[row].min_score for row in rows]
                for row, text in zip(rows, self._batch(answers.taken(rows), least, explain), strict=True):
                    written[row] = text
        return written

    def _batch(self, answers: Answers, least: Sequence[float | None], explain: bool) -> Iterator[bytes]:
        lists = self._candidates(answers.queries, answers.rankings.at_least(least), explain)
        rest = self._explanations.write(answers, explain)
        for query, candidates, end in zip(answers.queries, lists, rest, strict=True):
            yield b'{"query":%b,"candidates":[%b],%b' % (self._asked(query), candidates, end)

    def _asked(self, query: Query) -> bytes:
        given = self._entity(query.entity).named
        relation = self._relations[query.relation % self._num_relations]
        if query.relation < self._num_relations:
            return b'{"head":%b,"relation":%b,"tail":null,"missing":"tail"}' % (given, relation)
        return b'{"head":null,"relation":%b,"tail":%b,"missing":"head"}' % (relation, given)

    def _candidates(self, queries: Sequence[Query], rankings: Rankings, explain: bool) -> list[bytes]:
        """The candidates of each answer, without the brackets."""
        pieces = self._pieces(rankings.entities.tolist())
        marked = self._explained if explain else _UNEXPLAINED
        columns: list[list[bytes]] = [
            list(chain.from_iterable(map(_ranks, rankings.counts))),
            list(map(_OFFERED, pieces)),
            texts(rankings.scores),
            [marked[code] for code in self._codes(queries, rankings)],
        ]
        if explain:
            values, width = texts(rankings.branch_values), rankings.branch_values.shape[1]
            columns.append(values[::width])
            for place, name in enumerate(self._other_branches, start=1):
                columns += [[name] * len(pieces), values[place::width]]
            columns.append(list(map(_TRUSTED, pieces)))
        return _side_by_side(columns, rankings.bounds)

    def _pieces(self, entities: Sequence[int]) -> list[_Entity]:
        try:
            return list(map(self._kept.__getitem__, entities))  # Without a call of ours for each.
        except KeyError:
            return list(map(self._entity, entities))

    def _codes(self, queries: Sequence[Query], rankings: Rankings) -> list[int]:
        """Of each candidate, whether and from where it is known."""
        codes = [0] * len(rankings.entities)
        for query, (start, stop) in zip(queries, pairwise(rankings.bounds), strict=True):
            if not query.exclude_known:
                candidates = rankings.entities[start:stop]
                codes[start:stop] = self._known.split_codes(query.entity, query.relation, candidates).tolist()
        return codes

    def _entity(self, entity: int) -> _Entity:
        if (found := self._kept.get(entity)) is not None:
            return found
        present = dict(zip(self._modalities, self._present_NM[entity].tolist(), strict=True))
        gates = {name: rows[entity] if present[name] else None for name, rows in self._gates.items()}
        trusted = explanation_out(self._modalities, Explanation(self._weights_NM[entity], gates, None))
        named = _named(self._entities.keys[entity], self._entities.labels[entity])
        weights, rows = (orjson.dumps(trusted[name]) for name in ("modality_weights", "expert_gates"))
        made = _Entity(
            named, b'%b,"score":' % named, b'},"modality_weights":%b,"expert_gates":%b}' % (weights, rows)
        )
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[entity] = made
        return made


@lru_cache(maxsize=64)
def _ranks(count: int) -> list[bytes]:
    return [b'%b{"rank":%d,"entity":' % (b"," if rank else b"", rank + 1) for rank in range(count)]


def _side_by_side(columns: Sequence[list[bytes]], bounds: Sequence[int]) -> list[bytes]:
    """Rows of one piece from each column, joined for each answer, which has those between two bounds."""
    width = len(columns)
    pieces = [b""] * (width * len(columns[0]))
    for place, column in enumerate(columns):
        pieces[place::width] = column
    return [b"".join(pieces[width * start : width * stop]) for start, stop in pairwise(bounds)]


def _named(key: str, label: str) -> bytes:
    # Copied: what orjson gives was cut out of a kilobyte, and kept it would keep the rest from being used.
    return bytes(bytearray(orjson.dumps({"key": key, "label": label})))
