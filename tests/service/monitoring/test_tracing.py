"""Traces of predictions, as an exporter in this process gets them."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from momok.model.errors import UserError
from momok.service.http.app import create_app
from momok.service.monitoring.tracing import Tracer
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.local_client import LocalClient

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = {"queries": [{"head": "e1", "relation": "r0"}] * 2}


def traced(made: Made, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> dict[str, ReadableSpan]:
    """The spans of one prediction; other requests leave none."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(Tracer, "from_environment", lambda: Tracer(exporter))
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu", traces=True))) as client:
        assert client.get("/livez").status_code == 200
        assert client.post("/v1/predict", json={}).status_code == 422
        assert client.post("/v1/predict", json=GOOD, headers=headers).status_code == 200
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_prediction_has_a_span_and_its_stages(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = traced(made, monkeypatch, {})
    assert set(spans) == {"POST /v1/predict", "queue", "scoring", "rendering"}
    request = spans["POST /v1/predict"]
    attributes = request.attributes or {}
    assert attributes["http.response.status_code"] == 200 and attributes["momok.queries"] == 2
    ends = []
    for name in ("queue", "scoring", "rendering"):
        span = spans[name]
        assert span.parent is not None and span.parent.span_id == request.context.span_id
        assert span.start_time is not None and span.end_time is not None and request.start_time is not None
        assert request.start_time <= span.start_time <= span.end_time
        ends.append(span.end_time)
    assert ends == sorted(ends)


def test_the_trace_of_the_caller_goes_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = traced(made, monkeypatch, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
    request = spans["POST /v1/predict"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None and f"{request.parent.span_id:016x}" == SPAN


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", "z" * 5000])
def test_a_wrong_parent_begins_a_trace(made: Made, monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    assert traced(made, monkeypatch, {"traceparent": parent})["POST /v1/predict"].parent is None


def test_without_the_extra_the_remedy_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UserError, match=r"momok\[traces\]"):
        create_app(Settings(bundle=made.path, device="cpu", traces=True))
