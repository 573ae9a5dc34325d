"""Engines: the scans and the search that can answer a batch, and the choice between them.

A fused score that is one inner product can be searched by an index; every score can be scanned. ``auto``
takes the quicker, measured at a few sizes of batch.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Literal

import torch

from momok.model.errors import UserError
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.int8 import Int8Kernel, multiplies
from momok.model.retrieval.kernel import Bfloat16Kernel, Float32Kernel
from momok.model.retrieval.scan import Scan
from momok.model.retrieval.search import Search
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Fusion

EngineName = Literal["auto", "faiss", "scan", "scan-bfloat16", "scan-int8"]

Engine = Scan | Search

RACING: tuple[EngineName, ...] = ("scan", "scan-bfloat16", "scan-int8", "faiss")
"""The engines between which ``auto`` chooses."""

MEASURED_SIZES = (1, 16, 128)
"""Batch sizes at which engines are timed; other sizes do as the next smaller one."""

MEASURING_S = 4.0
"""No further size is timed after this, so that a server of a large graph starts."""

COPIED_BYTES = 1 << 30
"""A larger table is not copied into an exact index only to be timed."""


class Engines:
    """Engines are made when they are first needed; until ``auto`` has measured, it scans in float32.

    ``index``: of a bundle; without one, ``faiss`` builds an exact one. Raises ``UserError`` for an engine
    that cannot score this table here.
    """

    def __init__(
        self,
        table: EntityTable,
        fusion: Fusion,
        *,
        device: torch.device | None = None,
        engine: EngineName = "auto",
        index: EntityIndex | None = None,
    ) -> None:
        self.wanted = engine
        self._table, self._fusion, self._device, self._index = table, fusion, device, index
        self.scan = Scan(Float32Kernel(table, fusion, device))
        self._made: dict[EngineName, Engine] = {"scan": self.scan}
        self._choices: dict[int, Engine] = {1: self.scan}
        if engine != "auto":
            self._choices = {1: self.get(engine)}

    @property
    def choices(self) -> dict[int, str]:
        """Batch size -> the name of the engine that answers from there on."""
        return {size: engine.name for size, engine in self._choices.items()}

    def of(self, num_queries: int) -> Engine:
        """The engine that answers a batch of so many queries."""
        return self._choices[max(size for size in self._choices if size <= num_queries)]

    def get(self, name: EngineName) -> Engine:
        """The engine of a name other than ``auto``, made here if there is none yet. Raises ``UserError``."""
        if name not in self._made:
            if reason := self._obstacle(name):
                raise UserError(f"there is no engine {name} {reason}; take engine scan")
            self._made[name] = self._make(name)
        return self._made[name]

    def measure(self, answer: Callable[[Engine, int], object]) -> None:
        """Choose for each size of batch; ``answer`` answers so many queries by an engine."""
        if self.wanted != "auto":
            return
        copies = self._index is None and self._table.joined_NX.nbytes > COPIED_BYTES
        names = [name for name in RACING if not (copies and name == "faiss")]
        racing = [self.get(name) for name in names if not self._obstacle(name)]
        choices: dict[int, Engine] = {}
        started = perf_counter()
        for size in MEASURED_SIZES if len(racing) > 1 else ():
            if choices and perf_counter() - started > MEASURING_S:
                break
            seconds = {engine.name: _seconds(answer, engine, size) for engine in racing}
            choices[size] = min(racing, key=lambda engine: seconds[engine.name])
        self._choices = choices or self._choices
        # Copies of the table that no engine reads are given back.
        kept = {self.scan.name, *self.choices.values()}
        self._made = {name: engine for name, engine in self._made.items() if engine.name in kept}

    def _make(self, name: EngineName) -> Engine:
        if name == "scan-bfloat16":
            return Scan(Bfloat16Kernel(self._table, self._fusion), self.scan)
        if name == "scan-int8":
            return Scan(Int8Kernel(self._table, self._fusion), self.scan)
        index = self._index or EntityIndex.build(self._table.joined_NX, IndexSpec())
        if self._on_gpu:
            assert self._device is not None
            index = index.on_gpu(self._device.index or 0)
        return Search(self._table, index)

    def _obstacle(self, name: EngineName) -> str:
        """Why an engine cannot score this table here; empty where it can."""
        spaces = self._fusion.spaces(self._table.branches)
        if name != "scan" and any(space.geometry != "dot" for space in spaces):
            return "for scores that are distances"
        if name == "faiss":
            return "" if self._fusion.adds_up else "for a score that is not one inner product"
        if name != "scan" and self._on_gpu:
            return "on a GPU"
        if name == "scan-int8" and not all(multiplies(space.width) for space in spaces):
            return "on this machine, which does not add up whole numbers exactly"
        return ""

    @property
    def _on_gpu(self) -> bool:
        return self._device is not None and self._device.type == "cuda"


def _seconds(answer: Callable[[Engine, int], object], engine: Engine, size: int) -> float:
    """The shorter of two runs, the first of which may have to load caches."""
    times = []
    for _ in range(2):
        started = perf_counter()
        answer(engine, size)
        times.append(perf_counter() - started)
    return min(times)
