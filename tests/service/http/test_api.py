"""The routes as a stranger meets them: good requests, and every kind of bad one."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from momok.service.answering.answerer import Answerer
from momok.service.http.app import create_app
from momok.service.settings import Settings
from tests.service.builders import Made, make_bundle
from tests.service.local_client import LocalClient

ROOT = Path(__file__).resolve().parents[3]
PREDICT = "/v1/predict"
GOOD = {"head": "e1", "relation": "r0"}


def problem(response: Any, status: int) -> dict[str, Any]:
    """The problem document, checked for what every one of them has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:momok:problem:")
    assert document["title"] and document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def pointers(document: dict[str, Any]) -> list[str]:
    return [item["pointer"] for item in document["errors"]]


def test_both_directions_in_one_request(client: TestClient) -> None:
    body = {
        "queries": [{"head": "Entity 1", "relation": "likes"}, {"relation": "near", "tail": "e2"}],
        "k": 3,
    }
    answers = client.post(PREDICT, json=body).json()["answers"]
    assert answers[0]["query"] == {
        "head": {"key": "e1", "label": "Entity 1"},
        "relation": {"key": "r0", "label": "likes"},
        "tail": None,
        "missing": "tail",
    }
    assert answers[1]["query"]["head"] is None
    assert answers[1]["query"]["missing"] == "head"
    assert [len(answer["candidates"]) for answer in answers] == [3, 3]


def test_an_answer_says_what_was_trusted(client: TestClient) -> None:
    response = client.post(PREDICT, json={"queries": [GOOD], "k": 60, "exclude_known": False}).json()
    assert response["score_kind"] == "logit_sum"
    (answer,) = response["answers"]
    assert sum(answer["modality_weights"].values()) == pytest.approx(1, abs=1e-5)
    # Odd entities lack the image: no weight, no gates, in the query as in the candidates.
    assert answer["modality_weights"]["image"] == 0
    assert answer["expert_gates"]["image"] is None
    assert sum(answer["expert_gates"]["type"]) == pytest.approx(1, abs=1e-5)
    assert 0 < answer["relation_temperature"] < 1
    for offer in answer["candidates"]:
        has_image = int(offer["entity"]["key"][1:]) % 2 == 0
        assert (offer["expert_gates"]["image"] is not None) == has_image
        assert (offer["modality_weights"]["image"] > 0) == has_image
        assert sum(offer["branch_scores"].values()) == pytest.approx(offer["score"], abs=1e-9)
        assert set(offer["branch_scores"]) == {"structure", "image", "type", "joint"}


def test_explanations_can_be_left_out(client: TestClient) -> None:
    body = {"queries": [GOOD], "explain": False}
    (answer,) = client.post(PREDICT, json=body).json()["answers"]
    explained = ("modality_weights", "expert_gates")
    assert all(answer[name] is None for name in explained)
    assert all(
        offer[name] is None for offer in answer["candidates"] for name in (*explained, "branch_scores")
    )


def test_min_score_cuts_the_list(client: TestClient) -> None:
    body = {"queries": [GOOD], "k": 20}
    scores = [item["score"] for item in client.post(PREDICT, json=body).json()["answers"][0]["candidates"]]
    body["min_score"] = scores[4]
    kept = client.post(PREDICT, json=body).json()["answers"][0]["candidates"]
    assert [item["score"] for item in kept] == [score for score in scores if score >= scores[4]]


