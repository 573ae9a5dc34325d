"""Bundles exchanged under load, and processes killed while they are."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from momok.service.answering.answerer import Answerer
from tests.chaos.wire import GOOD, Server, answer, post, server
from tests.e2e.processes import ENVIRONMENT
from tests.service.builders import ADMIN_KEY, make_bundle
from tests.service.deployment.test_deployment import damage, turn

NUM_CLIENTS = 4
RELOADS = 20
AUTHORIZATION = f"authorization: Bearer {ADMIN_KEY}"


async def load(to: Server, done: asyncio.Event, seen: dict[str, int]) -> None:
    """Asks without a pause until ``done``, on one connection; counts the versions that answered."""
    reader, writer = await to.connect()
    body = json.dumps(GOOD).encode()
    while not done.is_set():
        writer.write(post("/v1/predict", body))
        status, content = await asyncio.wait_for(answer(reader), 30)
        assert status == 200, (status, content)
        version = json.loads(content)["model"]["version"]
        seen[version] = seen.get(version, 0) + 1
    writer.close()


async def under_load(to: Server, work: Callable[[dict[str, int]], object]) -> dict[str, int]:
    """Runs ``work(seen)`` in a thread beside clients, none of whom may fail."""
    done, seen = asyncio.Event(), dict[str, int]()
    clients = [asyncio.create_task(load(to, done, seen)) for _ in range(NUM_CLIENTS)]
    try:
        await asyncio.to_thread(work, seen)
    finally:
        done.set()
        await asyncio.gather(*clients)
    return seen


def admin_keys(tmp_path: Path) -> tuple[object, ...]:
    """Flags by which ``AUTHORIZATION`` may reload."""
    (tmp_path / "admin-keys").write_text(f"{ADMIN_KEY}\n", encoding="utf-8")
    return "--admin-keys-file", tmp_path / "admin-keys"


def reload(to: Server) -> str:
    status, body = asyncio.run(to.ask(post("/admin/reload", b"", AUTHORIZATION)))
    assert status == 200, body
    version: str = json.loads(body)["version"]
    return version


def test_twenty_reloads_under_load_drop_nothing_and_leak_nothing(
    bundles: list[Path], link: Path, tmp_path: Path
) -> None:
    def exchange(times: int) -> Callable[[dict[str, int]], None]:
        def work(seen: dict[str, int]) -> None:
            for index in range(times):
                turn(link, bundles[(index + 1) % 2])
                version = reload(to)
                before = seen.get(version, 0)
                while seen.get(version, 0) == before:
                    sleep(0.005)

        return work

    with server(link, tmp_path, *admin_keys(tmp_path)) as to:
        asyncio.run(under_load(to, exchange(2)))
        before = to.rss_bytes
        seen = asyncio.run(under_load(to, exchange(RELOADS)))
        assert to.rss_bytes <= 1.1 * before
        assert set(seen) == {Answerer.open(path, "cpu").reference().version for path in bundles}
        swapped = asyncio.run(to.metric('momok_reloads_total{result="swapped"}'))
        assert swapped == RELOADS + 2


def test_bundles_that_are_refused_disturb_nobody(bundles: list[Path], link: Path, tmp_path: Path) -> None:
    bad = make_bundle(tmp_path / "bad", decision="sum").path
    damage(bad)

    def refuse(_: dict[str, int]) -> None:
        turn(link, bad)
        for _attempt in range(5):
            status, body = asyncio.run(to.ask(post("/admin/reload", b"", AUTHORIZATION)))
            assert status == 422
            assert b"weights.safetensors" in body

    with server(link, tmp_path, *admin_keys(tmp_path)) as to:
        seen = asyncio.run(under_load(to, refuse))
        assert len(seen) == 1


@pytest.mark.parametrize("delay_s", [0.05, 0.4])
def test_killed_while_reloading_it_starts_again(
    bundles: list[Path], link: Path, tmp_path: Path, delay_s: float
) -> None:
    with server(link, tmp_path, *admin_keys(tmp_path)) as to:
        turn(link, bundles[1])
        to.process.send_signal(signal.SIGHUP)
        asyncio.run(asyncio.sleep(delay_s))
        to.process.kill()
        to.process.wait(30)
    with server(link, tmp_path, *admin_keys(tmp_path)) as to:
        status, body = asyncio.run(to.predict())
        assert status == 200
        assert body["model"]["version"] == Answerer.open(bundles[1], "cpu").reference().version


def test_a_bundle_whose_writer_was_killed_is_not_there(
    bundles: list[Path], link: Path, tmp_path: Path
) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom momok.model.bundle import writer as bundle_writer\n"
        "digest = bundle_writer.digest_of\n"
        "def slowly(path):\n    print('writing', flush=True)\n    sys.stdin.read()\n    return digest(path)\n"
        "bundle_writer.digest_of = slowly\n"
        "from tests.service.builders import make_bundle\n"
        "make_bundle(Path(sys.argv[1]), decision='sum')\n"
    )
    target = tmp_path / "export" / "bundle"
    target.parent.mkdir()
    command = [sys.executable, "-c", program, str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=Path.cwd()
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.kill()
    assert not target.exists()
    turn(link, target)
    with (
        pytest.raises(AssertionError, match="no such directory"),
        server(link, tmp_path, *admin_keys(tmp_path)),
    ):
        pass
    turn(link, bundles[0])
    with server(link, tmp_path, *admin_keys(tmp_path)) as to:
        assert asyncio.run(to.predict())[0] == 200
    make_bundle(target, decision="sum")
    assert Answerer.open(target, "cpu")
