"""The description of the API: examples everywhere, and none that it would not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from momok.service.contract import errors, fact_schemas, schemas
from momok.service.http.app import build_api

SCHEMAS: dict[str, dict[str, Any]] = build_api().openapi()["components"]["schemas"]
FOREIGN = {"HTTPValidationError", "ValidationError"}
"""FastAPI's own, which no route of ours answers with."""


def properties() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, schema in SCHEMAS.items():
        if name not in FOREIGN:
            yield from ((name, field, given) for field, given in schema["properties"].items())


def refers(given: dict[str, Any]) -> bool:
    """Whether a property is a model, or a list of one, whose fields have examples of their own."""
    return "$ref" in given or "$ref" in str(given.get("items")) or "$ref" in str(given.get("anyOf"))


@pytest.mark.parametrize(("name", "field", "given"), list(properties()))
def test_every_field_has_an_example_that_it_takes(name: str, field: str, given: dict[str, Any]) -> None:
    if "examples" not in given:
        assert refers(given), f"{name}.{field} has no example"
        return
    model = next(getattr(module, name) for module in (schemas, fact_schemas, errors) if hasattr(module, name))
    kind = model.model_fields[field]
    for example in given["examples"]:
        TypeAdapter(kind.annotation).validate_python(example)


def test_only_our_own_problems_are_promised() -> None:
    assert not FOREIGN & SCHEMAS.keys()
