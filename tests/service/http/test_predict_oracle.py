"""Answers of /v1/predict against a brute-force oracle that reads nothing but the bundle's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from momok.service.http.app import create_app
from momok.service.settings import Settings
from tests.service.builders import NUM_RELATIONS, Made, make_bundle
from tests.service.local_client import LocalClient

CASES = [("sum", "faiss"), ("sum", "scan"), ("mean_sigmoid", "scan")]

# Small enough that every k can be asked, and large enough that searches are not all scans.
SIZES = {"small": 60, "large": 400}


@pytest.fixture(
    scope="module",
    params=[(*case, size) for case in CASES for size in SIZES],
    ids=str,
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Made, TestClient]]:
    decision, engine, size = request.param
    made = make_bundle(
        tmp_path_factory.mktemp("oracle") / "bundle", decision=decision, num_entities=SIZES[size]
    )
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu", engine=engine))) as client:
        yield made, client


def oracle(made: Made, entity: int, relation: int, head_missing: bool) -> list[tuple[float, int]]:
    """(-score, entity) of all entities, best first: one query alone, one candidate at a time."""
    asked = relation + NUM_RELATIONS if head_missing else relation
    with torch.inference_mode():
        query = made.model.encode(torch.tensor([entity]), torch.tensor([asked])).query
    scored = []
    for candidate in range(len(made.keys)):
        logits = []
        for branch, rows in made.table.items():
            pairs = zip(query[branch][0].tolist(), rows[candidate].tolist(), strict=True)
            logits.append(math.fsum(a * b for a, b in pairs))
        if made.model.decision == "sum":
            score = sum(logits)
        else:
            score = sum(1 / (1 + math.exp(-logit)) for logit in logits) / len(logits)
        scored.append((-score, candidate))
    return sorted(scored)


def known(made: Made, entity: int, relation: int, head_missing: bool) -> set[int]:
    given, other = (2, 0) if head_missing else (0, 2)
    return {
        int(fact[other])
        for facts in made.facts.values()
        for fact in facts
        if fact[given] == entity and fact[1] == relation
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_answers_equal_brute_force(served: tuple[Made, TestClient], data: st.DataObject) -> None:
    made, client = served
    num_entities = len(made.keys)
    ends = st.tuples(
        st.one_of(st.just(0), st.integers(0, num_entities - 1)),
        st.integers(0, NUM_RELATIONS - 1),
        st.booleans(),
    )
    asked = data.draw(st.lists(ends, min_size=1, max_size=6))
    k = data.draw(st.one_of(st.integers(1, 12), st.integers(1, num_entities)))
    exclude = data.draw(st.booleans())
    chosen = data.draw(
        st.one_of(st.none(), st.just("observed"), st.sets(st.integers(0, num_entities - 1), max_size=20))
    )
    body: dict[str, Any] = {"queries": [], "k": k, "exclude_known": exclude}
    for entity, relation, head_missing in asked:
        end = "tail" if head_missing else "head"
        body["queries"].append({end: f"e{entity}", "relation": f"r{relation}"})
    if chosen is not None:
        body["candidates"] = chosen if isinstance(chosen, str) else [f"e{entity}" for entity in chosen]
    response = client.post("/v1/predict", json=body)
    assert response.status_code == 200, response.text
    for (entity, relation, head_missing), answer in zip(asked, response.json()["answers"], strict=True):
        allowed = set(range(num_entities))
        if chosen == "observed":
            allowed = {
                int(fact[0 if head_missing else 2])
                for facts in made.facts.values()
                for fact in facts
                if fact[1] == relation
            }
        elif isinstance(chosen, set):
            allowed = set(chosen)
        if exclude:
            allowed -= known(made, entity, relation, head_missing)
        expected = [
            (score, candidate)
            for score, candidate in oracle(made, entity, relation, head_missing)
            if candidate in allowed
        ][:k]
        assert answer["exact"] is True
        offered = answer["candidates"]
        assert [item["rank"] for item in offered] == list(range(1, len(expected) + 1))
        assert_same_ranking([(-item["score"], int(item["entity"]["key"][1:])) for item in offered], expected)
        known_here = known(made, entity, relation, head_missing)
        assert all(bool(item["known"]) == (int(item["entity"]["key"][1:]) in known_here) for item in offered)


def assert_same_ranking(given: list[tuple[float, int]], expected: list[tuple[float, int]]) -> None:
    """The same entities in the same order, ties by id.

    Query vectors come from float32 products whose rounding depends on the batch, so scores agree to float32
    and entities may only change places where their true scores are that close; copies must never do.
    """
    assert len(given) == len(expected)
    for (score, entity), (right_score, right_entity) in zip(given, expected, strict=True):
        assert score == pytest.approx(right_score, rel=1e-5, abs=1e-5)
        if entity != right_entity:
            place = {candidate: value for value, candidate in expected}
            assert place.get(entity, right_score) == pytest.approx(right_score, rel=1e-5, abs=1e-5)
    for (score, entity), (next_score, next_entity) in pairwise(given):
        assert (score, entity) < (next_score, next_entity)


def test_searches_were_searches(served: tuple[Made, TestClient]) -> None:
    """The oracle test is worth as much as the paths it takes: index, scan and gathered sets."""
    made, client = served
    query = {"head": "e5", "relation": "r1"}

    def engine(**fields: Any) -> str:
        response = client.post("/v1/predict", json={"queries": [query], **fields})
        name: str = response.json()["answers"][0]["engine"]
        return name

    forced = client.get("/v1/model").json()["engines"]["1"]
    assert engine(k=len(made.keys)) == "scan"
    assert engine(k=5, candidates=["e1", "e2"]) == "gather"
    if len(made.keys) == SIZES["large"]:
        assert engine(k=1) == forced


def test_a_list_is_the_beginning_of_a_longer_one(served: tuple[Made, TestClient]) -> None:
    made, client = served
    lists = []
    for k in range(1, len(made.keys) + 1, 7):
        body = {"queries": [{"relation": "r2", "tail": "e0"}], "k": k, "exclude_known": False}
        answer = client.post("/v1/predict", json=body).json()["answers"][0]
        lists.append([item["entity"]["key"] for item in answer["candidates"]])
    for shorter, longer in pairwise(lists):
        assert longer[: len(shorter)] == shorter
