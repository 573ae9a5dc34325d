"""The process behind a ``ScorerProcess``: opens a bundle, and answers what comes over its connection.

``python -m momok.service.scorer.worker FD SERVER BUNDLE DEVICE ENGINE MIN_RECALL``; the server, process
SERVER, starts it.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from socket import socket
from time import sleep
from typing import Any

from momok.model.bundle.bundle import Bundle
from momok.model.errors import UserError
from momok.model.retrieval.engine import EngineName
from momok.model.runtime.device import DeviceName, choose_device
from momok.service.contract.failures import OUT_OF_MEMORY
from momok.service.scorer.local import LocalScorer
from momok.service.scorer.messages import (
    Message,
    Words,
    framed,
    packed,
    placed_as_message,
    questions_of,
    received,
    taken_apart,
    unpacked,
    written_as_message,
)

YIELDS = 5
"""Other processes get a processor before this one: an event loop without one answers no request."""
FIRST: Words = {"number": 0}
GARBAGE = 20_000
"""New objects before a look for garbage: a batch makes thousands, and hardly a cycle."""
LOOK_S = 1.0
"""Between two looks whether the server is still there."""


def main(fd: str, server: str, bundle: str, device: Any, engine: Any, min_recall: str) -> None:
    """Until the server ends, whatever is being done then."""
    os.nice(YIELDS)
    threading.Thread(target=_leave_with, args=(int(server),), daemon=True).start()
    with socket(fileno=int(fd)) as connection, suppress(ConnectionError):  # The other end is gone.
        try:
            scorer = _scorer(Path(bundle), device, engine, float(min_recall))
        except Exception as error:
            connection.sendall(framed(_failure(error) | FIRST))
            return
        connection.sendall(framed({"device": scorer.device} | _engines(scorer) | FIRST))
        # What there is now stays: to look through it for garbage would only take time.
        gc.freeze()
        gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
        while message := received(connection):
            connection.sendall(_reply(scorer, message))


def _scorer(path: Path, device: DeviceName, engine: EngineName, min_recall: float) -> LocalScorer:
    return LocalScorer(Bundle.open(path, choose_device(device)), engine, min_recall)


def _leave_with(server: int) -> None:
    while os.getppid() == server:
        sleep(LOOK_S)
    os._exit(0)


def _reply(scorer: LocalScorer, message: bytes) -> bytes:
    """With the number of the question."""
    asked, body = taken_apart(message)
    number = {"number": asked["number"]}
    try:
        words, answers = _answer(scorer, asked, body)
        return framed(words | number | {"gpu_memory": list(scorer.gpu_memory)}, answers)
    except Exception as error:
        return framed(_failure(error) | number)


def _answer(scorer: LocalScorer, words: Words, body: bytes) -> Message:
    match words["call"]:
        case "warm":
            scorer.warm()
            return _engines(scorer), b""
        case "verify":
            scorer.verify()
            return {}, b""
        case "write":
            return written_as_message(scorer.write(questions_of(words, body)))
        case "place":
            return placed_as_message(scorer.rank(**_facts(body)))
        case "score":
            score_B, value_BS = scorer.score(**_facts(body))
            return {}, packed({"scores": score_B, "values": value_BS})
        case call:
            raise AssertionError(f"no such call: {call}")


def _engines(scorer: LocalScorer) -> Words:
    return {"engines": list(scorer.engine_choices.items())}


def _facts(body: bytes) -> dict[str, Any]:
    arrays = unpacked(body)
    return {f"{name}_B": arrays[name] for name in ("entity", "relation", "answer")}


def _failure(error: Exception) -> Words:
    kind = "refused" if isinstance(error, UserError) else "failed"
    if isinstance(error, OUT_OF_MEMORY):
        kind = "memory"
    text = str(error) if kind == "refused" else f"{type(error).__name__}: {error}"
    told = "".join(traceback.format_exception(error))
    return {"failure": {"kind": kind, "text": text, "traceback": told}}


if __name__ == "__main__":
    main(*sys.argv[1:])
