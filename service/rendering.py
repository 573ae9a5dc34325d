"""Renderer: answers as the JSON of a ``PredictResponse``, without making one.

Building the models and dumping them takes as long as scoring does. What a candidate always says of itself,
its name, weights and gates, is written once and kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from model.bundle import Bundle
from model.decision import SCORE_KINDS
from model.described import Described
from model.known import first_split
from model.scorer import Answer
from model.trust import trust_out
from service.question import Question

KEPT = 50_000
"""Entities whose JSON is kept, some hundred bytes each."""

_UNEXPLAINED: dict[str, Any] = {
    "modality_weights": None,
    "expert_gates": None,
    "relation_temperature": None,
}


class Frame:
    """What stands around the answers in a response."""

    def __init__(self, bundle: Described) -> None:
        manifest = bundle.manifest
        model = orjson.dumps({"name": manifest.name, "version": manifest.version})
        kind = orjson.dumps(SCORE_KINDS[bundle.decision])
        self._before = b'{"model":%b,"answers":[' % model
        self._after = b'],"score_kind":%b}' % kind

    def around(self, answers: Iterable[bytes]) -> bytes:
        return b"%b%b%b" % (self._before, b",".join(answers), self._after)


class _Entity(NamedTuple):
    """JSON that is ready: who it is, and what it is trusted for as a candidate."""

    named: orjson.Fragment
    modality_weights: orjson.Fragment
    expert_gates: orjson.Fragment


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
        self._modalities, self._branches = described.modality_names, described.branch_names
        self._present_NM = described.present
        self._weights_NM = trusted.modality_weights.cpu().numpy()
        self._gates = {name: rows.cpu().numpy() for name, rows in trusted.expert_gates.items()}
        self._kept: dict[int, _Entity] = {}

    def write(self, question: Question, answer: Answer) -> bytes:
        """One of the answers of a response."""
        query, ranking = answer.query, answer.ranking
        given, relation = (
            self._entity(query.entity).named,
            self._relations[query.relation % self._num_relations],
        )
        trusted = _UNEXPLAINED
        if question.explain:
            trusted = trust_out(
                self._modalities, answer.modality_weights, answer.expert_gates, answer.relation_temperature
            )
        if query.relation < self._num_relations:
            asked = {"head": given, "relation": relation, "tail": None, "missing": "tail"}
        else:
            asked = {"head": None, "relation": relation, "tail": given, "missing": "head"}
        return orjson.dumps(
            {
                "query": asked,
                "candidates": self._candidates(question, answer),
                **trusted,
                "exact": ranking.exact,
                "engine": ranking.engine,
            }
        )

    def _candidates(self, question: Question, answer: Answer) -> list[dict[str, Any]]:
        query, ranking, explain = question.query, answer.ranking, question.explain
        kept = len(ranking.scores)
        if question.min_score is not None:
            kept = int((ranking.scores >= question.min_score).sum())
        entity_C = ranking.entities[:kept]
        codes = [0] * kept
        if not query.exclude_known:
            codes = self._known.split_codes(query.entity, query.relation, entity_C).tolist()
        values = ranking.branch_values[:kept].tolist()
        written = []
        for rank, (entity, score, code, value) in enumerate(
            zip(entity_C.tolist(), ranking.scores[:kept].tolist(), codes, values, strict=True), start=1
        ):
            made = self._entity(entity)
            written.append(
                {
                    "rank": rank,
                    "entity": made.named,
                    "score": score,
                    "known": code > 0 and first_split(code),
                    "branch_scores": dict(zip(self._branches, value, strict=True)) if explain else None,
                    "modality_weights": made.modality_weights if explain else None,
                    "expert_gates": made.expert_gates if explain else None,
                }
            )
        return written

    def _entity(self, entity: int) -> _Entity:
        if (found := self._kept.get(entity)) is not None:
            return found
        present = dict(zip(self._modalities, self._present_NM[entity].tolist(), strict=True))
        gates = {name: rows[entity] if present[name] else None for name, rows in self._gates.items()}
        trusted = trust_out(self._modalities, self._weights_NM[entity], gates, None)
        made = _Entity(
            _named(self._entities.keys[entity], self._entities.labels[entity]),
            _written(trusted["modality_weights"]),
            _written(trusted["expert_gates"]),
        )
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[entity] = made
        return made


def _named(key: str, label: str) -> orjson.Fragment:
    return _written({"key": key, "label": label})


def _written(value: object) -> orjson.Fragment:
    # Copied: what orjson gives was cut out of a kilobyte, and kept it would keep the rest from being used.
    return orjson.Fragment(orjson.dumps(value).decode())
