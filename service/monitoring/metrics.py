"""Metrics: what Prometheus scrapes; each app has a registry of its own, labels come from closed sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import time
from typing import NamedTuple, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)

from momok.model.retrieval.engine import EngineName
from momok.model.retrieval.index_spec import IndexKind
from momok.model.runtime.device import GpuMemory
from momok.service.answering.answerer import Answerer
from momok.service.monitoring.histogram import Histogram
from momok.service.scorer.question import Counted

SECONDS = tuple(0.0001 * 1.5**step for step in range(30))
"""Buckets from 0.1 ms to 13 s, each half as wide again as the one before."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SHARES = tuple(step / 20 for step in range(1, 21))
SCORES = (-50, -20, -10, -5, -2, -1, -0.5, 0, *(step / 10 for step in range(1, 10)), 1, 2, 5, 10, 20, 50)
"""Of probabilities and of logits: finer between 0 and 1."""
STAGES = ("resolve", "encode", "search", "rescore", "serialise")
SCANS = [name for name in get_args(EngineName) if name.startswith("scan")]
ENGINES = ("gather", *SCANS, *(f"faiss-{kind}" for kind in get_args(IndexKind)))
RELOADS = ("swapped", "refused", "failed", "busy", "revived")
REJECTIONS = (
    "too-large", "request-timeout", "slow-header", "queue-full", "rate-limited", "deadline-exceeded",
    "out-of-memory", "client-gone", "client-deadline", "starting", "draining", "too-many-connections",
    "unauthorized", "forbidden", "unknown-host",
)  # fmt: skip
OTHER = "other"


class Told(NamedTuple):
    """What a request was told, and how long it took to find its names, and each stage of its batch."""

    answers: Sequence[Counted]
    modalities: Sequence[str]
    resolve_s: float
    seconds: Mapping[str, float]


