"""ScorerPool: several scoring processes of one bundle, asked as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from momok.model.arrays import Float64, Int64
from momok.model.runtime.device import GpuMemory
from momok.model.scorer import RankedFact
from momok.service.contract.failures import ScorerEnded
from momok.service.scorer.process import OnEnd, ScorerProcess, ScorerSpec
from momok.service.scorer.question import Question, Written

ResultT = TypeVar("ResultT")


class ScorerPool:
    """Each question goes to the process that has fewest. One that has ended is left out; if none is left,
    every question raises ``ScorerEnded``."""

    def __init__(self, specs: Sequence[ScorerSpec], on_end: OnEnd = lambda pid, how: None) -> None:
        """Returns once all can answer. Raises as ``ScorerProcess``."""
        with ThreadPoolExecutor(len(specs)) as threads:
            self._scorers = list(threads.map(lambda spec: ScorerProcess(spec, on_end), specs))
        self._asked = {scorer.pid: 0 for scorer in self._scorers}
        self.pids, self._first = tuple(self._asked), self._scorers[0]
        self.device: str = self._first.device

    @property
    def engine_choices(self) -> Mapping[int, str]:
        """Of the first; each measures for itself."""
        return self._first.engine_choices

    @property
    def gpu_memory(self) -> GpuMemory:
        """Of all: each has a device, or shares one."""
        held = [scorer.gpu_memory for scorer in self._scorers]
        return GpuMemory(sum(one.held_bytes for one in held), sum(one.total_bytes for one in held))

    def warm(self) -> None:
        self._all(ScorerProcess.warm)

    def verify(self) -> None:
        self._all(ScorerProcess.verify)

    async def check(self) -> None:
        for scorer in self._scorers:
            await scorer.check()

    async def write(self, questions: Sequence[Question]) -> list[Written]:
        return await self._ask(lambda scorer: scorer.write(questions))

    async def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        return await self._ask(lambda scorer: scorer.rank(entity_B, relation_B, answer_B))

    async def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        return await self._ask(lambda scorer: scorer.score(entity_B, relation_B, answer_B))

    def _all(self, call: Callable[[ScorerProcess], None]) -> None:
        with ThreadPoolExecutor(len(self._scorers)) as threads:
            list(threads.map(call, self._scorers))

    async def _ask(self, call: Callable[[ScorerProcess], Awaitable[ResultT]]) -> ResultT:
        if not self._scorers:
            raise ScorerEnded("all scoring processes have ended")
        scorer = min(self._scorers, key=lambda scorer: self._asked[scorer.pid])
        self._asked[scorer.pid] += 1
        try:
            return await call(scorer)
        except ScorerEnded:
            if scorer in self._scorers:
                self._scorers.remove(scorer)
            raise
        finally:
            self._asked[scorer.pid] -= 1
