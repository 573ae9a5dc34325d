"""Messages between the server and the process that scores: words, as JSON, and a body of bytes.

The body holds named arrays, or written answers as they are. Nothing is pickled: what comes in can only be
data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from socket import socket
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors.numpy import load, save

from momok.model.answer import Query
from momok.model.arrays import Float32, Int64
from momok.model.explanation import Explanation
from momok.model.retrieval.ranks import RankResult
from momok.model.scorer import RankedFact
from momok.service.scorer.question import Counted, Question, Stages, Written

Words = dict[str, Any]
Message = tuple[Words, bytes]
Arrays = dict[str, npt.NDArray[Any]]

PIECE_BYTES = 1 << 20
_SIZES = Struct("<QQ")
SIZES_BYTES = _SIZES.size
"""What a message begins with."""
_GATES, _GATED = "gates.", "gated."
_EVERYONE, _OBSERVED = -1, -2
"""Candidates of a query that are not named; else the number of the set."""


def framed(words: Words, body: bytes = b"") -> bytes:
    """As it travels: after the sizes of its parts."""
    written = orjson.dumps(words)
    return b"%b%b%b" % (_SIZES.pack(len(written), len(body)), written, body)


def size_of(beginning: bytes | bytearray) -> int:
    """How many bytes come after these first ``SIZES_BYTES``."""
    return sum(_SIZES.unpack_from(beginning))


def received(connection: socket) -> bytes:
    """The next message of a blocking connection, empty where no whole one comes any more."""
    message = bytearray()
    end = SIZES_BYTES
    while len(message) < end:
        if not (piece := connection.recv(min(end - len(message), PIECE_BYTES))):
            return b""
        message += piece
        if len(message) == SIZES_BYTES:
            end += size_of(message)
    return bytes(message)


def taken_apart(message: bytes | bytearray) -> Message:
    """One that begins here and is whole."""
    size, rest = _SIZES.unpack_from(message)
    view, middle = memoryview(message), SIZES_BYTES + size
    return orjson.loads(view[SIZES_BYTES:middle]), bytes(view[middle : middle + rest])


def packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    body: bytes = save(dict(arrays))
    return body


def unpacked(body: bytes) -> Arrays:
    arrays: Arrays = load(body)
    return arrays


def questions_as_message(questions: Sequence[Question]) -> Message:
    """Candidates that queries share travel once."""
    sets: dict[int, int] = {}
    members: list[Int64] = []
    asked = []
    for query, explain, min_score in questions:
        given = query.candidates
        if given is None or isinstance(given, str):
            offered = _EVERYONE if given is None else _OBSERVED
        else:
            offered = sets.setdefault(id(given), len(sets))
            if offered == len(members):
                members.append(given)
        asked.append(
            (query.entity, query.relation, query.k, query.exclude_known, offered, explain, min_score)
        )
    body = b""
    if members:
        sizes = np.array([len(part) for part in members], dtype=np.int64)
        body = packed({"members": np.concatenate(members), "set_sizes": sizes})
    return {"questions": asked}, body


def questions_of(words: Words, body: bytes) -> list[Question]:
    sets: list[Int64] = []
    if body:
        arrays = unpacked(body)
        sets = np.split(arrays["members"], np.cumsum(arrays["set_sizes"])[:-1])
    return [
        Question(
            Query(
                entity, relation, k, exclude,
                None if offered == _EVERYONE else "observed" if offered == _OBSERVED else sets[offered],
            ),
            explain,
            min_score,
        )
        for entity, relation, k, exclude, offered, explain, min_score in words["questions"]
    ]  # fmt: skip


def written_as_message(answers: Sequence[Written]) -> Message:
    """Of one batch: they took the same seconds."""
    counted = [(len(answer.json), *answer.counted) for answer in answers]
    words = {"counted": counted, "seconds": answers[0].stages.seconds}
    return words, b"".join([answer.json for answer in answers])


def written_of(words: Words, body: bytes) -> list[Written]:
    stages = Stages(words["seconds"])
    end = 0
    answers = []
    for size, *counted in words["counted"]:
        start, end = end, end + size
        answers.append(Written(body[start:end], Counted(*counted), stages))
    return answers


def placed_as_message(placed: Sequence[RankedFact]) -> Message:
    places = [fact.result for fact in placed]
    gated, trusted = _explanations_as_message([fact.explanation for fact in placed])
    columns = {
        "places": np.array([(p.score, p.raw_rank, p.filtered_rank) for p in places], dtype=np.float64),
        "values": np.stack([place.branch_values for place in places]),
    }
    return gated, packed(trusted | columns)


def placed_of(words: Words, body: bytes) -> list[RankedFact]:
    arrays = unpacked(body)
    return [
        RankedFact(RankResult(score, value_S, raw_rank, filtered_rank), explanation)
        for (score, raw_rank, filtered_rank), value_S, explanation in zip(
            arrays["places"].tolist(), arrays["values"], _explanations_of(words, arrays), strict=True
        )
    ]


def _explanations_as_message(explanation: Sequence[Explanation]) -> tuple[Words, Arrays]:
    """Rows of gates that are not there are zero, no temperature is NaN."""
    weights, gates, temperatures = zip(*explanation, strict=True)
    arrays: Arrays = {"weights": np.stack(weights), "temperatures": np.array(temperatures, dtype=np.float64)}
    for name in gates[0]:
        rows = [of_query[name] for of_query in gates]
        nothing = np.zeros_like(next((row for row in rows if row is not None), np.empty(0, np.float32)))
        arrays[_GATED + name] = np.array([row is not None for row in rows])
        arrays[_GATES + name] = np.stack([nothing if row is None else row for row in rows])
    return {"gated": list(gates[0])}, arrays


def _explanations_of(words: Words, arrays: Arrays) -> Iterator[Explanation]:
    gates: dict[str, list[Float32 | None]] = {
        name: [
            row_K if there else None
            for there, row_K in zip(arrays[_GATED + name].tolist(), arrays[_GATES + name], strict=True)
        ]
        for name in words["gated"]
    }
    temperatures = arrays["temperatures"].tolist()
    for row, (weight_M, temperature) in enumerate(zip(arrays["weights"], temperatures, strict=True)):
        yield Explanation(
            weight_M,
            {name: rows[row] for name, rows in gates.items()},
            None if temperature != temperature else temperature,
        )