def test_exclude_known_leaves_a_full_list_even_for_a_hub(client: TestClient) -> None:
    body = {"queries": [{"head": "e0", "relation": "r0"}], "k": 10}
    offers = client.post(PREDICT, json=body).json()["answers"][0]["candidates"]
    assert len(offers) == 10
    assert not any(offer["known"] for offer in offers)
    body["exclude_known"] = False
    offers = client.post(PREDICT, json=body | {"k": 60}).json()["answers"][0]["candidates"]
    assert {offer["known"] for offer in offers} >= {False, "train"}


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ({}, "/queries", "required"),
        ({"queries": []}, "/queries", "at least 1"),
        ({"queries": [GOOD], "k": 0}, "/k", "greater than or equal to 1"),
        ({"queries": [GOOD], "k": -3}, "/k", "greater than or equal to 1"),
        ({"queries": [GOOD], "k": True}, "/k", "integer"),
        ({"queries": [GOOD], "k": 2.5}, "/k", "integer"),
        ({"queries": [GOOD], "k": 101}, "/k", "at most 100"),
        ({"queries": [GOOD] * 9}, "/queries", "takes 8"),
        ({"queries": [GOOD] * 5, "k": 81}, "/k", "at most 400"),
        ({"queries": [GOOD], "topk": 3}, "/topk", "not permitted"),
        ({"queries": [GOOD], "min_score": "high"}, "/min_score", "number"),
        ({"queries": [GOOD], "explain": "yes"}, "/explain", "boolean"),
        ({"queries": [{"relation": "r0"}]}, "/queries/0", "neither is given"),
        ({"queries": [{**GOOD, "tail": "e2"}]}, "/queries/0", "both are given"),
        ({"queries": [{"head": "e1"}]}, "/queries/0/relation", "required"),
        ({"queries": [{"head": "", "relation": "r0"}]}, "/queries/0/head", "at least 1"),
        ({"queries": [{"head": "x" * 2000, "relation": "r0"}]}, "/queries/0/head", "at most 1024"),
        ({"queries": [{"head": 7, "relation": "r0"}]}, "/queries/0/head", "string"),
        (
            {"queries": [GOOD, {"head": "e1", "relation": "nosuch"}]},
            "/queries/1/relation",
            "unknown relation",
        ),
        ({"queries": [GOOD], "candidates": ["e1", "nobody"]}, "/candidates/1", "unknown entity"),
        ({"queries": [GOOD], "candidates": ["e1", 2]}, "/candidates/1", "string"),
        ({"queries": [GOOD], "candidates": "seen"}, "/candidates", "observed"),
        ({"queries": [GOOD], "candidates": 3}, "/candidates", "observed"),
        ({"queries": [GOOD], "candidates": ["e1"] * 10_001}, "/candidates", "at most 10000"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_where(
    client: TestClient, body: Any, where: str, words: str
) -> None:
    document = problem(client.post(PREDICT, json=body), 422)
    assert pointers(document) == [where]
    assert words in document["errors"][pointers(document).index(where)]["detail"]


NO_OBJECTS = [b"", b"{", b"[1,", b"\xff\xfe", b'{"queries": NaN}', b"null", b"[]", b'"x"']
UNREADABLE = [b'{"queries": "\xff"}', b"[" * 100_000, b'{"k": ' + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("content", [*NO_OBJECTS, *UNREADABLE], ids=lambda content: repr(content[:12]))
def test_a_body_that_is_no_object(client: TestClient, content: bytes) -> None:
    response = client.post(PREDICT, content=content, headers={"content-type": "application/json"})
    problem(response, 422)


def test_a_body_of_another_type_is_told_which_is_right(client: TestClient) -> None:
    response = client.post(PREDICT, content=json.dumps({"queries": [GOOD]}))
    assert "application/json" in problem(response, 422)["detail"]


def test_lone_surrogates_are_refused(client: TestClient) -> None:
    content = b'{"queries": [{"head": "\\ud800", "relation": "r0"}]}'
    response = client.post(PREDICT, content=content, headers={"content-type": "application/json"})
    assert pointers(problem(response, 422)) == [""], "they are no JSON"


def test_all_bad_names_are_named_at_once_with_the_nearest(client: TestClient) -> None:
    body = {"queries": [{"head": "Entitty 12", "relation": "liks"}, {"relation": "near", "tail": "Twin"}]}
    document = problem(client.post(PREDICT, json=body), 422)
    assert pointers(document) == ["/queries/0/head", "/queries/0/relation", "/queries/1/tail"]
    assert "Entity 12" in document["errors"][0]["choices"]
    assert document["errors"][1]["choices"] == ["likes"]
    assert document["errors"][2]["choices"] == ["e3", "e4"]


def test_errors_do_not_echo_what_was_sent_at_full_size(client: TestClient) -> None:
    body = {"queries": [{"head": "y" * 1000, "relation": "r0"}]}
    assert "y" * 65 not in client.post(PREDICT, json=body).text


@pytest.mark.parametrize(
    "k", [2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**4000, -(10**30)], ids=lambda k: str(k)[:22]
)
@pytest.mark.parametrize(
    ("path", "body"),
    [(PREDICT, {"queries": [GOOD]}), ("/v1/relations/rank", {"head": "e1", "tail": "e2"})],
)
def test_a_k_of_any_length_is_refused_in_few_words(
    client: TestClient, path: str, body: dict[str, Any], k: int
) -> None:
    response = client.post(path, json=body | {"k": k})
    assert pointers(problem(response, 422)) == ["/k"]
    assert str(abs(k)) not in response.text
    assert len(response.content) < 500


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize("path", ["/v1/entities", "/v1/entities/e1/neighbors"])
def test_pages_of_any_length_are_refused_in_few_words(client: TestClient, path: str, name: str) -> None:
    for number in (2**31, 2**63, 10**30, 10**4000):
        response = client.get(path, params={name: str(number)})
        assert pointers(problem(response, 422)) == [name]
        assert len(response.content) < 500


def test_search_pages_without_gaps(client: TestClient) -> None:
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = client.get("/v1/entities", params={"search": "entity", "limit": 7, "offset": offset}).json()
        seen += [entity["key"] for entity in page["entities"]]
        offset = page["next_offset"]
    assert sorted(seen) == sorted(f"e{index}" for index in range(60) if index not in (3, 4))


def test_an_entity_by_key_or_label(client: TestClient) -> None:
    expected = {
        "key": "e0",
        "label": "Entity 0",
        "description": "the first",
        "degree": 0,
        "modalities": ["structure", "image", "type"],
        "picture": "/v1/entities/e0/picture",
    }
    assert client.get("/v1/entities/e0").json() == expected
    assert client.get("/v1/entities/Entity%200").json() == expected
    one = client.get("/v1/entities/e1").json()
    assert (one["modalities"], one["picture"]) == (["structure", "type"], None)


@pytest.mark.parametrize(("name", "kind"), [("e0", "png"), ("Entity%200", "png"), ("e5", "jpeg")])
def test_a_picture_is_served_as_what_it_is(client: TestClient, made: Made, name: str, kind: str) -> None:
    response = client.get(f"/v1/entities/{name}/picture")
    file = made.path.parent / {"png": "red.png", "jpeg": "blue.jpg"}[kind]
    assert response.status_code == 200
    assert response.content == file.read_bytes()
    assert response.headers["content-type"] == f"image/{kind}"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'"
    assert "max-age" in response.headers["cache-control"]


def test_a_picture_that_the_caller_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/v1/entities/e0/picture").headers["etag"]
    again = client.get("/v1/entities/e0/picture", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/v1/entities/e5/picture", headers={"If-None-Match": tag}).status_code == 200
    assert client.get("/v1/entities/e0/picture", headers={"If-None-Match": "*"}).status_code == 304


def test_keys_that_end_like_the_route_of_pictures_stay_reachable(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum", renamed={0: "a/picture", 5: "a", 6: "? #%"})
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        for slash in ("%2F", "%2f"):
            details = client.get(f"/v1/entities/a{slash}picture").json()
            assert (details["key"], details["picture"]) == ("a/picture", "/v1/entities/a%2Fpicture/picture")
        types = {
            path: client.get(f"/v1/entities/{path}").headers["content-type"]
            for path in ("a", "a/picture", "a/picture/picture", "a%2Fpicture/picture")
        }
        assert types == {
            "a": "application/json",
            "a/picture": "image/jpeg",
            "a/picture/picture": "image/png",
            "a%2Fpicture/picture": "image/png",
        }
        assert client.get("/v1/entities/%3F%20%23%25").json()["key"] == "? #%"


def test_no_picture_and_no_entity_are_told_apart(client: TestClient) -> None:
    assert problem(client.get("/v1/entities/e1/picture"), 404)["detail"] == "'Entity 1' has no picture"
    assert "nobody" in problem(client.get("/v1/entities/nobody/picture"), 404)["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/entities/nobody", "/v1/entities/Twin", "/v1/entities/a%2Fb", "/nowhere"]
)
def test_what_is_not_there_is_a_404(client: TestClient, path: str) -> None:
    problem(client.get(path), 404)


def test_an_ambiguous_name_in_a_path_lists_the_keys(client: TestClient) -> None:
    assert problem(client.get("/v1/entities/Twin"), 404)["errors"][0]["choices"] == ["e3", "e4"]


def test_a_wrong_method_is_a_405(client: TestClient) -> None:
    response = client.get(PREDICT)
    problem(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "offset=-1", "limit=x", f"search={'x' * 300}"])
def test_bad_paging_is_named(client: TestClient, query: str) -> None:
    document = problem(client.get(f"/v1/entities?{query}"), 422)
    assert pointers(document) == [query.split("=")[0]]


def test_relations_and_model(client: TestClient, made: Made) -> None:
    relations = client.get("/v1/relations").json()["relations"]
    assert relations[1] == {"key": "r1", "label": "near", "num_facts": 6}
    model = client.get("/v1/model").json()
    assert model["name"] == "handmade"
    assert model["limits"] == {"max_queries": 8, "max_k": 100, "max_candidates": 400}
    assert model["modalities"] == ["structure", "image", "type"]
    assert model["metrics"] == {"test": {"mrr": 0.5}}
    assert model["version"] == Answerer.open(made.path, "cpu").bundle.manifest.version


def test_a_request_id_is_kept_if_well_formed(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    forged = client.get("/livez", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert forged != "a b\tc"


def test_an_unexpected_error_is_a_500_that_tells_strangers_nothing(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answerer = Answerer.open(made.path, "cpu")
    with LocalClient(create_app(_settings(made), answerer), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patched:
            patched.setattr(answerer, "answer", lambda queries: 1 / 0)
            patched.setattr(answerer, "describe", lambda settings: 1 / 0)
            failed = [client.post(PREDICT, json={"queries": [GOOD]}), client.get("/v1/model")]
        for response in failed:  # One past the framework, one through it.
            document = problem(response, 500)
            assert "division" not in json.dumps(document)
            assert caplog.text.count(f"request {document['request_id']} failed") == 1
            assert response.headers["x-content-type-options"] == "nosniff"
        assert client.post(PREDICT, json={"queries": [GOOD]}).status_code == 200


def test_long_work_stays_off_the_event_loop(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer.open(made.path, "cpu")
    threads: dict[str, list[str]] = {}

    def noted(owner: Any, step: str) -> None:
        original = getattr(owner, step)

        def noting(*arguments: Any, **options: Any) -> Any:
            threads.setdefault(step, []).append(threading.current_thread().name)
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return original(*arguments, **options)

        monkeypatch.setattr(owner, step, noting)

    scorer: Any = answerer._scorer
    noted(answerer, "resolve")
    noted(scorer._scorer, "write")
    long = {"queries": [GOOD] * 20, "k": 20, "candidates": [f"e{index % 60}" for index in range(300)]}
    with LocalClient(create_app(_settings(made), answerer)) as client:
        for _ in range(3):
            assert client.post(PREDICT, json=long).status_code == 200
    assert {step: len(names) for step, names in threads.items()} == {"resolve": 3, "write": 3}
    assert set(threads["write"]) == {"scorer_0"}


def test_only_the_first_unknown_names_cost_a_search(client: TestClient) -> None:
    body = {"queries": [GOOD], "candidates": [f"Entitty {index}" for index in range(30)]}
    errors = problem(client.post(PREDICT, json=body), 422)["errors"]
    assert len(errors) == 20, "no more are listed"
    assert [bool(item["choices"]) for item in errors] == [True] * 10 + [False] * 10


def test_openapi_is_the_committed_one(client: TestClient) -> None:
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert client.get("/openapi.json").json() == committed, "run `make openapi` and commit docs/openapi.json"


def test_the_documentation_page_needs_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def _settings(made: Made) -> Settings:
    return Settings(bundle=made.path, device="cpu")


def test_every_documented_route_is_described(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
            assert f"`{method.upper()} {path}`" in api