class Metrics:
    """Every series exists at zero from the first scrape on; those of modalities once a bundle is loaded."""

    def __init__(self, routes: list[tuple[str, str]]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._of_requests(routes)
        self._of_scoring()
        self._of_answers()
        self._of_process()
        self._created_at = 0.0

    def _of_requests(self, routes: list[tuple[str, str]]) -> None:
        self.requests = self._counter("requests", "Requests answered.", ["method", "route", "status"])
        self.seconds = self._histogram("request_seconds", "Time from request to answer.", SECONDS, "route")
        self.in_flight = 0
        in_flight = self._gauge("requests_in_flight", "Requests in work.")
        in_flight.set_function(lambda: self.in_flight)
        self.connections = self._gauge("connections", "Connections that are open.")
        self._rejected = self._counter("rejected", "Requests not answered, by the reason.", ["reason"])
        for method, route in routes:
            for status in ("200", "500", "503"):  # So that an alert sees the first failure too.
                self.requests.labels(method, route, status)
            self.seconds.of(route)
        self.rejected = {reason: self._rejected.labels(reason) for reason in REJECTIONS}

    def _of_scoring(self) -> None:
        stage_seconds = self._histogram(
            "stage_seconds", "Time a prediction spends in each stage.", SECONDS, "stage"
        )
        self.stage_seconds = {stage: stage_seconds.of(stage) for stage in STAGES}
        self.queue_wait = self._histogram("queue_wait_seconds", "Time until its batch begins.", SECONDS).of()
        self.batch_queries = self._histogram("batch_queries", "Queries scored together.", SIZES).of()
        self.queue = self._gauge("queue_queries", "Queries that wait for the scorer.")
        self.queue_limit = self._gauge("queue_limit_queries", "Queries that may wait.")
        self.scorer_alive = self._gauge("scorer_alive", "1 while the scorer is well.")
        self.gpu_memory = self._gauge("gpu_memory_bytes", "Memory that torch holds on the GPU.")
        self.gpu_memory_limit = self._gauge("gpu_memory_limit_bytes", "Memory that the GPU has.")

    def _of_answers(self) -> None:
        self.queries = self._counter("queries", "Queries answered.")
        answers = self._counter(
            "answers", "Answers, by whether they are provably exact and by what found them.",
            ["exact", "engine"],
        )  # fmt: skip
        self.answers = {
            (exact, engine): answers.labels(str(exact).lower(), engine)
            for exact in (True, False)
            for engine in (*ENGINES, OTHER)
        }
        self.filtered = self._counter("candidates_filtered", "Known answers kept out of lists.")
        self.unknown_names = self._counter("unknown_names", "Names in requests that led nowhere.")
        self.top_score = self._histogram("top_score", "Score of the best candidate.", SCORES).of()
        self._modality_weight = self._histogram(
            "modality_weight", "Weight of each modality in a query.", SHARES, "modality"
        )

    def _of_process(self) -> None:
        self.bundle_info = self._gauge("bundle_info", "1 for the bundle being served.", ["name", "version"])
        age = self._gauge("bundle_age_seconds", "Since the bundle being served was exported.")
        age.set_function(lambda: time() - self._created_at if self._created_at else 0.0)
        reloads = self._counter("reloads", "Attempts to serve another bundle.", ["result"])
        self.reloads = {result: reloads.labels(result) for result in RELOADS}
        self.ready = self._gauge("ready", "1 while queries are answered.")
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop does what is due.", SECONDS
        ).of()

    def watch(
        self,
        queued: Callable[[], float],
        connections: Callable[[], float],
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        gpu_memory: Callable[[], GpuMemory],
        scorer_pid: Callable[[], int],
    ) -> None:
        """What is asked at each scrape; once only. ``scorer_pid``: of the first process that scores."""
        ProcessCollector("momok_scorer", scorer_pid, registry=self.registry)
        self.gpu_memory.set_function(lambda: gpu_memory().held_bytes)
        self.gpu_memory_limit.set_function(lambda: gpu_memory().total_bytes)
        self.queue.set_function(queued)
        self.connections.set_function(connections)
        self.scorer_alive.set_function(alive)
        self.ready.set_function(ready)

    def serve(self, answerer: Answerer) -> None:
        """This bundle is served from now on."""
        model = answerer.reference()
        for name in answerer.modality_names:
            self._modality_weight.of(name)
        self.bundle_info.clear()
        self.bundle_info.labels(model.name, model.version).set(1)
        self._created_at = _timestamp(answerer.bundle.manifest.created_at)

    def answered(self, method: str, route: str, status: int, outcome: str, seconds: float) -> None:
        """A request has been answered; ``method``, ``route`` and ``outcome`` are of closed sets."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.of(route).observe(seconds)
        if (rejected := self.rejected.get(outcome)) is not None:
            rejected.inc()

    def count(self, told: Told) -> None:
        """The answers of one request, and its stages."""
        self.stage_seconds["resolve"].observe(told.resolve_s)
        for stage in STAGES[1:]:
            self.stage_seconds[stage].observe(told.seconds[stage])
        self.queries.inc(len(told.answers))
        self.filtered.inc(sum([answer.num_excluded for answer in told.answers]))
        self.top_score.observe(*[a.top_score for a in told.answers if a.top_score is not None])
        for answer in told.answers:
            engine = answer.engine if answer.engine in ENGINES else OTHER
            self.answers[answer.exact, engine].inc()
        columns = zip(*[answer.modality_weights for answer in told.answers], strict=True)
        for name, weights in zip(told.modalities, columns, strict=True):
            self._modality_weight.of(name).observe(*weights)

    def batch(self, num_queries: int, waits_s: Sequence[float]) -> None:
        self.batch_queries.observe(num_queries)
        self.queue_wait.observe(*waits_s)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"momok_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"momok_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, bounds: Sequence[float], label: str | None = None
    ) -> Histogram:
        return Histogram(f"momok_{name}", text, bounds, label, self.registry)


def _timestamp(created_at: str) -> float:
    """Seconds since 1970; 0 for what is no date."""
    try:
        return datetime.fromisoformat(created_at).timestamp()
    except ValueError:
        return 0.0
