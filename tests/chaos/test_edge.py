"""The edge of a real server: too many connections, TLS handshakes without end, pipelined headers, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.chaos.wire import GOOD, Server, answer, get, post, server
from tests.e2e.processes import MOMOK, running, wait_for
from tests.e2e.test_keys_and_tls import openssl

MOST, SPARE = 5, 32
BODY = json.dumps(GOOD).encode()


async def end(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and see it closed."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def closed(reader: asyncio.StreamReader, within_s: float = 20) -> bool:
    """Whether the server closes a connection."""
    try:
        return await asyncio.wait_for(reader.read(), within_s) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_connections_beyond_the_limit_are_told_and_probes_are_answered(
    bundles: list[Path], tmp_path: Path
) -> None:
    async def crowd(to: Server) -> None:
        idle = [await to.connect() for _ in range(MOST)]
        for reader, writer in idle:
            writer.write(get("/livez"))
            assert (await answer(reader))[0] == 200
        assert (await to.predict())[0] == 503
        assert (await to.ask(get("/livez")))[0] == (await to.ask(get("/metrics")))[0] == 200
        assert await to.metric("momok_connections") == MOST + 1
        assert await to.metric('momok_rejected_total{reason="too-many-connections"}') == 1
        idle[0][1].write(post("/v1/predict", BODY))
        assert (await answer(idle[0][0]))[0] == 200, "those that came before are served"
        for _, writer in idle:
            await end(writer)
        deadline = monotonic() + 20
        while (await to.predict())[0] != 200:
            assert monotonic() < deadline

    with server(bundles[0], tmp_path, "--max-connections", MOST) as to:
        asyncio.run(crowd(to))


def test_no_more_connections_are_accepted_than_there_is_room_for(bundles: list[Path], tmp_path: Path) -> None:
    async def flood(to: Server) -> None:
        held = [
            await to.connect() for _ in range(MOST + SPARE + 20)
        ]  # The system takes them, the server not.
        reader, writer = await to.connect()
        writer.write(get("/livez"))
        assert not await closed(reader, 0.5), "it waits for its turn"
        for _, other in held:
            await end(other)
        assert (await asyncio.wait_for(answer(reader), 20))[0] == 200
        await end(writer)

    with server(bundles[0], tmp_path, "--max-connections", MOST, "--receive-timeout-s", 30) as to:
        asyncio.run(flood(to))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Two, with their keys."""
    folder, made = tmp_path_factory.mktemp("tls"), []
    for name in ("one", "two"):
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", cert, "-days", 2, "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1",
        )  # fmt: skip
        made.append((cert, key))
    return made


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_tls_handshakes_without_end_are_counted_and_ended(
    bundles: list[Path], tmp_path: Path, certificates: list[tuple[Path, Path]]
) -> None:
    cert, key = certificates[0]
    output = tmp_path / "log"
    flags = ("--tls-cert", cert, "--tls-key", key, "--max-connections", MOST, "--receive-timeout-s", 2)
    command = (MOMOK, "serve", bundles[0], "--port", 0, "--device", "cpu", "--engine", "scan", *flags)

    async def attack(to: Server) -> None:
        silent = [await to.connect() for _ in range(MOST)]
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=unverified())
        writer.write(get("/v1/model"))
        assert (await answer(reader))[0] == 503, "handshakes take the room of connections"
        await end(writer)
        assert all(await asyncio.gather(*(closed(reader) for reader, _ in silent)))
        for _, other in silent:
            await end(other)
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=unverified())
        writer.write(get("/v1/model"))
        assert (await answer(reader))[0] == 200
        await end(writer)

    with running(*command, output=output) as process:
        url = wait_for(r"serving at (https://\S+)", output, process)
        asyncio.run(attack(Server(url, process)))


