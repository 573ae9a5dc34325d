"""Scorers in this process: as the command line and the scoring process use one, and as a server's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import Protocol, TypeVar

from momok.model.answer import Answers, Query
from momok.model.arrays import Float64, Int64
from momok.model.bundle.bundle import Bundle, BundleError
from momok.model.retrieval.engine import EngineName
from momok.model.retrieval.index import EntityIndex
from momok.model.runtime.device import GpuMemory
from momok.model.scorer import RankedFact, Scorer
from momok.service.scorer.golden import check_golden
from momok.service.scorer.question import Counted, Question, Stages, Written
from momok.service.scorer.rendering import Renderer

ResultT = TypeVar("ResultT")


class AnyScorer(Protocol):
    """Asked from one event loop; ``warm`` and ``verify`` before that, from a thread. Each raises what the
    scorer raises, and ``ScorerEnded``."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that score."""

    @property
    def device(self) -> str: ...

    @property
    def engine_choices(self) -> Mapping[int, str]: ...

    @property
    def gpu_memory(self) -> GpuMemory: ...

    def warm(self) -> None: ...

    def verify(self) -> None:
        """Raises ``UserError`` where the bundle does not answer as it did when exported."""

    async def check(self) -> None:
        """As ``verify``."""

    async def write(self, questions: Sequence[Question]) -> list[Written]: ...

    async def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]: ...

    async def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]: ...


class LocalScorer(Scorer):
    """Scores with a bundle in this process. Raises ``BundleError`` where the bundle's index finds less than
    ``min_recall`` of the best ten."""

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineName = "auto",
        min_recall: float = 0.0,
    ) -> None:
        index = None if engine.startswith("scan") else _index(bundle, min_recall)
        super().__init__(bundle.model, bundle.candidates, bundle.known, engine=engine, index=index)
        self._bundle = bundle
        self._renderer = Renderer(bundle)

    def verify(self) -> None:
        """Ask the golden queries, and write an answer. Raises ``BundleError``."""
        check_golden(self._bundle, self.answer)
        golden = self._bundle.manifest.golden[0]
        self.write([Question(Query(golden.entity, golden.relation, len(golden.entities)))])

    def write(self, questions: Sequence[Question]) -> list[Written]:
        """Each answered and written. Raises as ``answer``."""
        answers = self.answer([question.query for question in questions])
        answered = perf_counter()
        texts = self._renderer.write(questions, answers)
        stages = Stages({**answers.seconds, "serialise": perf_counter() - answered})
        return [Written(text, told, stages) for text, told in zip(texts, _counted(answers), strict=True)]


class ThreadScorer:
    """A ``LocalScorer`` as an ``AnyScorer``, in one thread: those that multiply have helpers of their own."""

    def __init__(self, scorer: LocalScorer) -> None:
        self.pids, self._scorer = (os.getpid(),), scorer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self.warm, self.verify = scorer.warm, scorer.verify

    @property
    def device(self) -> str:
        return self._scorer.device

    @property
    def engine_choices(self) -> Mapping[int, str]:
        return self._scorer.engine_choices

    @property
    def gpu_memory(self) -> GpuMemory:
        return self._scorer.gpu_memory

    async def check(self) -> None:
        await self._run(self._scorer.verify)

    async def write(self, questions: Sequence[Question]) -> list[Written]:
        return await self._run(self._scorer.write, questions)

    async def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        return await self._run(self._scorer.rank, entity_B, relation_B, answer_B)

    async def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        return await self._run(self._scorer.score, entity_B, relation_B, answer_B)

    async def _run(self, call: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)


def _counted(answers: Answers) -> Iterator[Counted]:
    rankings = answers.rankings
    top_scores = [
        float(rankings.scores[start]) if start < stop else None for start, stop in pairwise(rankings.bounds)
    ]
    weights = answers.explanations.modality_weights.tolist()
    return map(Counted, rankings.exact, rankings.engines, answers.num_excluded, top_scores, weights)


def _index(bundle: Bundle, min_recall: float) -> EntityIndex | None:
    index = bundle.index()
    recall = bundle.manifest.index.recall.get("10", 1.0)
    if index is not None and recall < min_recall:
        raise BundleError(
            f"{bundle.path}: its index finds {recall:.4f} of the best ten, --min-recall asks {min_recall}; "
            "export it with more effort, or serve it with --engine scan"
        )
    return index
