"""Connections are taken many in a round of the event loop, which has much else to do in a flood."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import uvloop

from momok.service.http.server import several

CONNECTIONS, FEW_ROUNDS = 64, 16


def test_a_crowd_is_let_in_within_few_rounds() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert uvloop.run(rounds_to_let_in(several(listener))) <= FEW_ROUNDS


async def rounds_to_let_in(listeners: list[socket.socket]) -> int:
    let_in: list[asyncio.BaseTransport] = []

    class Visitor(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            let_in.append(transport)

    loop, rounds = asyncio.get_running_loop(), 0
    servers = [await loop.create_server(Visitor, sock=listener) for listener in listeners]
    while len(let_in) < CONNECTIONS and rounds < 10 * CONNECTIONS:
        rounds += 1
        await asyncio.sleep(0)
    for transport in let_in:
        transport.close()
    for server in servers:
        server.close()
        await server.wait_closed()
    return rounds
