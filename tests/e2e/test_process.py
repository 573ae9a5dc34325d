"""A real server process from its start to its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.chaos.wire import GOOD, Server, answer, children_of, get, post, server
from tests.e2e.processes import MOMOK, ROOT, has_ended, momok, running, stop, wait_for
from tests.e2e.test_prometheus import free_port
from tests.service.builders import Made, make_bundle
from tests.service.deployment.test_deployment import turn
from tests.service.http.test_overload import until


def made(path: Path, seed: int = 0) -> Made:
    return make_bundle(path, decision="sum", seed=seed)


def test_it_listens_before_it_is_ready_and_says_so(tmp_path: Path) -> None:
    bundle, output, port = made(tmp_path / "bundle").path, tmp_path / "log", free_port()
    with running(MOMOK, "serve", bundle, "--port", port, "--device", "cpu", output=output) as process:
        to = Server(f"http://127.0.0.1:{port}", process)

        async def starting() -> list[int]:
            statuses = []
            while 200 not in statuses:
                try:
                    statuses.append((await to.ask(get("/startupz")))[0])
                except ConnectionRefusedError:
                    assert process.poll() is None
                await asyncio.sleep(0.01)
            return statuses

        statuses = asyncio.run(starting())
        assert statuses[0] == 503
        wait_for("serving at", output, process)
        assert asyncio.run(to.predict())[0] == 200
        assert stop(process) == 0


def test_a_stop_while_loading_is_no_failure(tmp_path: Path) -> None:
    bundle, output = made(tmp_path / "bundle").path, tmp_path / "log"
    slowly = (
        "import sys, time\nfrom momok.cli import main\n"
        "from momok.service.answering.answerer import Answerer\n"
        "def warm(self):\n    print('warming', flush=True)\n    time.sleep(600)\n"
        "Answerer.warm = warm\nsys.exit(main(sys.argv[1:]))"
    )
    command = (sys.executable, "-c", slowly, "serve", bundle, "--port", 0, "--device", "cpu")
    with running(*command, output=output) as process:
        wait_for("warming", output, process)
        assert stop(process) == 0
    assert output.read_text(encoding="utf-8") == "warming\n"


def test_a_stop_finishes_what_was_admitted_and_takes_no_more(tmp_path: Path) -> None:
    async def stopping(to: Server) -> None:
        reader, writer = await to.connect()
        _, idle = await to.connect()
        request = post("/v1/predict", json.dumps(GOOD).encode())
        writer.write(request[:-10])
        while await to.metric("momok_requests_in_flight") < 2:
            await asyncio.sleep(0.01)
        to.process.send_signal(signal.SIGTERM)
        while True:
            try:
                _, probe = await to.connect()
            except (ConnectionRefusedError, ConnectionResetError):  # Reset: it was in the line.
                break
            probe.close()
            await asyncio.sleep(0.02)
        assert to.process.poll() is None, "somebody is still being served"
        writer.write(request[-10:])
        status, body = await answer(reader)
        assert status == 200
        assert json.loads(body)["answers"]
        assert await reader.read() == b"", "and then the connection ends"
        writer.close()
        idle.close()

    with server(made(tmp_path / "bundle").path, tmp_path) as to:
        asyncio.run(stopping(to))
        assert to.process.wait(30) == 0


def test_a_hangup_reloads(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(made(tmp_path / "one").path)

    async def version(to: Server) -> str:
        found: str = (await to.predict())[1]["model"]["version"]
        return found

    async def hanging_up(to: Server) -> None:
        before = await version(to)
        turn(link, made(tmp_path / "two", seed=1).path)
        to.process.send_signal(signal.SIGHUP)
        while await version(to) == before:
            await asyncio.sleep(0.02)

    with server(link, tmp_path) as to:
        asyncio.run(asyncio.wait_for(hanging_up(to), 60))
        assert stop(to.process, signal.SIGINT) == 0


def test_a_damaged_bundle_ends_the_process_with_one_line(tmp_path: Path) -> None:
    bundle = made(tmp_path / "bundle").path
    (bundle / "weights.safetensors").write_bytes(b"")
    done = momok("serve", bundle, "--port", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("momok: ") and "weights.safetensors" in done.stderr
    assert done.stderr.count("\n") == 1


def test_logs_are_json_where_wanted(tmp_path: Path) -> None:
    bundle = made(tmp_path / "bundle").path
    output = tmp_path / "log"
    flags = ("--port", 0, "--device", "cpu", "--log-format", "json")
    with running(MOMOK, "serve", bundle, *flags, output=output) as process:
        to = Server(wait_for(r"serving at (http://\S+)", output, process), process)
        asyncio.run(to.predict())
        wait_for('"route": "/v1/predict"', output, process)
        assert stop(process) == 0
    lines = [line for line in output.read_text(encoding="utf-8").splitlines() if "serving at" not in line]
    logged = [json.loads(line) for line in lines]
    assert logged[-1]["outcome"] == "answered"


def test_a_client_is_who_connects_whatever_its_headers_say(tmp_path: Path) -> None:
    flags = ("--rate-limit", 1e-6, "--rate-burst", 2, "--max-queries", 2)
    body = json.dumps(GOOD).encode()

    async def asking(to: Server, header: str, source: str = "127.0.0.1") -> int:
        reader, writer = await asyncio.open_connection(to.host, to.port, local_addr=(source, 0))
        writer.write(post("/v1/predict", body, header))
        status, _ = await answer(reader)
        writer.close()
        return status

    async def pretending(to: Server) -> None:
        headers = [
            "x-forwarded-for: 192.0.2.1", "x-forwarded-for: 192.0.2.2, 192.0.2.3", "x-real-ip: 192.0.2.4",
            "forwarded: for=192.0.2.5",
        ]  # fmt: skip
        assert [await asking(to, header) for header in headers] == [200, 200, 429, 429]
        assert await asking(to, "x-forwarded-for: 127.0.0.1", source="127.0.0.2") == 200

    with server(made(tmp_path / "bundle").path, tmp_path, *flags) as to:
        asyncio.run(pretending(to))


def test_no_request_waits_for_the_garbage_of_imports(tmp_path: Path) -> None:
    told = """
