"""Keys: nobody gets in without one, whatever the route or the method, but where that is declared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from momok.model.errors import UserError
from momok.service.answering.answerer import Answerer
from momok.service.http.access import exposure
from momok.service.http.app import build_api, create_app
from momok.service.http.context import context_of
from momok.service.http.exchange import exchange_of
from momok.service.http.keys import KeyRing, hash_line, load_keys, load_rings, new_key
from momok.service.http.observation import CAREFUL
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.http.test_api import problem
from tests.service.local_client import LocalClient

ALICE, BOB, ADMIN = new_key(), new_key(), new_key()
PROBES = {"/livez", "/readyz", "/startupz"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MADEUP")
UNKNOWN = (
    "/", "/nowhere", "/v1", "/v1/", "/v1/model/", "/livez/", "//livez", "/livez/../v1/model", "/LIVEZ",
    "/metrics/", "/admin", "/admin/reload", "/admin/rollback", "/docs/oauth2-redirect",
)  # fmt: skip


def settings_of(made: Made, **fields: Any) -> Settings:
    keys = {
        "api_keys": SecretStr(f"{hash_line('alice', ALICE)}, bob:{BOB}"),
        "admin_keys": SecretStr(hash_line("root", ADMIN)),
    }
    return Settings(bundle=made.path, device="cpu", **(keys | fields))


@pytest.fixture(scope="module")
def answerer(made: Made) -> Answerer:
    return Answerer.open(made.path, "cpu", "scan")


@pytest.fixture(scope="module")
def guarded(made: Made, answerer: Answerer) -> Iterator[TestClient]:
    with LocalClient(create_app(settings_of(made), answerer), raise_server_exceptions=False) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def paths() -> list[str]:
    """Every path of the app, undocumented routes and mounts included, templates filled in."""
    found = []
    for route in iter_route_contexts(build_api().routes):
        path = str(route.path)
        found.append(f"{path}/swagger-ui.css" if "static" in path else re.sub("{key.*?}", "e0", path))
    return found


def test_the_walk_sees_every_kind_of_route() -> None:
    assert {"/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css", "/livez"} <= set(paths())
    assert {path.replace("{key}", "e0") for path in build_api().openapi()["paths"]} <= set(paths())


@pytest.mark.parametrize("path", [*paths(), *UNKNOWN])
def test_without_a_key_there_is_only_what_is_declared(guarded: TestClient, path: str) -> None:
    for method in METHODS:
        response = guarded.request(method, path)
        if path in PROBES:
            assert response.status_code != 401, method
            continue
        assert response.status_code == 401, f"{method} {path}"
        assert response.headers["www-authenticate"] == "Bearer"
        if method != "HEAD":
            assert problem(response, 401)["type"] == "urn:momok:problem:unauthorized"


@pytest.mark.parametrize(
    "given",
    [
        "", "Bearer", "Bearer ", f"Basic {ALICE}", ALICE, f"Bearer {ALICE}x", f"Bearer {ALICE[:-1]}",
        f"Bearer {hashlib.sha256(ALICE.encode()).hexdigest()}", "Bearer \xff\xfe", f"Bearer {'x' * 10_000}",
        f"Bearer alice:{ALICE}", f"Bearer {ALICE} {ALICE}",
    ],
)  # fmt: skip
def test_a_wrong_key_is_no_key(guarded: TestClient, given: str) -> None:
    headers = {b"authorization": given.encode("latin-1")}
    problem(guarded.get("/v1/model", headers=headers), 401)


def test_a_body_without_a_key_is_refused_and_its_connection_ends(guarded: TestClient) -> None:
    response = guarded.post("/v1/predict", content=b"x" * 10_000)
    assert problem(response, 401) and response.headers["connection"] == "close"


def test_two_authorizations_are_none(guarded: TestClient) -> None:
    headers = [("authorization", f"Bearer {ALICE}"), ("authorization", f"Bearer {BOB}")]
    problem(guarded.get("/v1/model", headers=headers), 401)


@pytest.mark.parametrize("given", [f"Bearer {ALICE}", f"bearer  {BOB}", f"BEARER {ADMIN}"])
def test_a_good_key_asks(guarded: TestClient, given: str) -> None:
    response = guarded.get("/v1/model", headers={"Authorization": given})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert guarded.get("/nowhere", headers={"Authorization": given}).status_code == 404


def test_only_an_admin_key_passes_to_admin(guarded: TestClient) -> None:
    for path in ("/admin", "/admin/nowhere", "/admin%2Fnowhere"):
        assert problem(guarded.post(path, headers=bearer(ALICE)), 403)["type"].endswith(":forbidden")
        # Past the keys: there is no such route.
        assert problem(guarded.post(path, headers=bearer(ADMIN)), 404)["type"].endswith(":not-found")


def test_without_an_admin_key_there_is_no_admin(made: Made, answerer: Answerer) -> None:
    with LocalClient(create_app(settings_of(made, admin_keys=None), answerer)) as client:
        problem(client.post("/admin/reload"), 401)
        assert "no admin key" in problem(client.post("/admin/reload", headers=bearer(ALICE)), 404)["detail"]
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"), answerer)) as client:
        assert "no admin key" in problem(client.post("/admin/reload"), 404)["detail"]


def test_an_open_server_may_still_guard_admin(made: Made, answerer: Answerer) -> None:
    with LocalClient(create_app(settings_of(made, api_keys=None), answerer)) as client:
        assert client.get("/v1/model").status_code == 200
        problem(client.post("/admin/nowhere"), 401)
        problem(client.post("/admin/nowhere", headers=bearer(ALICE)), 401)
        problem(client.post("/admin/nowhere", headers=bearer(ADMIN)), 404)


@pytest.mark.parametrize(
    ("setting", "opened"),
    [
        ("public_metrics", {"/metrics"}),
        ("public_docs", {"/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"}),
    ],
)
def test_what_may_be_declared_public(made: Made, answerer: Answerer, setting: str, opened: set[str]) -> None:
    with LocalClient(create_app(settings_of(made, **{setting: True}), answerer)) as client:
        got = {path for path in paths() if client.get(path).status_code == 200}
        assert got == opened | (PROBES & set(paths()))


def test_the_name_of_the_key_is_noted(made: Made, answerer: Answerer) -> None:
    app = create_app(settings_of(made), answerer)
    seen: list[Any] = []

    async def see(request: Request) -> Response:
        seen.append(exchange_of(request.scope).key)
        return Response()

    app.add_route("/seen", see)
    with LocalClient(app, raise_server_exceptions=False) as client:
        for key in (ALICE, BOB, ADMIN):
            client.get("/seen", headers=bearer(key))
        client.get("/seen")
    assert seen == ["alice", "bob", "root"]


def test_every_answer_carries_the_careful_headers(
    guarded: TestClient, answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"queries": [{"head": "e1", "relation": "r0"}]}
    with monkeypatch.context() as patched:
        patched.setattr(answerer, "answer", lambda queries: 1 / 0)
        failed = guarded.post("/v1/predict", json=asked, headers=bearer(ALICE))
    answers = [
        failed,
        guarded.get("/livez"),
        guarded.get("/v1/model"),
        guarded.get("/v1/model", headers=bearer(ALICE)),
        guarded.get("/nowhere", headers=bearer(ALICE)),
        guarded.post("/v1/predict", json={}, headers=bearer(ALICE)),
    ]
    assert [answer.status_code for answer in answers] == [500, 200, 401, 200, 404, 422]
    for answer in answers:
        assert {name: answer.headers[name] for name in CAREFUL} == CAREFUL
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers


def test_answers_to_keys_are_kept_by_no_shared_cache(guarded: TestClient) -> None:
    assert guarded.get("/v1/entities/e1", headers=bearer(ALICE)).headers["cache-control"] == "no-store"
    picture = guarded.get("/v1/entities/e0/picture", headers=bearer(ALICE))
    assert picture.headers["cache-control"] == "private, max-age=3600"
    assert picture.headers["content-security-policy"] == "default-src 'none'"


def test_other_origins_are_told_nothing(guarded: TestClient) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"} | bearer(ALICE)
    for method, path in (("OPTIONS", "/v1/predict"), ("GET", "/v1/model")):
        response = guarded.request(method, path, headers=asked)
        assert not [name for name in response.headers if name.startswith("access-control")]


LONG = "z" * 5000


@pytest.mark.parametrize(
    ("method", "path", "kwargs"),
    [
        ("GET", f"/{LONG}", {}),
        ("GET", f"/v1/entities/{LONG}", {}),
        ("GET", f"/v1/entities/{LONG}/picture", {}),
        ("GET", f"/v1/entities/e0/neighbors?relation={LONG[:1000]}", {}),
        ("GET", f"/v1/entities?limit={LONG}", {}),
        ("GET", f"/v1/model/?{LONG}", {}),
        ("GET", f"/static-offline-docs/{LONG}", {}),
        ("GET", "/v1/model", {"headers": {"x-request-id": LONG}}),
        ("POST", "/v1/predict", {"json": {LONG: 1, "queries": [{LONG: 2}]}}),
        ("POST", "/v1/predict", {"json": {"queries": [{"head": LONG[:1000], "relation": LONG[:1000]}]}}),
        ("POST", "/v1/predict", {"json": {"queries": LONG, "candidates": LONG, "k": LONG, "explain": LONG}}),
        ("POST", "/v1/predict", {"content": LONG}),
        ("POST", "/v1/score", {"json": {"facts": [{"head": LONG[:1000], "relation": "r0", "tail": "e1"}]}}),
        (LONG[:50], "/v1/model", {}),
    ],
)  # fmt: skip
def test_no_error_echoes_more_than_64_characters_or_a_path(
    guarded: TestClient, made: Made, method: str, path: str, kwargs: dict[str, Any]
) -> None:
    kwargs = {**kwargs, "headers": {**kwargs.get("headers", {}), **bearer(ALICE)}}
    response = guarded.request(method, path, follow_redirects=False, **kwargs)
    told = response.text + "".join(f"{name}: {value}" for name, value in response.headers.items())
    assert "z" * 65 not in told
    for secret in (str(made.path), "site-packages", "Traceback", ALICE):
        assert secret not in told


def test_keys_come_from_settings_and_files_together(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    plain, unnamed = new_key(), new_key()
    file.write_text(
        f"# who may ask\n\n{hash_line('carol', ALICE)}   # until May\n{plain}\n", encoding="utf-8"
    )
    ring = load_keys("api_keys", SecretStr(f"bob:{BOB},\n {unnamed}"), file)
    assert ring.name_of(ALICE) == "carol"
    assert ring.name_of(BOB) == "bob"
    for key in (plain, unnamed):
        assert ring.name_of(key) == f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    assert ring.name_of(new_key()) is None
    assert not load_keys("api_keys", None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("hunter2\n", ":1: neither"),
        (f"{new_key()}\nshort\n", ":2: neither"),
        (f"two words:{new_key()}\n", "a name is"),
        (f":{new_key()}\n", "a name is"),
        (f"{'n' * 65}:{new_key()}\n", "a name is"),
        (f"a:{new_key()}\na:{new_key()}\n", ":2: this name or key is given twice"),
        (f"a:{ALICE}\nb:{ALICE}\n", ":2: this name or key is given twice"),
        (f"a:{'f' * 63}!\n", ":1: neither"),
    ],
)
def test_bad_files_of_keys_are_told_without_the_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_keys("api_keys", None, file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not [line for line in text.split() if line and line in str(refused.value) and len(line) > 5]


def test_no_bad_place_of_keys_opens_a_server(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="api_keys is empty"):
        load_keys("api_keys", SecretStr(" , "), None)
    with pytest.raises(UserError, match="cannot be read"):
        load_keys("api_keys", None, tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text"):
        load_keys("api_keys", None, tmp_path / "binary")
    with pytest.raises(UserError, match="'a' stands among api and admin keys"):
        load_rings(keys(api_keys=f"a:{ALICE}", admin_keys=f"a:{ADMIN}"))
    with pytest.raises(UserError, match="a key stands among api and metrics keys"):
        load_rings(keys(api_keys=ALICE, metrics_keys=f"b:{ALICE}"))


def keys(**given: str) -> Settings:
    return Settings(bundle=Path("none"), **{name: SecretStr(text) for name, text in given.items()})  # type: ignore[arg-type]


def test_all_keys_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, own: bytes) -> bool:
        compared.append(own)
        return given == own

    monkeypatch.setattr("hmac.compare_digest", compare)
    ring = KeyRing({name: hashlib.sha256(name.encode()).digest() for name in ("first", "second", "third")})
    assert (ring.name_of("first"), ring.name_of("other")) == ("first", None)
    assert compared == 2 * list(ring.hashes.values())


def test_an_operator_is_told_who_may_ask(made: Made) -> None:
    def told(**fields: Any) -> str:
        return " ".join(exposure(settings_of(made, **fields)))

    assert told(api_keys=None) == ""
    assert "any client of 0.0.0.0 may ask" in told(host="0.0.0.0", api_keys=None, allow_anonymous=True)
    with pytest.raises(ValueError, match="--allow-anonymous"):
        told(host="0.0.0.0", api_keys=None)
    assert "unencrypted" in told(host="0.0.0.0")
    assert told(host="0.0.0.0", tls_cert=Path("a"), tls_key=Path("b")) == ""


def test_a_websocket_is_closed(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, guarded.websocket_connect("/v1/model"):
        pass
    assert closed.value.code == 1008


def test_a_key_of_metrics_reads_metrics_and_nothing_else(made: Made, answerer: Answerer) -> None:
    scraper = new_key()
    app = create_app(settings_of(made, metrics_keys=SecretStr(f"prometheus:{scraper}")), answerer)
    with LocalClient(app) as client:
        assert client.get("/metrics", headers=bearer(scraper)).status_code == 200
        assert client.get("/livez", headers=bearer(scraper)).status_code == 200
        assert client.get("/metrics", headers=bearer(ALICE)).status_code == 200
        problem(client.get("/metrics"), 401)
        for path in ("/v1/model", "/docs", "/nowhere"):
            problem(client.get(path, headers=bearer(scraper)), 403)
        problem(client.post("/admin/reload", headers=bearer(scraper)), 401)


def test_keys_are_read_again_and_bad_ones_change_nothing(
    made: Made, answerer: Answerer, tmp_path: Path
) -> None:
    file, new = tmp_path / "keys", new_key()
    file.write_text(f"alice:{ALICE}\n", encoding="utf-8")
    app = create_app(settings_of(made, api_keys=None, api_keys_file=file), answerer)
    access = context_of(app).access
    with LocalClient(app) as client:
        file.write_text("alice:short\n", encoding="utf-8")
        with pytest.raises(UserError, match=":1: neither"):
            access.reload()
        assert client.get("/v1/model", headers=bearer(ALICE)).status_code == 200
        file.write_text(f"alice:{new}\n", encoding="utf-8")
        access.reload()
        problem(client.get("/v1/model", headers=bearer(ALICE)), 401)
        assert client.get("/v1/model", headers=bearer(new)).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "kg.local"]
)
def test_a_local_server_answers_to_its_names(made: Made, answerer: Answerer, host: str) -> None:
    settings = Settings(bundle=made.path, device="cpu", allowed_hosts="kg.local, other")
    with LocalClient(create_app(settings, answerer)) as client:
        assert client.get("/v1/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "[::2]", "x" * 9000]
)
def test_a_local_server_without_keys_refuses_other_names(made: Made, answerer: Answerer, host: str) -> None:
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"), answerer)) as client:
        for path in ("/v1/model", "/livez", "/metrics"):
            assert problem(client.get(path, headers={"host": host}), 421)["type"].endswith(":unknown-host")
    with LocalClient(create_app(settings_of(made), answerer)) as client:
        assert client.get("/v1/model", headers={"host": host} | bearer(ALICE)).status_code == 200
