"""Engines: the scans and the search that a retriever may use, and which of them answers which batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Literal

import torch

from momok.model.errors import UserError
from momok.model.retrieval.ahead import Ahead
from momok.model.retrieval.distances import RotationLayout, RotationSearch, RotationTable
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.int8 import Int8Layout, multiplies
from momok.model.retrieval.matmul import AnyLayout, Layout, spaces_of
from momok.model.retrieval.scan import Scan
from momok.model.retrieval.search import Search
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision

EngineName = Literal["auto", "faiss", "scan", "scan-bfloat16", "scan-int8"]
"""``auto`` takes what is measured to be the quickest, batch size by batch size."""

COARSE: dict[str, torch.dtype] = {"scan-bfloat16": torch.bfloat16, "scan-int8": torch.int8}
"""Scans of fewer bytes, which ask the one in float32 where rounding leaves a row open."""

MEASURED_SIZES = (1, 4, 16, 64, 256)
"""Batch sizes at which the engines are timed; others do as the next smaller one."""

SCAN_ADVANTAGE = 1.2
"""A scan must be so many times as fast as the indexes to be taken instead of them."""

HOPELESS = 5
"""An engine so many times as slow as another at one size is not timed at larger ones: what cannot be
certified takes a search minutes, and a server should start."""

MEASURING_S = 4.0
"""Nor is any after this."""


COPIED_BYTES = 1 << 30
"""A larger table is not copied into an exact index only to be timed."""


class Engines:
    """Every engine is made when it is first needed; until it has measured, ``auto`` scans in float32.

    ``indexes``: those of a bundle (``Search``); None for exact ones, made here. ``ahead``: as for ``Scan``.
    """

    def __init__(
        self,
        table: EntityTable,
        decision: Decision,
        *,
        device: torch.device | None = None,
        engine: EngineName = "auto",
        indexes: Mapping[str, EntityIndex] | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self.wanted = engine
        self._table, self._decision, self._device = table, decision, device
        self._indexes, self._ahead = indexes, ahead
        self._rotates = isinstance(table, RotationTable)
        self.scan = Scan(table, decision, self._layout(torch.float32), ahead=ahead)
        self._coarse: dict[str, Scan] = {}
        self._search: Search | None = None
        self.choices: dict[int, str] = {1: self.scan.name}
        if engine == "faiss":
            self.choices = {1: self.search.name}
        elif engine in COARSE:
            if engine not in self._possible:
                raise UserError(f"there is no {engine} {self._impossible}; take engine scan")
            self.choices = {1: self.coarse(engine).name}

    @property
    def search(self) -> Search:
        """The indexes; built here if there are none yet."""
        if self._search is None:
            kind = RotationSearch if self._rotates else Search
            device = self._device
            gpu = (device.index or 0) if device is not None and device.type == "cuda" else None
            self._search = kind(self._table, self._decision, self._indexes, gpu)
        return self._search

    def coarse(self, name: str) -> Scan:
        """One of ``COARSE``; its copy of the table is made here if there is none yet."""
        if name not in self._coarse:
            layout = self._layout(COARSE[name])
            self._coarse[name] = Scan(self._table, self._decision, layout, self.scan, self._ahead)
        return self._coarse[name]

    @property
    def made(self) -> list[str]:
        """The names of those that stand ready."""
        return [engine.name for engine in self._ready]

    def of(self, num_queries: int) -> Scan | Search:
        """What answers a batch of so many."""
        name = self.choices[max(size for size in self.choices if size <= num_queries)]
        return next(engine for engine in self._ready if engine.name == name)

    @property
    def _ready(self) -> list[Scan | Search]:
        search = [] if self._search is None else [self._search]
        return [self.scan, *self._coarse.values(), *search]

    @property
    def _impossible(self) -> str:
        """Where not every scan of ``COARSE`` can be."""
        if self._rotates:
            return "for scores that are distances"
        return "on a GPU" if self._on_gpu else "on this machine, which does not add up whole numbers exactly"

    @property
    def _possible(self) -> list[str]:
        """Those of ``COARSE`` that can score this table here."""
        if self._rotates:
            return []
        widths = {columns.stop - columns.start for columns in spaces_of(self._table, self._decision)}
        whole = not self._on_gpu and all(map(multiplies, widths))
        return [name for name in COARSE if whole or name != "scan-int8"]

    @property
    def _on_gpu(self) -> bool:
        return self._device is not None and self._device.type == "cuda"

    def measure(self, answer: Callable[[int], object]) -> None:
        """Choose for each size of batch, where the choice is ours: ``answer`` answers so many queries."""
        self.scan.warm()
        coarse = self._possible if self.wanted == "auto" else [*self._coarse]
        for name in coarse:
            self.coarse(name).warm()
        if self.wanted != "auto":
            return
        choices: dict[int, str] = {}
        racing = [self.scan.name, *coarse]
        if self._indexes is not None or self._table.joined_NX.nbytes <= COPIED_BYTES:
            racing.append(self.search.name)
        started = perf_counter()
        for size in MEASURED_SIZES:
            if choices and perf_counter() - started > MEASURING_S:
                break
            seconds = {name: self._seconds(answer, size, name) for name in racing}
            choices[size] = self._quickest(seconds)
            racing = [name for name in racing if seconds[name] <= HOPELESS * min(seconds.values())]
            if len(racing) == 1:
                break
        self.choices = choices
        self._forget(set(choices.values()))

    def _layout(self, dtype: torch.dtype) -> AnyLayout:
        if dtype == torch.int8:
            return Int8Layout(self._table, spaces_of(self._table, self._decision))
        kind = RotationLayout if self._rotates else Layout
        return kind(self._table, spaces_of(self._table, self._decision), dtype, self._device)

    def _quickest(self, seconds: dict[str, float]) -> str:
        allowed = {
            name: spent * (SCAN_ADVANTAGE if name.startswith(self.scan.name) else 1)
            for name, spent in seconds.items()
        }
        return min(allowed, key=lambda name: allowed[name])

    def _forget(self, chosen: set[str]) -> None:
        """Give back the copies of the table that nobody reads."""
        if self._search is not None and self._search.name not in chosen:
            self._search = self._indexes = None
        self._coarse = {name: scan for name, scan in self._coarse.items() if name in chosen}

    def _seconds(self, answer: Callable[[int], object], size: int, name: str) -> float:
        """The shorter of two runs, the first of which may have to wake up what it needs."""
        before, self.choices = self.choices, {1: name}
        times = []
        try:
            for _ in range(2):
                started = perf_counter()
                answer(size)
                times.append(perf_counter() - started)
        finally:
            self.choices = before  # What fails to answer must not be left as the choice.
        return min(times)