import gc, os, signal, sys
from pathlib import Path
from momok.service.edge.server import serve
from momok.service.settings import Settings

def announce(url):
    print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

serve(Settings(bundle=Path(sys.argv[1]), port=0, device="cpu"), announce)
"""
    command = [sys.executable, "-c", told, str(made(tmp_path / "bundle").path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    frozen, looked_through = map(float, done.stdout.split())
    assert frozen > 2 * looked_through, "what imports have made is out of the collector's sight"


def test_another_scoring_process_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    async def killing(to: Server) -> None:
        first = to.scorer_pid
        _, expected = await to.predict()
        os.kill(first, signal.SIGKILL)
        statuses = set()
        while True:
            status, body = await to.predict()
            assert (await to.ask(get("/livez")))[0] == 200, "it mends itself"
            statuses.add(status)
            if status == 200 and first not in children_of(to.process.pid):
                break
            await asyncio.sleep(0.01)
        assert statuses == {200, 503}
        assert body == expected
        assert to.scorer_pid != first
        assert await to.metric('momok_reloads_total{result="revived"}') == 1
        assert await to.metric('momok_requests_total{method="POST",route="/v1/predict",status="500"}') == 0

    with server(made(tmp_path / "bundle").path, tmp_path) as to:
        asyncio.run(killing(to))


@pytest.mark.parametrize("stopped", [False, True])
def test_the_scoring_process_ends_with_a_server_that_is_killed(tmp_path: Path, stopped: bool) -> None:
    with server(made(tmp_path / "bundle").path, tmp_path) as to:
        pid = to.scorer_pid
        if stopped:  # As one that is busy: it does not hear that nobody waits any more.
            os.kill(pid, signal.SIGSTOP)
        to.process.kill()
        to.process.wait(30)
        if stopped:
            os.kill(pid, signal.SIGCONT)
        until(lambda: has_ended(pid))


def test_a_server_whose_scorer_cannot_be_replaced_ends_and_says_why(tmp_path: Path) -> None:
    bundle = made(tmp_path / "bundle").path
    with server(bundle, tmp_path) as to:
        bundle.rename(tmp_path / "gone")
        os.kill(to.scorer_pid, signal.SIGKILL)
        assert to.process.wait(60) == 2
        (log,) = tmp_path.glob("*log*")
        last = log.read_text(encoding="utf-8").splitlines()[-1]
        assert last.startswith("momok: the scoring process has ended, and no other can be started: ")
        assert "no such directory" in last


def test_one_of_two_scorers_ends_and_no_request_fails_for_long(tmp_path: Path) -> None:
    with server(made(tmp_path / "bundle").path, tmp_path, "--scorers", 2) as to:
        first = children_of(to.process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        statuses = [asyncio.run(to.predict())[0] for _ in range(20)]
        assert statuses.count(503) <= 1 and set(statuses) <= {200, 503}, "the other one answers"
        deadline = monotonic() + 60
        while first[1] in children_of(to.process.pid) or len(children_of(to.process.pid)) != 2:
            assert asyncio.run(to.predict())[0] == 200
            assert monotonic() < deadline
            sleep(0.05)
        assert asyncio.run(to.metric('momok_reloads_total{result="revived"}')) == 1


def test_a_scorer_that_hangs_is_ended_and_replaced(tmp_path: Path) -> None:
    with server(made(tmp_path / "bundle").path, tmp_path, "--stuck-s", "0.5") as to:
        assert asyncio.run(to.predict())[0] == 200
        first = to.scorer_pid
        os.kill(first, signal.SIGSTOP)
        assert asyncio.run(to.predict())[0] == 503, "starting: another is on its way"
        assert asyncio.run(to.ask(get("/livez")))[0] == 200
        deadline = monotonic() + 60
        while asyncio.run(to.predict())[0] != 200:
            assert monotonic() < deadline
            sleep(0.05)
        assert to.scorer_pid != first
        assert asyncio.run(to.metric('momok_reloads_total{result="revived"}')) == 1
