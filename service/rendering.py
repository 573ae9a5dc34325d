"""Renderer: the answers of a batch as JSON, as in a ``PredictResponse``, without making one.

Building the models and dumping them takes as long as scoring does, and a dict for each candidate a fifth of
that. So a batch is written column by column: numbers become text all at once, what a candidate always says of
itself is written once and kept, and the pieces are laid side by side and joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from model.bundle import Bundle
from model.known import first_split
from model.scorer import Answer, Query
from model.trust import trust_out, trusts_out
from service.question import Question

KEPT = 50_000
"""Entities whose JSON is kept, some hundred bytes each."""
CODES = 8
"""Sets of splits that a candidate can be known from, each a code of three bits."""

_MARKS = [b',"known":%b' % orjson.dumps(code > 0 and first_split(code)) for code in range(CODES)]
_UNEXPLAINED: dict[str, Any] = {
    "modality_weights": None,
    "expert_gates": None,
    "relation_temperature": None,
}
_UNEXPLAINED_CANDIDATE = b',"branch_scores":null,"modality_weights":null,"expert_gates":null}'


class _Entity(NamedTuple):
    """Pieces of JSON that are ready: who it is, alone and as a candidate; what it is trusted for as one."""

    named: bytes
    offered: bytes
    trusted: bytes


_OFFERED, _TRUSTED = attrgetter("offered"), attrgetter("trusted")


class Renderer:
    """Writes answers from one bundle; any number of threads may use one."""

    def __init__(self, bundle: Bundle) -> None:
        names, described, trusted = bundle.vocabulary, bundle.described(), bundle.candidates
        self._known = bundle.known
        self._entities, self._num_relations = names.entities, described.num_relations
        self._relations = [
            _named(key, label)
            for key, label in zip(names.relations.keys, names.relations.labels, strict=True)
        ]
        self._modalities = described.modality_names
        branches = [b'"%b":' % orjson.dumps(name)[1:-1] for name in described.branch_names]
        self._branches = [b',"branch_scores":{' + branches[0], *(b"," + branch for branch in branches[1:])]
        self._present_NM = described.present
        self._weights_NM = trusted.modality_weights.cpu().numpy()
        self._gates = {name: rows.cpu().numpy() for name, rows in trusted.expert_gates.items()}
        self._kept: dict[int, _Entity] = {}

    def write(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[bytes]:
        """Each as one of the answers of a response, in order."""
        written = [b""] * len(questions)
        for explain in (True, False):
            rows = [row for row, question in enumerate(questions) if question.explain == explain]
            if rows:
                batch = self._batch([questions[row] for row in rows], [answers[row] for row in rows], explain)
                for row, text in zip(rows, batch, strict=True):
                    written[row] = text
        return written

    def _batch(
        self, questions: Sequence[Question], answers: Sequence[Answer], explain: bool
    ) -> Iterator[bytes]:
        trusted = trusts_out(self._modalities, answers) if explain else [_UNEXPLAINED] * len(answers)
        lists = self._candidates(questions, answers, explain)
        for answer, candidates, trust in zip(answers, lists, trusted, strict=True):
            rest = orjson.dumps({**trust, "exact": answer.ranking.exact, "engine": answer.ranking.engine})
            yield b'{"query":%b,"candidates":[%b],%b' % (self._asked(answer.query), candidates, rest[1:])

    def _asked(self, query: Query) -> bytes:
        given = self._entity(query.entity).named
        relation = self._relations[query.relation % self._num_relations]
        if query.relation < self._num_relations:
            return b'{"head":%b,"relation":%b,"tail":null,"missing":"tail"}' % (given, relation)
        return b'{"head":null,"relation":%b,"tail":%b,"missing":"head"}' % (relation, given)

    def _candidates(
        self, questions: Sequence[Question], answers: Sequence[Answer], explain: bool
    ) -> list[bytes]:
        """The candidates of each answer, without the brackets."""
        counts = [_count(question, answer) for question, answer in zip(questions, answers, strict=True)]
        rankings = [(answer.ranking, count) for answer, count in zip(answers, counts, strict=True)]
        entities = np.concatenate([ranking.entities[:count] for ranking, count in rankings]).tolist()
        pieces = self._pieces(entities)
        columns: list[list[bytes]] = [
            list(chain.from_iterable(map(_ranks, counts))),
            list(map(_OFFERED, pieces)),
            _texts(np.concatenate([ranking.scores[:count] for ranking, count in rankings])),
            list(chain.from_iterable(map(self._marks, answers, counts))),
        ]
        if explain:
            values = _texts(np.concatenate([ranking.branch_values[:count] for ranking, count in rankings]))
            for place, name in enumerate(self._branches):
                columns += [[name] * len(pieces), values[place :: len(self._branches)]]
            columns.append(list(map(_TRUSTED, pieces)))
        else:
            columns.append([_UNEXPLAINED_CANDIDATE] * len(pieces))
        return _side_by_side(columns, counts)

    def _pieces(self, entities: Sequence[int]) -> list[_Entity]:
        try:
            return list(map(self._kept.__getitem__, entities))  # Without a call of ours for each.
        except KeyError:
            return list(map(self._entity, entities))

    def _marks(self, answer: Answer, count: int) -> list[bytes]:
        """Of each candidate, whether and from where it is known."""
        query = answer.query
        if query.exclude_known:
            return _MARKS[:1] * count
        codes = self._known.split_codes(query.entity, query.relation, answer.ranking.entities[:count])
        return [_MARKS[code] for code in codes.tolist()]

    def _entity(self, entity: int) -> _Entity:
        if (found := self._kept.get(entity)) is not None:
            return found
        present = dict(zip(self._modalities, self._present_NM[entity].tolist(), strict=True))
        gates = {name: rows[entity] if present[name] else None for name, rows in self._gates.items()}
        trusted = trust_out(self._modalities, self._weights_NM[entity], gates, None)
        named = _named(self._entities.keys[entity], self._entities.labels[entity])
        weights, rows = (orjson.dumps(trusted[name]) for name in ("modality_weights", "expert_gates"))
        made = _Entity(
            named, b'%b,"score":' % named, b'},"modality_weights":%b,"expert_gates":%b}' % (weights, rows)
        )
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[entity] = made
        return made


def _count(question: Question, answer: Answer) -> int:
    """How many candidates are told."""
    scores = answer.ranking.scores
    return len(scores) if question.min_score is None else int((scores >= question.min_score).sum())


@lru_cache(maxsize=64)
def _ranks(count: int) -> list[bytes]:
    return [b'%b{"rank":%d,"entity":' % (b"," if rank else b"", rank + 1) for rank in range(count)]


def _texts(values: npt.NDArray[np.float64]) -> list[bytes]:
    """Each number, row by row, as JSON has it."""
    if not values.size:
        return []
    text = orjson.dumps(np.ascontiguousarray(values).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",")


def _side_by_side(columns: Sequence[list[bytes]], counts: Sequence[int]) -> list[bytes]:
    """Rows of one piece from each column, joined for each answer, which has as many of them as it counts."""
    width = len(columns)
    pieces = [b""] * (width * len(columns[0]))
    for place, column in enumerate(columns):
        pieces[place::width] = column
    bounds = pairwise(accumulate(counts, initial=0))
    return [b"".join(pieces[width * start : width * end]) for start, end in bounds]


def _named(key: str, label: str) -> bytes:
    # Copied: what orjson gives was cut out of a kilobyte, and kept it would keep the rest from being used.
    return bytes(bytearray(orjson.dumps({"key": key, "label": label})))
