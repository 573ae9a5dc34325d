"""Schemathesis asks a real server all that the API's document allows, and much that it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from momok.service.http.app import build_api
from tests.e2e.processes import serving
from tests.service.builders import ADMIN, ADMIN_KEY, make_bundle

CONFIG = SchemathesisConfig.from_dict({"generation": {"deterministic": True, "mode": "all"}})
SCHEMA = schemathesis.openapi.from_dict(build_api().openapi(), config=CONFIG)
NAMES = {"head": "e1", "tail": "e2", "relation": "near", "key": "e5"}
TIMEOUT = "X-Request-Timeout-Ms"
STATUSES: Counter[tuple[str, int]] = Counter()


def make_answerable(case: Any) -> None:
    """Bring a good request within the limits and to names that exist: invented ones are only ever refused."""
    if case.path_parameters:
        case.path_parameters["key"] = NAMES["key"]
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("k"), int):
        body["k"] = 1 + body["k"] % 50
    if isinstance(body.get("candidates"), list):
        body["candidates"] = [NAMES["key"] for _ in body["candidates"]]
    for query in _objects(body.get("queries")):
        if (query.get("head") is None) == (query.get("tail") is None):
            query.update(head=NAMES["head"], tail=None)
    for part in [body, *_objects(body.get("queries")), *_objects(body.get("facts"))]:
        part.update({name: NAMES[name] for name in NAMES.keys() & part.keys() if part[name] is not None})


def _objects(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("schema")
    made = make_bundle(folder / "bundle", decision="mean_sigmoid")
    (folder / "admins").write_text(f"{ADMIN_KEY}\n", encoding="utf-8")
    flags = ("--engine", "scan", "--admin-keys-file", folder / "admins")
    with serving(made.path, folder, *flags) as (address, _):
        yield address


@SCHEMA.parametrize()
@settings(max_examples=30, deadline=None)
def test_every_answer_is_as_documented(case: Any, url: str) -> None:
    if case.meta.generation.mode.is_positive and len(repr(case.body)) % 2:
        make_answerable(case)
    if case.headers and (case.headers.get(TIMEOUT) or "").isdigit():
        case.headers[TIMEOUT] = "9000"  # Less time than it takes is rightly a 504.
    response = case.call_and_validate(base_url=url, headers=ADMIN, excluded_checks=[positive_data_acceptance])
    STATUSES[case.operation.path, response.status_code] += 1


def test_good_and_bad_requests_were_among_them() -> None:
    for path, methods in build_api().openapi()["paths"].items():
        assert path == "/admin/rollback" or STATUSES[path, 200] > 0, path  # There is nothing to go back to.
        if "requestBody" in methods.get("post", {}):
            assert STATUSES[path, 200] > 5, path
            assert STATUSES[path, 422] > 20, path
