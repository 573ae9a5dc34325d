"""Answerer: names in, ranked and explained answers out. No HTTP here; the command line uses it too.

Three steps, so that a server can run them where they belong: ``resolve`` (names to ids), ``score`` (one
thread), ``render`` (ids to names).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle, BundleError
from model.decision import SCORE_KINDS
from model.device import DeviceName, choose_device
from model.engine import EngineName
from model.known import Int64, first_split
from model.names import UnresolvedName, shorten
from model.pictures import Picture
from model.scorer import Answer, Query, Scorer
from service.errors import InvalidRequest, ProblemItem, UnknownResource, pointer
from service.schemas import (
    AnswerOut,
    CandidateOut,
    EntitiesOut,
    EntityDetailsOut,
    EntityOut,
    ModelOut,
    ModelRef,
    PredictRequest,
    PredictResponse,
    QueryOut,
    RelationInfoOut,
    RelationOut,
    RelationsOut,
)

if TYPE_CHECKING:
    from service.settings import Settings

GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a golden score, relative to the largest, between machines of different arithmetic."""
DECIMALS = 6
"""Of weights and gates in answers: float32 holds no more, and a shorter body is a faster one."""

SUGGESTIONS = 10
"""Unknown names of a request that get suggestions: each costs a search, and nobody reads more."""

_UNEXPLAINED: dict[str, Any] = {"branch_scores": None, "modality_weights": None, "expert_gates": None}


