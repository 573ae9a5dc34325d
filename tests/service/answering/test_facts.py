"""/v1/score, /v1/relations/rank and neighbors, against loops over the bundle's tables and facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from momok.model.bundle.bundle import Bundle
from momok.model.filter_index import SPLITS
from momok.service.http.app import create_app
from momok.service.settings import Settings
from momok.training.export.export import evaluate_bundle
from tests.service.builders import NUM_RELATIONS, Made, make_bundle
from tests.service.http.test_api import pointers, problem
from tests.service.local_client import LocalClient

SCORE, RANK = "/v1/score", "/v1/relations/rank"
FACT = {"head": "e1", "relation": "r0", "tail": "e2"}


@pytest.fixture(scope="module", params=["sum", "mean_sigmoid"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Made, TestClient]]:
    made = make_bundle(tmp_path_factory.mktemp("facts") / "bundle", decision=request.param)
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        yield made, client


def branch_values(made: Made, entity: int, relation: int) -> list[dict[str, float]]:
    """Of every entity as an answer: what each branch adds to its score; relations in [0, 2R)."""
    with torch.inference_mode():
        query = made.model.encode(torch.tensor([entity]), torch.tensor([relation])).query
    found = []
    for candidate in range(len(made.keys)):
        values = {}
        for branch, rows in made.table.items():
            pairs = zip(query[branch][0].tolist(), rows[candidate].tolist(), strict=True)
            logit = math.fsum(a * b for a, b in pairs)
            values[branch] = logit if made.model.decision == "sum" else 1 / (1 + math.exp(-logit))
        found.append(values)
    return found


def decided(made: Made, values: dict[str, float]) -> float:
    return math.fsum(values.values()) / (1 if made.model.decision == "sum" else len(values))


def facts_of(made: Made) -> list[tuple[int, int, int]]:
    return [tuple(fact) for split in made.facts.values() for fact in split.tolist()]


def oracle_ranks(made: Made, entity: int, relation: int, answer: int) -> tuple[float, float]:
    """Raw and filtered; scores closer than float32 can tell are ties only where vectors are copies."""
    scores = [decided(made, values) for values in branch_values(made, entity, relation)]
    forward = relation < NUM_RELATIONS
    known = {
        (tail if forward else head)
        for head, between, tail in facts_of(made)
        if (head if forward else tail) == entity and between == relation % NUM_RELATIONS
    }
    raw = filtered = 1.0
    for candidate, score in enumerate(scores):
        if candidate == answer:
            continue
        share = 0.5 if score == scores[answer] else float(score > scores[answer])
        raw += share
        filtered += 0 if candidate in known else share
    return raw, filtered


def first_split(made: Made, fact: tuple[int, int, int]) -> Any:
    return next((name for name in SPLITS if list(fact) in made.facts[name].tolist()), False)


def body_of(facts: list[tuple[int, int, int]]) -> dict[str, Any]:
    return {"facts": [{"head": f"e{h}", "relation": f"r{r}", "tail": f"e{t}"} for h, r, t in facts]}


def test_scores_and_ranks_are_those_of_plain_loops(served: tuple[Made, TestClient]) -> None:
    made, client = served
    asked = [(0, 0, 3), (0, 0, 1), (7, 2, 25), (30, 1, 10), *facts_of(made)[-6:]]
    response = client.post(SCORE, json=body_of(asked)).json()
    for fact, answer in zip(asked, response["facts"], strict=True):
        head, relation, tail = fact
        assert answer["known"] == first_split(made, fact)
        assert answer["fact"]["head"]["key"] == f"e{head}"
        assert answer["fact"]["tail"]["key"] == f"e{tail}"
        assert answer["fact"]["relation"]["key"] == f"r{relation}"
        ends = answer["ends"]
        for end, query in (
            ("tail", (head, relation, tail)),
            ("head", (tail, relation + NUM_RELATIONS, head)),
        ):
            values = branch_values(made, *query[:2])[query[2]]
            assert ends[end]["score"] == pytest.approx(decided(made, values), rel=1e-4, abs=1e-5)
            assert ends[end]["branch_scores"] == pytest.approx(values, rel=1e-4, abs=1e-5)
            assert (ends[end]["raw_rank"], ends[end]["filtered_rank"]) == oracle_ranks(made, *query)
            assert sum(ends[end]["modality_weights"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["score"] == pytest.approx((ends["head"]["score"] + ends["tail"]["score"]) / 2)
    assert any(fact["known"] for fact in response["facts"])
    assert any(end["raw_rank"] % 1 for fact in response["facts"] for end in fact["ends"].values()), "no ties"


def test_ranks_are_those_that_evaluate_averages(served: tuple[Made, TestClient]) -> None:
    made, client = served
    report = evaluate_bundle(Bundle.open(made.path), "test")
    facts = sorted({tuple(fact) for fact in made.facts["test"].tolist()})
    answers = client.post(SCORE, json=body_of(facts) | {"explain": False}).json()["facts"]
    ranks = [end["filtered_rank"] for answer in answers for end in answer["ends"].values()]
    assert report["metrics"]["num_queries"] == len(ranks)
    assert sum(1 / rank for rank in ranks) / len(ranks) == pytest.approx(report["metrics"]["mrr"], rel=1e-9)
    assert sum(ranks) / len(ranks) == pytest.approx(report["metrics"]["mr"], rel=1e-9)


def test_the_score_of_a_fact_is_that_of_the_prediction(served: tuple[Made, TestClient]) -> None:
    _, client = served
    asked = {"queries": [{"head": "e1", "relation": "r0"}], "k": 60, "exclude_known": False}
    offers = client.post("/v1/predict", json=asked).json()["answers"][0]["candidates"]
    offer = next(offer for offer in offers if offer["entity"]["key"] == "e2")
    (answer,) = client.post(SCORE, json={"facts": [FACT]}).json()["facts"]
    assert answer["ends"]["tail"]["score"] == pytest.approx(offer["score"], rel=1e-5)
    assert answer["known"] == offer["known"]


def test_explanations_of_scores_can_be_left_out(client: TestClient) -> None:
    (answer,) = client.post(SCORE, json={"facts": [FACT], "explain": False}).json()["facts"]
    for end in answer["ends"].values():
        explained = ("branch_scores", "modality_weights", "expert_gates", "relation_temperature")
        assert all(end[name] is None for name in explained)
        assert end["raw_rank"] >= 1
    ranked = client.post(RANK, json={"head": "e1", "tail": "e2", "explain": False}).json()
    assert all(item["branch_scores"] is None for item in ranked["relations"])


def test_relations_are_ranked_by_the_mean_of_both_ends(served: tuple[Made, TestClient]) -> None:
    made, client = served
    head, _, tail = facts_of(made)[-1]
    expected = []
    for relation in range(NUM_RELATIONS):
        by_tail = branch_values(made, head, relation)[tail]
        by_head = branch_values(made, tail, relation + NUM_RELATIONS)[head]
        mean = (decided(made, by_tail) + decided(made, by_head)) / 2
        branches = {name: (by_tail[name] + by_head[name]) / 2 for name in by_tail}
        expected.append((-mean, relation, decided(made, by_tail), decided(made, by_head), branches))
    response = client.post(RANK, json={"head": f"e{head}", "tail": f"e{tail}"}).json()
    assert "No model here was trained" in response["note"]
    assert [item["rank"] for item in response["relations"]] == [1, 2, 3]
    close = partial(pytest.approx, rel=1e-4, abs=1e-5)
    for item, (worst, relation, tail_score, head_score, shares) in zip(
        response["relations"], sorted(expected, key=lambda row: row[:2]), strict=True
    ):
        assert item["relation"]["key"] == f"r{relation}"
        assert item["score"] == close(-worst)
        assert item["ends"] == close({"tail": tail_score, "head": head_score})
        assert item["branch_scores"] == close(shares)
        assert item["known"] == first_split(made, (head, relation, tail))
    assert any(item["known"] for item in response["relations"])
    best = client.post(RANK, json={"head": f"e{head}", "tail": f"e{tail}", "k": 1}).json()["relations"]
    assert best == response["relations"][:1]


def test_many_relations_take_several_turns_of_the_scorer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"head": "e1", "tail": "e2"}
    at_once = client.post(RANK, json=body).json()
    monkeypatch.setattr("momok.service.answering.facts.RELATIONS_AT_ONCE", 2)
    in_turns = client.post(RANK, json=body).json()
    for one, other in zip(at_once["relations"], in_turns["relations"], strict=True):
        assert one["relation"] == other["relation"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (SCORE, {}, ["/facts"]),
        (SCORE, {"facts": []}, ["/facts"]),
        (SCORE, {"facts": [FACT] * 5}, ["/facts"]),
        (SCORE, {"facts": [FACT | {"head": None}]}, ["/facts/0/head"]),
        (SCORE, {"facts": [FACT | {"tail": "x" * 1025}]}, ["/facts/0/tail"]),
        (SCORE, {"facts": [FACT, {"head": "Entitty 12", "relation": "liks", "tail": "Twin"}]},
         ["/facts/1/head", "/facts/1/relation", "/facts/1/tail"]),
        (RANK, {"head": "e1"}, ["/tail"]),
        (RANK, {"head": "nobody", "tail": "Twin"}, ["/head", "/tail"]),
        (RANK, {"head": "e1", "tail": "e2", "k": 101}, ["/k"]),
        (RANK, {"head": "e1", "tail": "e2", "k": 0}, ["/k"]),
        (RANK, {"head": "e1", "tail": "e2", "relation": "r0"}, ["/relation"]),
    ],
)  # fmt: skip
def test_bad_facts_are_told_what_is_wrong_and_where(
    client: TestClient, path: str, body: dict[str, Any], where: list[str]
) -> None:
    document = problem(client.post(path, json=body), 422)
    assert pointers(document) == where
    for item in document["errors"]:
        if "Entitty" in item["detail"]:
            assert "Entity 12" in item["choices"]
        if "Twin" in item["detail"]:
            assert item["choices"] == ["e3", "e4"]


def test_as_many_facts_as_allowed_are_scored(client: TestClient) -> None:
    assert len(client.post(SCORE, json={"facts": [FACT] * 4}).json()["facts"]) == 4


def around(made: Made, entity: int, direction: str, relation: int | None) -> list[tuple[Any, ...]]:
    """The facts around an entity, as (direction, head, relation, tail, split), in the order promised."""
    found = set()
    for head, between, tail in facts_of(made):
        if relation not in (None, between):
            continue
        split = first_split(made, (head, between, tail))
        if head == entity and direction != "incoming":
            found.add((0, between, tail, "outgoing", head, tail, split))
        if tail == entity and direction != "outgoing":
            found.add((1, between, head, "incoming", head, tail, split))
    return [(row[3], f"e{row[4]}", f"r{row[1]}", f"e{row[5]}", row[6]) for row in sorted(found)]


@pytest.mark.parametrize("direction", ["both", "outgoing", "incoming"])
@pytest.mark.parametrize("relation", [None, 0, 2])
def test_neighbors_are_the_facts_around_an_entity(
    served: tuple[Made, TestClient], direction: str, relation: int | None
) -> None:
    made, client = served
    for entity in (0, 5, 17):
        seen: list[tuple[Any, ...]] = []
        offset: int | None = 0
        while offset is not None:
            asked: dict[str, str | int] = {"direction": direction, "limit": 7, "offset": offset}
            asked |= {} if relation is None else {"relation": ["likes", "near", "of"][relation]}
            page = client.get(f"/v1/entities/e{entity}/neighbors", params=asked).json()
            assert page["entity"]["key"] == f"e{entity}"
            assert len(page["facts"]) <= 7
            seen += [
                (
                    row["direction"],
                    row["head"]["key"],
                    row["relation"]["key"],
                    row["tail"]["key"],
                    row["known"],
                )
                for row in page["facts"]
            ]
            offset = page["next_offset"]
        assert seen == around(made, entity, direction, relation)
        assert page["num_facts"] == len(seen)


def test_bad_questions_for_neighbors(client: TestClient) -> None:
    problem(client.get("/v1/entities/nobody/neighbors"), 404)
    document = problem(client.get("/v1/entities/e0/neighbors?relation=liks"), 422)
    assert (pointers(document), document["errors"][0]["choices"]) == (["relation"], ["likes"])
    for query in ("direction=up", "limit=0", "limit=201", "offset=-1", f"relation={'x' * 1025}"):
        document = problem(client.get(f"/v1/entities/e0/neighbors?{query}"), 422)
        assert pointers(document) == [query.split("=")[0]]
    assert client.get("/v1/entities/e0/neighbors?offset=100000").json()["facts"] == []


def test_a_key_that_ends_in_neighbors_stays_reachable(tmp_path: Any) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum", renamed={0: "a/neighbors", 5: "a"})
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        assert client.get("/v1/entities/a%2Fneighbors").json()["key"] == "a/neighbors"
        assert client.get("/v1/entities/a/neighbors").json()["entity"]["key"] == "a"
        both = client.get("/v1/entities/a%2Fneighbors/neighbors").json()
        assert both["entity"]["key"] == "a/neighbors"


def test_the_model_says_where_it_comes_from(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    index = model["index"]
    assert (index["kind"], index["parameters"], index["spaces"], index["recall"]) == ("flat", {}, [], {})
    assert model["provenance"] == {"command": "made by hand"}
    assert model["engines"]
