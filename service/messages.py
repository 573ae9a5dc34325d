"""Messages between the server and the process that scores: words and named arrays, in one piece of bytes.

Answers travel as columns of their whole batch. Nothing is pickled: what comes in can only be data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors.numpy import load, save

from model.fact_scores import Placement
from model.retrieval import Ranking
from model.scorer import Answer, Float32, PlacedFact, Query

Words = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]
Trust = tuple[Float32, dict[str, Float32 | None], float | None]
"""Modality weights, expert gates and relation temperature, as in ``Answer``."""

SIZE_BYTES = 8
_WORDS = "words"
_GATES, _GATED = "gates.", "gated."
_EVERYONE, _OBSERVED = -1, -2
"""Candidates of a query that are not named; else the number of the set."""


def pack(words: Words, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """``words``: what JSON can say."""
    packed: bytes = save({**arrays, _WORDS: np.frombuffer(orjson.dumps(words), dtype=np.uint8)})
    return packed


def framed(message: bytes) -> bytes:
    """As it travels: after its size."""
    return len(message).to_bytes(SIZE_BYTES, "little") + message


def size_of(beginning: bytes | bytearray) -> int:
    """How many bytes come after these first ``SIZE_BYTES``."""
    return int.from_bytes(beginning[:SIZE_BYTES], "little")


def unpack(message: bytes) -> tuple[Words, Arrays]:
    arrays: Arrays = load(message)
    words: Words = orjson.loads(arrays.pop(_WORDS).tobytes())
    return words, arrays


def queries_as_arrays(queries: Sequence[Query]) -> Arrays:
    """Candidates that queries share travel once."""
    sets: dict[int, int] = {}
    members = [np.empty(0, dtype=np.int64)]
    offered = []
    for query in queries:
        given = query.candidates
        if given is None or isinstance(given, str):
            offered.append(_EVERYONE if given is None else _OBSERVED)
            continue
        if id(given) not in sets:
            sets[id(given)] = len(sets)
            members.append(given)
        offered.append(sets[id(given)])
    asked = np.array([(q.entity, q.relation, q.k, q.exclude_known) for q in queries], dtype=np.int64)
    return {
        "asked": asked.reshape(-1, 4),
        "offered": np.array(offered, dtype=np.int64),
        "members": np.concatenate(members),
        "set_sizes": np.array([len(part) for part in members[1:]], dtype=np.int64),
    }


def queries_of(arrays: Arrays) -> list[Query]:
    sets = np.split(arrays["members"], np.cumsum(arrays["set_sizes"])[:-1])
    return [
        Query(
            entity, relation, k, bool(exclude),
            None if offered == _EVERYONE else "observed" if offered == _OBSERVED else sets[offered],
        )
        for (entity, relation, k, exclude), offered in zip(
            arrays["asked"].tolist(), arrays["offered"].tolist(), strict=True
        )
    ]  # fmt: skip


def answers_as_message(answers: Sequence[Answer]) -> tuple[Words, Arrays]:
    """Of one batch: they took the same seconds."""
    rankings = [answer.ranking for answer in answers]
    engines = list(dict.fromkeys(ranking.engine for ranking in rankings))
    columns: Arrays = {
        "sizes": np.array([len(ranking.scores) for ranking in rankings], dtype=np.int64),
        "entities": np.concatenate([ranking.entities for ranking in rankings]),
        "scores": np.concatenate([ranking.scores for ranking in rankings]),
        "values": np.concatenate([ranking.branch_values for ranking in rankings]),
        "notes": np.array(
            [
                (r.exact, engines.index(r.engine), r.depth, answer.num_excluded)
                for r, answer in zip(rankings, answers, strict=True)
            ],
            dtype=np.int64,
        ),
    }
    trust = [(a.modality_weights, a.expert_gates, a.relation_temperature) for a in answers]
    gated, trusted = _trust_as_message(trust)
    return {"engines": engines, "seconds": dict(answers[0].seconds)} | gated, columns | trusted


def answers_of(queries: Sequence[Query], words: Words, arrays: Arrays) -> list[Answer]:
    entity_P, score_P, value_PS = arrays["entities"], arrays["scores"], arrays["values"]
    bounds = pairwise([0, *np.cumsum(arrays["sizes"]).tolist()])
    engines, seconds = words["engines"], words["seconds"]
    return [
        Answer(
            query,
            Ranking(entity_P[a:b], score_P[a:b], value_PS[a:b], bool(exact), engines[engine], depth),
            *trust,
            num_excluded,
            seconds,
        )
        for query, (a, b), (exact, engine, depth, num_excluded), trust in zip(
            queries, bounds, arrays["notes"].tolist(), _trust_of(words, arrays), strict=True
        )
    ]


def placed_as_message(placed: Sequence[PlacedFact]) -> tuple[Words, Arrays]:
    places = [fact.placement for fact in placed]
    trust = [(p.modality_weights, p.expert_gates, p.relation_temperature) for p in placed]
    gated, trusted = _trust_as_message(trust)
    return gated, trusted | {
        "places": np.array([(p.score, p.raw_rank, p.filtered_rank) for p in places], dtype=np.float64),
        "values": np.stack([place.branch_values for place in places]),
    }


def placed_of(words: Words, arrays: Arrays) -> list[PlacedFact]:
    return [
        PlacedFact(Placement(score, value_S, raw_rank, filtered_rank), *trust)
        for (score, raw_rank, filtered_rank), value_S, trust in zip(
            arrays["places"].tolist(), arrays["values"], _trust_of(words, arrays), strict=True
        )
    ]


def _trust_as_message(trust: Sequence[Trust]) -> tuple[Words, Arrays]:
    """Rows of gates that are not there are zero, no temperature is NaN."""
    weights, gates, temperatures = zip(*trust, strict=True)
    arrays: Arrays = {"weights": np.stack(weights), "temperatures": np.array(temperatures, dtype=np.float64)}
    for name in gates[0]:
        rows = [of_query[name] for of_query in gates]
        nothing = np.zeros_like(next((row for row in rows if row is not None), np.empty(0, np.float32)))
        arrays[_GATED + name] = np.array([row is not None for row in rows])
        arrays[_GATES + name] = np.stack([nothing if row is None else row for row in rows])
    return {"gated": list(gates[0])}, arrays


def _trust_of(words: Words, arrays: Arrays) -> Iterator[Trust]:
    gates: dict[str, list[Float32 | None]] = {
        name: [
            row_K if there else None
            for there, row_K in zip(arrays[_GATED + name].tolist(), arrays[_GATES + name], strict=True)
        ]
        for name in words["gated"]
    }
    temperatures = arrays["temperatures"].tolist()
    for row, (weight_M, temperature) in enumerate(zip(arrays["weights"], temperatures, strict=True)):
        yield (
            weight_M,
            {name: rows[row] for name, rows in gates.items()},
            None if temperature != temperature else temperature,
        )
