"""Context: what the layers and routes share of the app that they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import FastAPI

from momok.service.answering.answerer import Answerer
from momok.service.batching.batcher import MicroBatcher
from momok.service.deployment.deployment import Deployment
from momok.service.http.access import Access
from momok.service.http.connections import Connections
from momok.service.http.limiter import Limiter
from momok.service.http.lookups import Lookups
from momok.service.monitoring.metrics import Metrics
from momok.service.monitoring.tracing import Tracer
from momok.service.settings import Settings


@dataclass(frozen=True)
class Context:
    settings: Settings
    metrics: Metrics
    deployment: Deployment
    scorer: MicroBatcher
    access: Access
    limiter: Limiter
    connections: Connections
    tracer: Tracer | None = None
    lookups: Lookups = field(default_factory=Lookups)

    @property
    def answerer(self) -> Answerer:
        """What answers now, to be asked for once in a request. Raises ``Starting``."""
        return self.deployment.answerer

    @property
    def trouble(self) -> str | None:
        """Why this server should be replaced, None while all is well; probes show it to strangers."""
        failed = self.deployment.trouble and "no scorer can be started; the log says why"
        return self.scorer.trouble or failed


def context_of(app: FastAPI) -> Context:
    """The context of an app."""
    context: Context = app.state.context
    return context
