"""Renderer: answers as the JSON of a ``PredictResponse``, written directly.

Building the models and dumping them takes as long as scoring does. What a candidate always says of itself,
its name, weights and gates, is written once and kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.decision import SCORE_KINDS
from model.known import first_split
from model.scorer import Answer
from service.schemas import PredictRequest
from service.trust import rounded

KEPT = 50_000
"""Entities whose JSON is kept, some hundred bytes each."""

_UNEXPLAINED = '"modality_weights":null,"expert_gates":null'


class Renderer:
    """Writes answers from one bundle; any number of threads may use one."""

    def __init__(self, bundle: Bundle) -> None:
        model, names = bundle.model, bundle.vocabulary
        self._known = bundle.known
        self._entities, self._num_relations = names.entities, model.config.num_relations
        self._relations = [
            _named(key, label)
            for key, label in zip(names.relations.keys, names.relations.labels, strict=True)
        ]
        self._modalities = model.modality_names
        self._present_NM = model.present.cpu().numpy()
        self._weights_NM = bundle.candidates.modality_weights.cpu().numpy()
        self._gates = {name: rows.cpu().numpy() for name, rows in bundle.candidates.expert_gates.items()}
        self._branch_scores = _form([branch.name for branch in model.branches])
        self._weights = _form(self._modalities)
        manifest = bundle.manifest
        name, version = (json.dumps(text, ensure_ascii=False) for text in (manifest.name, manifest.version))
        self._start = f'{{"model":{{"name":{name},"version":{version}}},"answers":['
        self._end = f'],"score_kind":"{SCORE_KINDS[model.decision]}"}}'
        self._kept: dict[int, tuple[str, str]] = {}

    def render(self, request: PredictRequest, answers: Sequence[Answer]) -> bytes:
        """The body of the response."""
        written = ",".join([self._answer(request, answer) for answer in answers])
        return f"{self._start}{written}{self._end}".encode()

    def _answer(self, request: PredictRequest, answer: Answer) -> str:
        query, ranking = answer.query, answer.ranking
        given = self._entity(query.entity)[0]
        head, tail, missing = (given, "null", "tail")
        if query.relation >= self._num_relations:
            head, tail, missing = ("null", given, "head")
        trusted, temperature = _UNEXPLAINED, "null"
        if request.explain:
            trusted = self._trusted(answer.modality_weights, answer.expert_gates)
            if answer.relation_temperature is not None:
                temperature = repr(answer.relation_temperature)
        return (
            f'{{"query":{{"head":{head},"relation":{self._relations[query.relation % self._num_relations]},'
            f'"tail":{tail},"missing":"{missing}"}},"candidates":[{self._candidates(request, answer)}],'
            f'{trusted},"relation_temperature":{temperature},"exact":{"true" if ranking.exact else "false"},'
            f'"engine":"{ranking.engine}"}}'
        )

    def _candidates(self, request: PredictRequest, answer: Answer) -> str:
        query, ranking = answer.query, answer.ranking
        kept = len(ranking.scores)
        if request.min_score is not None:
            kept = int((ranking.scores >= request.min_score).sum())
        entity_C = ranking.entities[:kept]
        codes = [0] * kept
        if not query.exclude_known:
            codes = self._known.split_codes(query.entity, query.relation, entity_C).tolist()
        values = ranking.branch_values[:kept].tolist() if request.explain else [()] * kept
        written = []
        for rank, (entity, score, code, value) in enumerate(
            zip(entity_C.tolist(), ranking.scores[:kept].tolist(), codes, values, strict=True), start=1
        ):
            name, trusted = self._entity(entity)
            known = f'"{first_split(code)}"' if code else "false"
            branch_scores = self._branch_scores % tuple(value) if value else "null"
            written.append(
                f'{{"rank":{rank},"entity":{name},"score":{score!r},"known":{known},'
                f'"branch_scores":{branch_scores},{trusted if request.explain else _UNEXPLAINED}}}'
            )
        return ",".join(written)

    def _entity(self, entity: int) -> tuple[str, str]:
        """Its name, and what it is trusted for as a candidate."""
        if (found := self._kept.get(entity)) is not None:
            return found
        present = dict(zip(self._modalities, self._present_NM[entity].tolist(), strict=True))
        gates = {name: rows[entity] if present[name] else None for name, rows in self._gates.items()}
        name = _named(self._entities.keys[entity], self._entities.labels[entity])
        made = name, self._trusted(self._weights_NM[entity], gates)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[entity] = made
        return made

    def _trusted(
        self, weight_M: npt.NDArray[np.float32], gates: Mapping[str, npt.NDArray[np.float32] | None]
    ) -> str:
        members = [
            f'"{name}":{"null" if gate_K is None else rounded(gate_K)}' for name, gate_K in gates.items()
        ]
        shown = f"{{{','.join(members)}}}" if members else "null"  # A model without experts has no gates.
        return f'"modality_weights":{self._weights % tuple(rounded(weight_M))},"expert_gates":{shown}'


def _named(key: str, label: str) -> str:
    return f'{{"key":{json.dumps(key, ensure_ascii=False)},"label":{json.dumps(label, ensure_ascii=False)}}}'


def _form(names: Sequence[str]) -> str:
    """An object with these members, whose numbers are still to be filled in."""
    return "{" + ",".join(f'"{name}":%r' for name in names) + "}"
