"""momok.client against real servers, and a client generated from the OpenAPI document."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from momok.client import AsyncClient, Client, ClientError, DeadlineExceeded, ProblemError, Unreachable
from momok.service.http.keys import hash_line, new_key
from tests.e2e.processes import ENVIRONMENT, ROOT, serving, stop
from tests.e2e.test_prometheus import free_port
from tests.service.builders import Made, make_bundle

KEY, ADMIN = new_key(), new_key()
QUERY = {"head": "e1", "relation": "r0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_bundle(tmp_path_factory.mktemp("asked") / "bundle", decision="sum")


@pytest.fixture(scope="module")
def url(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(f"{hash_line('tester', KEY)}\n", encoding="utf-8")
    (folder / "admins").write_text(f"{hash_line('root', ADMIN)}\n", encoding="utf-8")
    keys = ("--api-keys-file", folder / "keys", "--admin-keys-file", folder / "admins", "--public-docs")
    with serving(made.path, folder, "--engine", "scan", *keys) as (address, _):
        yield address


def test_every_call_has_a_typed_answer(url: str) -> None:
    with Client(url, key=KEY) as client:
        assert client.is_ready()
        answer = client.predict([QUERY, {"relation": "r1", "tail": "e2"}], k=3, explain=False).answers[0]
        assert [offer.rank for offer in answer.candidates] == [1, 2, 3]
        assert client.score([QUERY | {"tail": "e3"}]).facts[0].fact.tail.key == "e3"
        assert client.rank_relations("e1", "e2", k=2).relations[0].rank == 1
        assert len(list(client.entities())) == 60 and next(client.entities("Entity 7")).key == "e7"
        assert client.entity("e5").label == "Entity 5"
        assert client.neighbors("e0", limit=2, direction="outgoing").next_offset == 2
        assert client.picture("e0").startswith(b"\x89PNG")
        assert len(client.relations().relations) == 3 and client.model().name == "handmade"


def test_calls_on_an_event_loop_are_the_same(url: str) -> None:
    async def ask() -> tuple[list[str], Any]:
        async with AsyncClient(url, key=KEY) as client:
            assert await client.is_ready()
            found = [entity.key async for entity in client.entities("Entity 7")]
            many = await asyncio.gather(*(client.predict([QUERY], k=5) for _ in range(20)))
            assert len({str(answer) for answer in many}) == 1
            return found, many[0]

    found, expected = asyncio.run(ask())
    assert found == ["e7"]
    with Client(url, key=KEY) as client:
        assert client.predict([QUERY], k=5) == expected


def test_refusals_say_why(url: str) -> None:
    with Client(url, key=KEY) as client:
        with pytest.raises(ProblemError) as wrong:
            client.predict([{"head": "Entitty 7", "relation": "r0"}])
        assert wrong.value.kind == "invalid-request" and wrong.value.request_id
        assert wrong.value.errors[0]["choices"][0] == "Entity 7"
        with pytest.raises(ProblemError, match="403"):
            client.reload()
        with pytest.raises(ValueError, match="exactly one of head and tail"):
            client.predict([{"relation": "r0"}])
    with Client(url) as stranger, pytest.raises(ProblemError, match="401"):
        stranger.model()
    with Client(url, key=ADMIN) as root:
        assert root.reload().name == "handmade"


def test_a_deadline_holds_whatever_the_server_does() -> None:
    """One takes connections and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, deadline_s=0.3) as client, pytest.raises(DeadlineExceeded):
            client.model()

        async def ask() -> None:
            async with AsyncClient(address, deadline_s=0.3) as client:
                await client.model()

        with pytest.raises(DeadlineExceeded):
            asyncio.run(ask())
    with Client(address, deadline_s=0.3) as client, pytest.raises(Unreachable):
        client.model()


def test_an_answer_that_dribbles_is_given_up_in_time() -> None:
    def dribble() -> Iterator[bytes]:
        while True:
            time.sleep(0.05)
            yield b" "

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=dribble()))
    with (
        Client("http://host", deadline_s=0.3, transport=transport) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.model()


def test_calls_survive_a_restart_of_the_server(made: Made, tmp_path: Path) -> None:
    port, done = free_port(), threading.Event()
    flags = ("--engine", "scan", "--port", port)
    failed: list[ClientError] = []
    answered: list[int] = []

    def ask() -> None:
        with Client(f"http://127.0.0.1:{port}", deadline_s=60) as client:
            while not done.is_set():
                try:
                    answered.append(len(client.predict([QUERY], k=2).answers))
                except ClientError as error:
                    failed.append(error)

    def wait_for_more() -> None:
        deadline, before = time.monotonic() + 60, len(answered)
        while len(answered) < before + 50:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        with serving(made.path, tmp_path, *flags) as (_, process):
            wait_for_more()
            assert stop(process) == 0
    with serving(made.path, tmp_path, *flags):
        wait_for_more()
        done.set()
        for thread in threads:
            thread.join(30)
    assert failed == []


def test_the_example_asks(url: str) -> None:
    example = str(ROOT / "examples" / "client.py")
    command = [sys.executable, example, url, "--head", "e1", "--relation", "r0", "-k", "2"]
    done = subprocess.run(
        command, env=ENVIRONMENT | {"MOMOK_KEY": KEY}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]


def test_the_client_loads_neither_torch_nor_the_server() -> None:
    told = "import sys, momok.client; print({'torch', 'numpy', 'fastapi', 'faiss'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_without_httpx_the_remedy_is_told() -> None:
    told = "import sys; sys.modules['httpx'] = None\nimport momok.client"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "pip install 'momok[client]'" in done.stderr


def test_a_client_generated_from_the_document_works(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\npackage_name_override: generated\n", encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--meta", "none",
        "--path", str(ROOT / "docs" / "openapi.json"), "--config", str(config),
        "--output-path", str(tmp_path / "generated"),
    ]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    # It reads no pictures; everything else is understood.
    warned = re.findall(r"WARNING parsing (\S+ \S+)", made.stdout + made.stderr, re.IGNORECASE)
    assert set(warned) <= {"GET /v1/entities/{key}/picture"}
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(name: str) -> Any:
        return importlib.import_module(f"generated.{name}")

    query = module("models.query_in").QueryIn(head="e1", relation="r0")
    body = module("models.predict_request").PredictRequest(queries=[query], k=3)
    with module("client").AuthenticatedClient(base_url=url, token=KEY) as client:
        response = module("api.prediction.predict").sync(client=client, body=body)
        assert [offer.rank for offer in response.answers[0].candidates] == [1, 2, 3]
        found = module("api.graph.search_entities").sync(client=client, search="Entity 7")
        assert [entity.key for entity in found.entities] == ["e7"]
        assert module("api.graph.model").sync(client=client).name == "handmade"
    with module("client").Client(base_url=url) as stranger:
        refused = module("api.graph.model").sync_detailed(client=stranger)
    assert refused.status_code == 401 and refused.parsed.type_ == "urn:momok:problem:unauthorized"
