"""Work: all queries of a discovery, in pieces.

Pieces are always the same, as are the batches in them and the relations that are prepared together, whatever
the shard or interruption. Encoding rounds by the batch, so that this makes two runs agree to the last digit.

Axes: Q queries of a piece, each (entity, relation).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, starmap
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

import momok
from momok.model.arrays import Int64
from momok.model.bundle.bundle import Bundle

QUERIES_AT_ONCE = 512
"""Queries of a batch, and of a piece without a limit."""

PREPARED_AT_ONCE = 16
"""Relations and ends that are prepared together (``Scorer.answer``); a piece holds no others."""


class DiscoveryOptions(BaseModel):
    """The facts to look for, and the ones to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    relations: tuple[str, ...] | None = None
    """Keys or labels; None asks all relations."""
    missing: Literal["tail", "head", "both"] = "both"
    """The end asked for."""
    entities: Literal["observed", "all"] = "observed"
    """``observed`` asks the entities that the graph holds at the given end of the relation."""
    candidates: Literal["all", "observed"] = "all"
    """``observed`` offers the entities that the graph holds at the missing end of the relation."""
    k: int = Field(default=10, ge=1)
    """Candidates of each query."""
    limit: int | None = Field(default=None, ge=1)
    """Keep this many of the best-scored facts of each relation and end; a piece is then all their queries."""
    min_score: float | None = None
    """Keep facts that score at least this, in the unit of the bundle's decision."""
    shard: str = Field(default="1/1", pattern=r"^[0-9]{1,9}/[0-9]{1,9}$")
    """``i/n`` does every n-th piece, beginning with the i-th."""

    @field_validator("shard")
    @classmethod
    def _within(cls, shard: str) -> str:
        index, count = map(int, shard.split("/"))
        if not 1 <= index <= count:
            raise ValueError(f"{shard} is not one of {count} shards; the first of two is 1/2")
        return shard


class Work:
    """All queries of a discovery. Raises ``UnresolvedName`` for relations that the bundle does not name."""

    def __init__(self, bundle: Bundle, options: DiscoveryOptions) -> None:
        self.options = options
        self._bundle = bundle
        self._known = bundle.known
        num_relations, resolve = bundle.known.num_relations, bundle.vocabulary.resolve_relation
        named = options.relations
        self.relations = range(num_relations) if named is None else sorted({resolve(name) for name in named})
        shifts = {"tail": (0,), "head": (num_relations,), "both": (0, num_relations)}[options.missing]
        self._asked = [relation + shift for relation in self.relations for shift in shifts]
        starts = range(0, len(self._asked), PREPARED_AT_ONCE)
        self._groups = [self._asked[start : start + PREPARED_AT_ONCE] for start in starts]
        self._group_of = {relation: group for group in self._groups for relation in group}
        self.num_queries = sum(stop - start for _, start, stop in self._spans())

    @property
    def identity(self) -> dict[str, Any]:
        """Values that must stay for a resumed run to end with the bytes of an uninterrupted one."""
        keys, named = self._bundle.vocabulary.relations.keys, self.options.relations is not None
        return {
            "momok": momok.__version__,
            "bundle version": self._bundle.manifest.version,
            "device": self._bundle.model.present.device.type,
            "queries of a piece": QUERIES_AT_ONCE,
            "relations prepared together": PREPARED_AT_ONCE,
            **self.options.model_dump(mode="json"),
            "relations": [keys[relation] for relation in self.relations] if named else None,
        }

    def cost(self, asked: int) -> str:
        """The cost for people; ``asked`` queries are done."""
        counts = [self._known.num_entities]  # Known answers included.
        if self.options.candidates == "observed":
            counts = [len(self._known.observed(relation)) for relation in self._asked] or [0]
        fewest, most = min(counts), max(counts)
        choice = f"{most}" if fewest == most else f"{fewest} to {most}"
        done = f", {asked} of them asked already" if asked else ""
        shard = "" if self.options.shard == "1/1" else f" (shard {self.options.shard})"
        return f"{self.num_queries} queries{shard}{done}; {choice} candidates for each"

    def pieces(self, done: int = 0) -> Iterator[Int64]:
        """The pieces of the shard in order, except for the first ``done``: int64[Q, 2] of an entity and a
        relation in [0, 2R)."""
        return starmap(self._queries, islice(self._spans(), done, None))

    def prepared_with(self, relation: int) -> list[int]:
        """The relations that are prepared together with this one."""
        return self._group_of[relation]

    def _spans(self) -> Iterator[tuple[list[int], int, int]]:
        """The pieces of the shard: relations, and the first and last of their queries in a row.

        A piece ends with the relations that are prepared together: those of a batch should fit into memory.
        """
        index, count = map(int, self.options.shard.split("/"))
        return islice(self._all_spans(), index - 1, None, count)

    def _all_spans(self) -> Iterator[tuple[list[int], int, int]]:
        whole = self.options.limit is not None
        for relations in [[relation] for relation in self._asked] if whole else self._groups:
            total = sum(len(self._entities(relation)) for relation in relations)
            size = max(total, 1) if whole else QUERIES_AT_ONCE
            for start in range(0, total, size):
                yield relations, start, min(start + size, total)

    def _queries(self, relations: Sequence[int], start: int, stop: int) -> Int64:
        parts = []
        for relation in relations:
            entities = self._entities(relation)
            part = entities[max(start, 0) : max(stop, 0)]
            parts.append(np.stack([part, np.full_like(part, relation)], axis=1))
            start, stop = start - len(entities), stop - len(entities)
        return np.concatenate(parts)

    def _entities(self, relation: int) -> Int64:
        num_relations = self._known.num_relations
        if self.options.entities == "all":
            return np.arange(self._known.num_entities)
        return self._known.observed((relation + num_relations) % (2 * num_relations))


def batches(piece_Q2: Int64) -> Iterator[Int64]:
    """The batches of a piece."""
    for start in range(0, len(piece_Q2), QUERIES_AT_ONCE):
        yield piece_Q2[start : start + QUERIES_AT_ONCE]
