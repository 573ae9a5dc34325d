"""A histogram that counts late says what the library's says."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from momok.service.monitoring.histogram import KEPT, Histogram

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(registry: CollectorRegistry) -> Samples:
    """As Prometheus reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def ours_and_theirs(bounds: Sequence[float], values: Sequence[float]) -> tuple[Samples, Samples]:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("h", "Text.", bounds, None, ours).of().observe(*values)
    library = prometheus_client.Histogram("h", "Text.", buckets=bounds, registry=theirs)
    for value in values:
        library.observe(value)
    return samples(ours), samples(theirs)


@pytest.mark.parametrize(
    ("bounds", "values"),
    [
        ((0.1, 0.5, 2), ()),
        ((0.1, 0.5, 2), (0.1, 0.5, 2, 0, 0.1000001, 7)),  # At a bound is in its bucket.
        ((-50, -1, 0, 1), (-60, -50, -0.5, 0, 1, 3)),  # Sums that may fall are not told.
    ],
)
def test_as_the_library_counts(bounds: Sequence[float], values: Sequence[float]) -> None:
    ours, theirs = ours_and_theirs(bounds, values)
    assert ours == theirs


def test_many_observations_between_two_looks() -> None:
    values = np.random.default_rng(0).exponential(1, 3 * KEPT + 7).tolist()
    ours, theirs = ours_and_theirs((0.1, 1, 3), values)
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs)


def test_what_waits_to_be_counted_is_bounded() -> None:
    series = Histogram("h", "Text.", (1,), None, CollectorRegistry()).of()
    for _ in range(5 * KEPT):
        series.observe(0.5)
        assert len(series._seen) < KEPT
    assert series.read() == ([5 * KEPT, 5 * KEPT], 2.5 * KEPT)


def test_each_label_has_a_series_from_the_beginning() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "Text.", (1,), "kind", registry)
    histogram.of("a")
    histogram.of("b").observe(0.5, 2)
    assert histogram.of("b") is histogram.of("b")
    counts = {
        dict(labels)["kind"]: value
        for (name, labels), value in samples(registry).items()
        if name == "h_count"
    }
    assert counts == {"a": 0, "b": 2}


def test_nothing_is_lost_where_threads_observe_while_others_look() -> None:
    series = Histogram("h", "Text.", (1,), None, CollectorRegistry()).of()
    num_threads, each = 4, 20_000

    def observe() -> None:
        for _ in range(each):
            series.observe(1)

    threads = [threading.Thread(target=observe) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        series.read()
    assert series.read() == ([num_threads * each] * 2, num_threads * each)
