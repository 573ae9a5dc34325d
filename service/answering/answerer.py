"""Answerer: names in, ranked and explained answers out. No HTTP here; the command line uses it too.

Three steps, so that a server can run them where they belong: ``resolve`` (names to ids) in any thread,
``answer`` (scored and written) on the event loop, ``render`` (a response of what was written).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from momok.model.answer import Query
from momok.model.arrays import Int64
from momok.model.bundle.bundle import Bundle
from momok.model.bundle.catalogue import Catalogue
from momok.model.retrieval.engine import EngineName
from momok.model.runtime.device import DeviceName, GpuMemory, choose_device
from momok.model.scores import FUSIONS
from momok.service.answering.facts import Facts
from momok.service.answering.frame import Frame
from momok.service.answering.graph import Graph
from momok.service.answering.lookup import Lookup
from momok.service.contract.schemas import (
    IndexOut,
    ModelOut,
    ModelRef,
    PredictRequest,
    PredictResponse,
)
from momok.service.scorer.local import AnyScorer, LocalScorer, ThreadScorer
from momok.service.scorer.question import Question, Written

if TYPE_CHECKING:
    from momok.service.settings import Settings


class Answerer:
    """Answers from one bundle. ``graph`` reads what the bundle holds, ``facts`` scores whole facts.

    ``scorer`` scores with this bundle, in the processes ``scorer_pids``.
    """

    def __init__(self, bundle: Catalogue, scorer: AnyScorer) -> None:
        self.bundle = bundle
        self.scorer_pids = scorer.pids
        self.modality_names = bundle.modality_names
        self._reference = ModelRef(name=bundle.manifest.name, version=bundle.manifest.version)
        self._vocabulary = bundle.vocabulary
        self._num_relations = bundle.num_relations
        self._scorer = scorer
        self._frame = Frame(bundle)
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
        answerer = cls(bundle, ThreadScorer(LocalScorer(bundle, engine, min_recall)))
        answerer.verify()
        return answerer

    @property
    def gpu_memory(self) -> GpuMemory:
        return self._scorer.gpu_memory

    def warm(self) -> None:
        """Make ready for many queries; a single one would not earn the seconds that this takes."""
        self._scorer.warm()

    def verify(self) -> None:
        """Ask the golden queries, from a thread and before the first answer. Raises ``UserError``."""
        self._scorer.verify()

    async def check(self) -> None:
        """As ``verify``, between answers."""
        await self._scorer.check()

    def predict(self, request: PredictRequest) -> PredictResponse:
        """All three steps, for callers without an event loop. Raises ``InvalidRequest``."""
        written = asyncio.run(self.answer(self.resolve(request)))
        return PredictResponse.model_validate_json(self.render(written))

    def resolve(self, request: PredictRequest) -> list[Question]:
        """The queries in ids. Raises ``InvalidRequest`` that lists every name which leads nowhere."""
        lookup = Lookup(self._vocabulary)
        questions = self._questions(request, lookup)
        lookup.finish()
        return questions

    def resolve_known(self, request: PredictRequest) -> list[Question] | None:
        """The same, and quick, but None for an unknown name: near names are not looked for."""
        lookup = Lookup(self._vocabulary, suggest=False)
        questions = self._questions(request, lookup)
        return None if lookup.failed else questions

    def _questions(self, request: PredictRequest, lookup: Lookup) -> list[Question]:
        candidates = self._resolve_candidates(request.candidates, lookup)
        questions = []
        for index, query in enumerate(request.queries):
            given: Literal["head", "tail"] = "head" if query.missing == "tail" else "tail"
            name = query.head if query.head is not None else query.tail
            assert name is not None, "QueryIn has exactly one end"
            entity = lookup.entity(name, ("queries", index, given))
            relation = lookup.relation(query.relation, ("queries", index, "relation"))
            asked = relation if query.missing == "tail" else relation + self._num_relations
            sought = Query(entity, asked, request.k, request.exclude_known, candidates)
            questions.append(Question(sought, request.explain, request.min_score))
        return questions

    async def answer(self, questions: Sequence[Question]) -> list[Written]:
        """Answers with names, split marks and explanations."""
        return await self._scorer.write(questions)

    def render(self, answers: Iterable[Written]) -> bytes:
        """The JSON of a ``PredictResponse``."""
        return self._frame.around([answer.json for answer in answers])

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
            score_kind=FUSIONS[decision].score_kind,
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
