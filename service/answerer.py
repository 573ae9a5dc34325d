"""Answerer: names in, ranked and explained answers out. No HTTP here; the command line uses it too.

Three steps, so that a server can run them where they belong: ``resolve`` (names to ids), ``score`` (one
thread, or as ``scoring`` says), ``render`` (ids to names).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.bundle import Bundle, BundleError
from model.decision import SCORE_KINDS
from model.described import Described
from model.device import DeviceName, GpuMemory, choose_device
from model.engine import EngineName
from model.known import Int64
from model.scorer import Answer, Query
from service.facts import Facts
from service.graph import Graph
from service.lookup import Lookup
from service.rendering import Renderer
from service.schemas import (
    IndexOut,
    ModelOut,
    ModelRef,
    PredictRequest,
    PredictResponse,
)
from service.scorer_process import ScorerProcess
from service.scorers import AnyScorer, scorer_of

if TYPE_CHECKING:
    from service.settings import Settings

GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a golden score, relative to the largest, between machines of different arithmetic."""


class Answerer:
    """Answers from one bundle. ``score`` may run in one thread at a time, not while ``scoring`` is awaited;
    everything else in any.

    ``graph`` reads what the bundle holds, ``facts`` scores whole facts. ``scorer`` scores with this bundle;
    where it is a process, that is ``scorer_pid``.
    """

    def __init__(self, bundle: Described, scorer: AnyScorer) -> None:
        self.bundle = bundle
        self.scorer_pid = scorer.pid if isinstance(scorer, ScorerProcess) else None
        self._reference = ModelRef(name=bundle.manifest.name, version=bundle.manifest.version)
        self._vocabulary = bundle.vocabulary
        self._num_relations = bundle.num_relations
        self._scorer = scorer
        self._renderer = Renderer(bundle)
        self.graph = Graph(bundle)
        self.facts = Facts(bundle, self._scorer, self._reference)

    @classmethod
    def open(
        cls,
        path: Path,
        device: DeviceName = "auto",
        engine: EngineName = "auto",
        min_recall: float = 0.0,
    ) -> Answerer:
        """Load a bundle and check that it answers as it did when exported.

        Raises ``BundleError``, also where its index finds less than ``min_recall`` of the best ten.
        """
        bundle = Bundle.open(path, choose_device(device))
        answerer = cls(bundle.described(), scorer_of(bundle, engine, min_recall))
        answerer.verify()
        return answerer

    @property
    def modality_names(self) -> tuple[str, ...]:
        return self.bundle.modality_names

    @property
    def gpu_memory(self) -> GpuMemory:
        return self._scorer.gpu_memory

    @property
    def scoring(self) -> Callable[[Sequence[Query]], list[Answer] | Awaitable[list[Answer]]]:
        """``score``, or a coroutine function in its place where no thread is needed."""
        return self._scorer.answer_soon if isinstance(self._scorer, ScorerProcess) else self.score

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
            named_scores = [given.get(e, np.inf) for e in item.entities]
            best_scores = first.ranking.scores.tolist() if first.ranking.exact else named_scores
            for found in (best_scores, named_scores):
                if len(found) != len(item.scores) or not np.allclose(found, item.scores, 0, allowed):
                    raise BundleError(
                        f"{self.bundle.path}: a golden query scores {found[0]:.6g} here and "
                        f"{item.scores[0]:.6g} where the bundle was exported; export it again"
                    )

    def predict(self, request: PredictRequest) -> PredictResponse:
        """All three steps. Raises ``InvalidRequest``."""
        queries = self.resolve(request)
        return PredictResponse.model_validate_json(self.render(request, self.score(queries)))

    def resolve(self, request: PredictRequest) -> list[Query]:
        """The queries in ids. Raises ``InvalidRequest`` that lists every name which leads nowhere."""
        lookup = Lookup(self._vocabulary)
        queries = self._queries(request, lookup)
        lookup.finish()
        return queries

    def resolve_known(self, request: PredictRequest) -> list[Query] | None:
        """The same, and quick, but None where a name leads nowhere: nobody looks for what may be meant."""
        lookup = Lookup(self._vocabulary, suggest=False)
        queries = self._queries(request, lookup)
        return None if lookup.failed else queries

    def _queries(self, request: PredictRequest, lookup: Lookup) -> list[Query]:
        candidates = self._resolve_candidates(request.candidates, lookup)
        queries = []
        for index, query in enumerate(request.queries):
            given: Literal["head", "tail"] = "head" if query.missing == "tail" else "tail"
            name = query.head if query.head is not None else query.tail
            assert name is not None, "QueryIn has exactly one end"
            entity = lookup.entity(name, ("queries", index, given))
            relation = lookup.relation(query.relation, ("queries", index, "relation"))
            asked = relation if query.missing == "tail" else relation + self._num_relations
            queries.append(Query(entity, asked, request.k, request.exclude_known, candidates))
        return queries

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        return self._scorer.answer(queries)

    def render(self, request: PredictRequest, answers: Sequence[Answer]) -> bytes:
        """Answers with names, split marks and explanations: the JSON of a ``PredictResponse``."""
        return self._renderer.render(request, answers)

    def reference(self) -> ModelRef:
        return self._reference

    def describe(self, settings: Settings) -> ModelOut:
        """What is being served, and within which limits."""
        manifest, decision = self.bundle.manifest, self.bundle.decision
        return ModelOut(
            **self.reference().model_dump(),
            kind=self.bundle.config.model,
            created_at=manifest.created_at,
            fingerprint=manifest.fingerprint,
            counts=manifest.counts,
            modalities=list(self.modality_names),
            branches={branch.name: branch.width for branch in manifest.branches},
            decision=decision,
            score_kind=SCORE_KINDS[decision],
            index=IndexOut(**manifest.index.model_dump()),
            engines={str(size): name for size, name in self._scorer.engine_choices.items()},
            metrics={split: report["metrics"] for split, report in manifest.metrics.items()},
            protocol=next((report["protocol"] for report in manifest.metrics.values()), None),
            provenance=manifest.provenance,
            limits=settings.model_dump(include={"max_queries", "max_k", "max_candidates"}),
            device=self._scorer.device,
        )

    def _resolve_candidates(
        self, given: Literal["observed"] | list[str] | None, lookup: Lookup
    ) -> Literal["observed"] | Int64 | None:
        if given is None or given == "observed":
            return given
        ids = [lookup.entity(name, ("candidates", index)) for index, name in enumerate(given)]
        return np.array(ids, dtype=np.int64)
