"""Engines: the scan and the search that a retriever may use, and which of them answers which batch."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Literal

import torch

from model.decision import Decision
from model.rotation_scan import RotationScan, RotationSearch, RotationTable
from model.scan import Scan
from model.search import Search
from model.table import EntityTable

EngineName = Literal["auto", "faiss", "scan"]
"""``auto`` takes what is measured to be the quicker, batch size by batch size."""

MEASURED_SIZES = (1, 4, 16, 64, 256)
"""Batch sizes at which the engines are timed; others do as the next smaller one."""

SCAN_ADVANTAGE = 1.2
"""The scan must be so many times as fast as the indexes to be taken instead of them."""

HOPELESS = 5
"""Where one engine is so many times as fast as the other, larger batches are not timed but take it too: what
cannot be certified takes a search minutes, and a server should start."""

MEASURING_S = 4.0
"""Nor are they after this."""


class Engines:
    """Indexes are built when they are first needed; until it has measured, ``auto`` scans and needs none."""

    def __init__(
        self,
        table: EntityTable,
        decision: Decision,
        *,
        device: torch.device | None = None,
        engine: EngineName = "auto",
    ) -> None:
        self.wanted = engine
        self._rotates = isinstance(table, RotationTable)
        self.scan = (RotationScan if self._rotates else Scan)(table, decision, device)
        self.choices: dict[int, str] = {}
        self._table, self._decision = table, decision
        self._search: Search | None = None
        if engine == "faiss":
            self.choices = {1: self.search.name}
        elif engine == "scan":
            self.choices = {1: self.scan.name}

    @property
    def search(self) -> Search:
        """The indexes; built here if there are none yet."""
        if self._search is None:
            self._search = (RotationSearch if self._rotates else Search)(self._table, self._decision)
        return self._search

    def searches(self, num_queries: int) -> bool:
        """Whether the indexes answer a batch of so many."""
        sizes = [size for size in self.choices if size <= num_queries]
        return bool(sizes) and self.choices[max(sizes)] != self.scan.name

    def measure(self, answer: Callable[[int], object]) -> None:
        """Choose for each size of batch, where the choice is ours: ``answer`` answers so many queries."""
        self.scan.warm()
        if self.wanted != "auto":
            return
        started, choices = perf_counter(), {}
        for size in MEASURED_SIZES:
            if perf_counter() - started > MEASURING_S:
                break
            scanned, searched = (
                self._seconds(answer, size, name) for name in (self.scan.name, self.search.name)
            )
            choices[size] = (self.scan if SCAN_ADVANTAGE * scanned < searched else self.search).name
            if max(scanned, searched) > HOPELESS * min(scanned, searched):
                break
        self.choices = choices
        if set(choices.values()) == {self.scan.name}:
            self._search = None  # A second copy of the table that nobody reads.

    def _seconds(self, answer: Callable[[int], object], size: int, name: str) -> float:
        """The shorter of two runs, the first of which may have to wake up what it needs."""
        self.choices = {1: name}
        times = []
        for _ in range(2):
            started = perf_counter()
            answer(size)
            times.append(perf_counter() - started)
        return min(times)
