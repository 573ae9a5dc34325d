"""Metrics: what Prometheus scrapes; each app has a registry of its own, labels come from closed sets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.schemas import ModelRef, PredictResponse

SECONDS = tuple(0.0001 * 1.5**step for step in range(30))
"""Buckets from 0.1 ms to 13 s, each half as wide again as the one before."""
STAGES = ("resolve", "score", "render")
UNMATCHED = "unmatched"
"""The route label of requests that no route takes, so that strangers cannot make label values."""


class Metrics:
    """Every series exists at zero from the first scrape on."""

    def __init__(self, routes: list[tuple[str, str]]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "momok_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "momok_request_seconds",
            "Time from request to answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "momok_stage_seconds",
            "Time a prediction spends in each stage.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("momok_requests_in_flight", "Requests in work.", registry=self.registry)
        self.queries = Counter("momok_queries", "Queries answered.", registry=self.registry)
        self.answers = Counter(
            "momok_answers", "Answers, by whether they are provably exact.", ["exact"], registry=self.registry
        )
        self.unknown_names = Counter(
            "momok_unknown_names",
            "Names in requests that led nowhere.",
            registry=self.registry,
        )
        self.bundle_info = Gauge(
            "momok_bundle_info", "1 for the bundle being served.", ["name", "version"], registry=self.registry
        )
        self.ready = Gauge("momok_ready", "1 while queries are answered.", registry=self.registry)
        for method, route in routes:
            self.requests.labels(method, route, "200")
            self.seconds.labels(route)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for exact in ("true", "false"):
            self.answers.labels(exact)

    def serve(self, model: ModelRef) -> None:
        self.bundle_info.labels(model.name, model.version).set(1)
        self.ready.set(1)

    def count(self, response: PredictResponse) -> None:
        self.queries.inc(len(response.answers))
        for answer in response.answers:
            self.answers.labels(str(answer.exact).lower()).inc()

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