class Answerer:
    """Answers from one bundle. ``score`` may run in one thread at a time; everything else in any."""

    def __init__(self, bundle: Bundle, engine: EngineName = "auto") -> None:
        self.bundle = bundle
        self._reference = ModelRef(name=bundle.manifest.name, version=bundle.manifest.version)
        self._vocabulary = bundle.vocabulary
        self._num_relations = bundle.model.config.num_relations
        self._scorer = Scorer(bundle.model, bundle.candidates, bundle.known, engine=engine)
        self._present_NM = bundle.model.present.cpu().numpy()
        self._weights_NM = bundle.candidates.modality_weights.cpu().numpy()
        self.bundle.pictures  # noqa: B018 (where the directory is now, before a link to it may turn)
        self._gates_NK = {name: rows.cpu().numpy() for name, rows in bundle.candidates.expert_gates.items()}

    @classmethod
    def open(cls, path: Path, device: DeviceName = "auto", engine: EngineName = "auto") -> Answerer:
        """Load a bundle and check that it answers as it did when exported. Raises ``BundleError``."""
        answerer = cls(Bundle.open(path, choose_device(device)), engine)
        answerer.verify()
        return answerer

    @property
    def modality_names(self) -> tuple[str, ...]:
        return self.bundle.model.modality_names

    def warm(self) -> None:
        """Make ready for many queries; a single one would not earn the seconds that this takes."""
        self._scorer.warm()

    def verify(self) -> None:
        """Ask the golden queries. Raises ``BundleError``."""
        golden = self.bundle.manifest.golden
        best = [Query(item.entity, item.relation, len(item.entities), False) for item in golden]
        # Asked of these very entities too: the best of a table in another order would score the same.
        named = [replace(q, candidates=np.array(g.entities)) for q, g in zip(best, golden, strict=True)]
        for item, first, second in zip(golden, self.score(best), self.score(named), strict=True):
            allowed = GOLDEN_TOLERANCE * max(1.0, *map(abs, item.scores))
            given = dict(zip(second.ranking.entities.tolist(), second.ranking.scores.tolist(), strict=True))
            for found in (first.ranking.scores.tolist(), [given.get(e, np.inf) for e in item.entities]):
                if len(found) != len(item.scores) or not np.allclose(found, item.scores, 0, allowed):
                    raise BundleError(
                        f"{self.bundle.path}: a golden query scores {found[0]:.6g} here and "
                        f"{item.scores[0]:.6g} where the bundle was exported; export it again"
                    )

    def predict(self, request: PredictRequest) -> PredictResponse:
        """All three steps. Raises ``InvalidRequest``."""
        queries = self.resolve(request)
        return self.render(request, self.score(queries))

    def resolve(self, request: PredictRequest) -> list[Query]:
        """The queries in ids. Raises ``InvalidRequest`` that lists every name which leads nowhere."""
        problems: list[ProblemItem] = []
        candidates = self._resolve_candidates(request.candidates, problems)
        queries = []
        for index, query in enumerate(request.queries):
            given: Literal["head", "tail"] = "head" if query.missing == "tail" else "tail"
            name = query.head if query.head is not None else query.tail
            assert name is not None, "QueryIn has exactly one end"
            entity = self._resolve("entity", name, pointer("queries", index, given), problems)
            relation = self._resolve(
                "relation", query.relation, pointer("queries", index, "relation"), problems
            )
            asked = relation if query.missing == "tail" else relation + self._num_relations
            queries.append(Query(entity, asked, request.k, request.exclude_known, candidates))
        if problems:
            raise InvalidRequest(problems)
        return queries

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        return self._scorer.answer(queries)

    def render(self, request: PredictRequest, answers: Sequence[Answer]) -> PredictResponse:
        """Answers with names, split marks and explanations."""
        return PredictResponse(
            model=self.reference(),
            answers=[self._render(request, answer) for answer in answers],
            score_kind=SCORE_KINDS[self._scorer.decision],
        )

    def reference(self) -> ModelRef:
        return self._reference

    def entities(self, search: str, limit: int, offset: int) -> EntitiesOut:
        """One page of the entities whose label or key holds ``search``."""
        found = self._vocabulary.search(search, limit=limit + 1, offset=offset)
        return EntitiesOut(
            entities=[self._entity(entity) for entity in found[:limit]],
            next_offset=offset + limit if len(found) > limit else None,
        )

    def entity(self, name: str) -> EntityDetailsOut:
        """Raises ``UnknownResource``."""
        entity = self._named(name)
        details = self._vocabulary.details(entity)
        present_M = self._present_NM[entity]
        return EntityDetailsOut(
            **self._entity(entity).model_dump(),
            description=details.description,
            degree=details.degree,
            modalities=[name for name, has in zip(self.modality_names, present_M, strict=True) if has],
            picture=self._picture_path(entity),
        )

    def picture(self, name: str) -> Picture:
        """Raises ``UnknownResource`` for an unknown entity, and for one without a picture."""
        entity = self._named(name)
        if entity not in self.bundle.pictures:
            label = self._vocabulary.entities.labels[entity]
            raise UnknownResource(f"{shorten(label)!r} has no picture")
        return self.bundle.pictures[entity]

    def relations(self) -> RelationsOut:
        return RelationsOut(
            relations=[
                RelationInfoOut(**self._relation(relation).model_dump(), num_facts=count)
                for relation, count in enumerate(self._vocabulary.relation_counts)
            ]
        )

    def describe(self, settings: Settings) -> ModelOut:
        """What is being served, and within which limits."""
        manifest, model = self.bundle.manifest, self.bundle.model
        return ModelOut(
            **self.reference().model_dump(),
            kind=model.config.model,
            created_at=manifest.created_at,
            fingerprint=manifest.fingerprint,
            counts=manifest.counts,
            modalities=list(self.modality_names),
            branches={branch.name: branch.width for branch in model.branches},
            decision=model.decision,
            score_kind=SCORE_KINDS[model.decision],
            index=manifest.index.kind,
            engines={str(size): name for size, name in self._scorer.engines.choices.items()},
            metrics={split: report["metrics"] for split, report in manifest.metrics.items()},
            protocol=next((report["protocol"] for report in manifest.metrics.values()), None),
            limits=settings.model_dump(include={"max_queries", "max_k", "max_candidates"}),
            device=str(model.present.device),
        )

    def _named(self, name: str) -> int:
        """The entity of a name in a path. Raises ``UnknownResource``."""
        try:
            return self._vocabulary.resolve_entity(name)
        except UnresolvedName as error:
            raise UnknownResource(
                str(error), [ProblemItem(pointer="key", detail=str(error), choices=list(error.choices))]
            ) from None

    def _picture_path(self, entity: int) -> str | None:
        if entity not in self.bundle.pictures:
            return None
        return f"/v1/entities/{quote(self._vocabulary.entities.keys[entity], safe='')}/picture"

    def _resolve(
        self, kind: Literal["entity", "relation"], name: str, where: str, problems: list[ProblemItem]
    ) -> int:
        """The id, or -1 and one problem more."""
        vocabulary, suggest = self._vocabulary, len(problems) < SUGGESTIONS
        try:
            if kind == "entity":
                return vocabulary.resolve_entity(name, suggest=suggest)
            return vocabulary.resolve_relation(name, suggest=suggest)
        except UnresolvedName as error:
            problems.append(ProblemItem(pointer=where, detail=str(error), choices=list(error.choices)))
            return -1

    def _resolve_candidates(
        self, given: Literal["observed"] | list[str] | None, problems: list[ProblemItem]
    ) -> Literal["observed"] | Int64 | None:
        if given is None or given == "observed":
            return given
        ids = [
            self._resolve("entity", name, pointer("candidates", index), problems)
            for index, name in enumerate(given)
        ]
        return np.array(ids, dtype=np.int64)

    def _render(self, request: PredictRequest, answer: Answer) -> AnswerOut:
        query, ranking, explain = answer.query, answer.ranking, request.explain
        asks_head = query.relation >= self._num_relations
        given = self._entity(query.entity)
        kept = len(ranking.scores)
        if request.min_score is not None:
            kept = int((ranking.scores >= request.min_score).sum())
        return AnswerOut(
            query=QueryOut(
                head=None if asks_head else given,
                relation=self._relation(query.relation % self._num_relations),
                tail=given if asks_head else None,
                missing="head" if asks_head else "tail",
            ),
            candidates=self._candidates(answer, kept, explain),
            modality_weights=self._by_modality(_rounded(answer.modality_weights)) if explain else None,
            expert_gates=_rounded_gates(answer.expert_gates) if explain and answer.expert_gates else None,
            relation_temperature=answer.relation_temperature if explain else None,
            exact=ranking.exact,
            engine=ranking.engine,
        )

    def _candidates(self, answer: Answer, kept: int, explain: bool) -> list[CandidateOut]:
        """The first ``kept`` candidates, built without validation: in long lists it would cost the most."""
        entity_C, scores = answer.ranking.entities[:kept], answer.ranking.scores[:kept].tolist()
        codes = self.bundle.known.split_codes(answer.query.entity, answer.query.relation, entity_C).tolist()
        reasons = self._explain(entity_C, answer.ranking.branch_values[:kept]) if explain else [{}] * kept
        return [
            CandidateOut.model_construct(
                rank=rank,
                entity=self._entity(entity),
                score=score,
                known=first_split(code) if code else False,
                **(_UNEXPLAINED | reason),
            )
            for rank, (entity, score, code, reason) in enumerate(
                zip(entity_C.tolist(), scores, codes, reasons, strict=True), start=1
            )
        ]

    def _explain(self, entity_C: Int64, value_CB: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        """The explaining fields of each candidate, one array operation a field."""
        branches = [branch.name for branch in self.bundle.model.branches]
        gated = [(self.modality_names.index(name), name) for name in self._gates_NK]
        gates = [_rounded(self._gates_NK[name][entity_C]) for _, name in gated]
        return [
            {
                "branch_scores": dict(zip(branches, values, strict=True)),
                "modality_weights": self._by_modality(weights),
                "expert_gates": {
                    name: given if present[place] else None
                    for (place, name), given in zip(gated, own, strict=True)
                }
                or None,
            }
            for values, weights, present, *own in zip(
                value_CB.tolist(),
                _rounded(self._weights_NM[entity_C]),
                self._present_NM[entity_C].tolist(),
                *gates,
                strict=True,
            )
        ]

    def _by_modality(self, weights: list[float]) -> dict[str, float]:
        return dict(zip(self.modality_names, weights, strict=True))

    def _entity(self, entity: int) -> EntityOut:
        names = self._vocabulary.entities
        return EntityOut.model_construct(key=names.keys[entity], label=names.labels[entity])

    def _relation(self, relation: int) -> RelationOut:
        names = self._vocabulary.relations
        return RelationOut(key=names.keys[relation], label=names.labels[relation])


def _rounded(values: npt.NDArray[np.float32]) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(DECIMALS).tolist()
    return rounded


def _rounded_gates(
    gates: dict[str, npt.NDArray[np.float32] | None],
) -> dict[str, list[float] | None]:
    return {name: None if values is None else _rounded(values) for name, values in gates.items()}
