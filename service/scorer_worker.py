"""The process behind a ``ScorerProcess``: opens a bundle, and answers what comes over its connection.

``python -m service.scorer_worker FD SERVER BUNDLE DEVICE ENGINE MIN_RECALL``; the server, process SERVER,
starts it.
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
from typing import Any, BinaryIO

from model.bundle import Bundle
from model.device import choose_device
from model.errors import UserError
from model.scorer import Scorer
from service.messages import (
    SIZE_BYTES,
    Arrays,
    Words,
    answers_as_message,
    framed,
    pack,
    placed_as_message,
    queries_of,
    size_of,
    unpack,
)
from service.scorers import scorer_of
from service.trial import OUT_OF_MEMORY

YIELDS = 5
"""Who waits for a processor goes before this process: an event loop that must wait for it answers nobody."""
FIRST: Words = {"number": 0}
"""What is said unasked."""
LOOK_S = 1.0
"""Between two looks whether the server is still there."""


def main(fd: str, server: str, bundle: str, device: Any, engine: Any, min_recall: str) -> None:
    """Until the server ends, whatever is being done then."""
    os.nice(YIELDS)
    threading.Thread(target=_leave_with, args=(int(server),), daemon=True).start()
    with socket(fileno=int(fd)) as connection, suppress(ConnectionError):  # The other end is gone.
        try:
            scorer = scorer_of(Bundle.open(Path(bundle), choose_device(device)), engine, float(min_recall))
        except Exception as error:
            connection.sendall(framed(pack(_failure(error) | FIRST, {})))
            return
        connection.sendall(framed(pack({"device": scorer.device} | _engines(scorer) | FIRST, {})))
        # What there is now stays: to look through it for garbage would only take time.
        gc.freeze()
        with connection.makefile("rb") as stream:
            while message := _read(stream):
                connection.sendall(framed(_reply(scorer, message)))


def _read(stream: BinaryIO) -> bytes:
    """The next message, empty where no more come."""
    return stream.read(size_of(stream.read(SIZE_BYTES)))


def _leave_with(server: int) -> None:
    while os.getppid() == server:
        sleep(LOOK_S)
    os._exit(0)


def _reply(scorer: Scorer, message: bytes) -> bytes:
    """With the number of the question."""
    asked, arrays = unpack(message)
    number = {"number": asked["number"]}
    try:
        words, answers = _answer(scorer, asked, arrays)
        return pack(words | number | {"gpu_memory": list(scorer.gpu_memory)}, answers)
    except Exception as error:
        return pack(_failure(error) | number, {})


def _answer(scorer: Scorer, words: Words, arrays: Arrays) -> tuple[Words, Arrays]:
    match words["call"]:
        case "warm":
            scorer.warm()
            return _engines(scorer), {}
        case "answer":
            return answers_as_message(scorer.answer(queries_of(arrays)))
        case "place":
            return placed_as_message(scorer.place(**_facts(arrays)))
        case "score":
            score_B, value_BS = scorer.score(**_facts(arrays))
            return {}, {"scores": score_B, "values": value_BS}
        case call:
            raise AssertionError(f"no such call: {call}")


def _engines(scorer: Scorer) -> Words:
    return {"engines": list(scorer.engine_choices.items())}


def _facts(arrays: Arrays) -> dict[str, Any]:
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
