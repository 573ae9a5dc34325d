"""Histogram: a distribution for Prometheus, whose observations are counted when someone looks.

``prometheus_client`` counts each at once, bucket by bucket under a lock; a request makes a dozen of them
(docs/log/2026-11-22-null-route.md). Its ``_created`` series, which Prometheus asks for in another format
only, are not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

KEPT = 4096
"""Observations of a series that wait to be counted, at the most; so many take a quarter of a millisecond."""


class Series:
    """Of one label value. ``bounds``: of its buckets, ascending; each holds what is at most its bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.array(bounds, dtype=np.float64)
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        self._seen: deque[float] = deque()
        self._lock = Lock()

    def observe(self, *values: float) -> None:
        """From any thread."""
        self._seen.extend(values)
        if len(self._seen) >= KEPT:
            self._count()

    def read(self) -> tuple[list[int], float]:
        """How many were at most each bound, and all of them; and their sum."""
        with self._lock:
            self._count_seen()
            return np.cumsum(self._counts).tolist(), self._sum

    def _count(self) -> None:
        with self._lock:
            self._count_seen()

    def _count_seen(self) -> None:
        # One by one from the left: others may be observed meanwhile.
        values = [self._seen.popleft() for _ in range(len(self._seen))]
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._sum += sum(values)


class Histogram(Collector):
    """Series by the values of one label, or a single one without a label."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], label: str | None, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds = bounds
        self._marks = [*map(repr, map(float, bounds)), "+Inf"]
        self._series: dict[str | None, Series] = {}
        registry.register(self)

    def of(self, value: str | None = None) -> Series:
        """The series of a label value, from now on at zero where it is new."""
        assert (value is None) == (self._label is None)
        found = self._series.get(value)
        return found if found is not None else self._series.setdefault(value, Series(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        metric = Metric(self._name, self._text, "histogram")
        for value, series in list(self._series.items()):
            labels = {} if self._label is None else {self._label: str(value)}
            counts, total = series.read()
            for mark, count in zip(self._marks, counts, strict=True):
                metric.add_sample(f"{self._name}_bucket", labels | {"le": mark}, count)
            metric.add_sample(f"{self._name}_count", labels, counts[-1])
            if self._bounds[0] >= 0:  # A sum that may fall is no counter, which Prometheus takes it for.
                metric.add_sample(f"{self._name}_sum", labels, total)
        yield metric