def test_a_hangup_reads_keys_and_certificate_again(
    bundles: list[Path], tmp_path: Path, certificates: list[tuple[Path, Path]]
) -> None:
    cert, key, keys = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "keys"

    def put(pair: tuple[Path, Path], text: str) -> None:
        for source, target in zip(pair, (cert, key), strict=True):
            target.write_bytes(source.read_bytes())
        keys.write_text(f"{text}\n", encoding="utf-8")

    async def status(to: Server, key: str, name: str) -> int:
        context = ssl.create_default_context(cafile=next(c for c, _ in certificates if c.stem == name))
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=context)
        writer.write(
            get("/v1/model").replace(b"\r\n\r\n", f"\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        )
        found = (await answer(reader))[0]
        await end(writer)
        return found

    async def rotate(to: Server) -> None:
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=unverified())
        assert await status(to, "the-first-key-of-all", "one") == 200
        put(certificates[1], "the-second-key-of-all")
        to.process.send_signal(signal.SIGHUP)
        wait_for("certificate: read again", output, to.process)
        assert await status(to, "the-second-key-of-all", "two") == 200
        assert await status(to, "the-first-key-of-all", "two") == 401
        put((certificates[0][0], certificates[1][1]), "short")  # Of two pairs, and no key.
        to.process.send_signal(signal.SIGHUP)
        wait_for("keys: the old ones stay in use", output, to.process)
        wait_for("certificate: the old ones stay in use", output, to.process)
        assert await status(to, "the-second-key-of-all", "two") == 200
        writer.write(get("/livez"))
        assert (await answer(reader))[0] == 200, "an old connection lives on"
        await end(writer)

    put(certificates[0], "the-first-key-of-all")
    output = tmp_path / "log"
    flags = ("--tls-cert", cert, "--tls-key", key, "--api-keys-file", keys, "--engine", "scan")
    with running(
        MOMOK, "serve", bundles[0], "--port", 0, "--device", "cpu", *flags, output=output
    ) as process:
        url = wait_for(r"serving at (https://\S+)", output, process)
        asyncio.run(rotate(Server(url, process)))


def test_pipelined_headers_without_end_are_cut(bundles: list[Path], tmp_path: Path) -> None:
    async def attack(to: Server) -> None:
        _, writer = await to.connect()
        many = json.dumps({"queries": [{"head": "e1", "relation": "r0"}] * 8, "k": 1000}).encode()
        writer.write(post("/v1/predict", many) + b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
        sent = 0
        with pytest.raises(ConnectionError):  # noqa: PT012
            while sent < 30_000_000:
                writer.write(b"x: " + b"y" * 60_000 + b"\r\n")
                await writer.drain()
                sent += 60_000
                await asyncio.sleep(0)
        assert sent < 10_000_000
        assert (await to.predict())[0] == 200

    with server(bundles[0], tmp_path) as to:
        asyncio.run(attack(to))


def test_a_signal_makes_it_unready_at_once_and_lingers(bundles: list[Path], tmp_path: Path) -> None:
    async def leave(to: Server) -> None:
        to.process.send_signal(signal.SIGTERM)
        deadline = monotonic() + 20
        while (await to.ask(get("/readyz")))[0] == 200:
            assert monotonic() < deadline
        reader, writer = await to.connect()
        writer.write(post("/v1/predict", BODY))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"connection: close" in head.lower()
        await end(writer)
        to.process.send_signal(signal.SIGTERM)  # Somebody is in a hurry.
        assert await asyncio.to_thread(to.process.wait, 20) == 0
        with pytest.raises(ConnectionRefusedError):
            await to.connect()

    with server(bundles[0], tmp_path, "--linger-s", 60) as to:
        asyncio.run(leave(to))


def test_connections_that_were_reset_before_they_were_accepted_take_no_room(
    bundles: list[Path], tmp_path: Path
) -> None:
    with server(bundles[0], tmp_path, "--max-connections", MOST, "--receive-timeout-s", 2) as to:
        to.process.send_signal(signal.SIGSTOP)
        for _ in range(MOST + SPARE + 20):
            with socket.create_connection((to.host, to.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        to.process.send_signal(signal.SIGCONT)
        assert asyncio.run(asyncio.wait_for(to.ask(get("/livez")), 20))[0] == 200
        deadline = monotonic() + 20
        while asyncio.run(to.metric("momok_connections")) > 1:
            assert monotonic() < deadline
            sleep(0.05)
        assert asyncio.run(to.predict())[0] == 200
