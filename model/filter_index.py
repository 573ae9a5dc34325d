"""FilterIndex: the entities that already complete a query, and the splits that hold the fact.

Axes: B queries, C candidates, P pairs of a query and an answer, R relations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from momok.model.arrays import Int64, UInt8
from momok.model.kinds import Split

SPLITS: tuple[str, ...] = get_args(Split)
"""Split names; split ``i`` is bit ``1 << i`` of a split code, as a fact may stand in several."""


@dataclass(frozen=True, eq=False)
class FilterIndex:
    """The known answers of every query that has any, as compressed rows.

    ``queries`` int64[num_queries], ascending, ``relation * num_entities + entity``; row ``i`` is
    ``answers[offsets[i]:offsets[i + 1]]`` (int64, ascending) with ``splits`` (uint8 bit sets of ``SPLITS``).
    Raises ``ValueError`` for arrays that do not fit together, are not in order, or hold ids out of range.
    """

    num_entities: int
    num_relations: int
    queries: Int64
    offsets: Int64
    answers: Int64
    splits: UInt8

    def __post_init__(self) -> None:
        lengths = (len(self.offsets), self.offsets[-1:].tolist(), len(self.splits))
        if lengths != (len(self.queries) + 1, [len(self.answers)], len(self.answers)):
            raise ValueError("queries, offsets, answers and splits do not belong together")
        num_queries = 2 * self.num_relations * self.num_entities
        if num_queries >= 2**63:
            raise ValueError(f"{num_queries} possible queries do not fit 64 bits")
        for name, values, first, limit in (
            ("query", self.queries, 0, num_queries),
            ("answer", self.answers, 0, self.num_entities),
            ("split code", self.splits, 1, 1 << len(SPLITS)),
        ):
            if len(values) and not first <= values.min() <= values.max() < limit:
                raise ValueError(f"a known {name} is out of range; the range is {first} to {limit - 1}")
        if (np.diff(self.queries) <= 0).any() or self.offsets[0] or (np.diff(self.offsets) <= 0).any():
            raise ValueError("known queries must ascend, each with an answer at least")
        falls = np.flatnonzero(np.diff(self.answers) <= 0) + 1
        if not np.isin(falls, self.offsets).all():
            raise ValueError("the known answers of a query must ascend")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Int64], *, num_entities: int, num_relations: int) -> FilterIndex:
        """Rows of both directions from ``split -> int64[num_facts, 3]`` (head, relation, tail)."""
        parts = []
        for bit, split in enumerate(SPLITS):
            head, relation, tail = facts.get(split, np.empty((0, 3), np.int64)).T
            code = np.full(len(head), 1 << bit, dtype=np.uint8)
            inverse = relation + num_relations
            parts.append((relation * num_entities + head, tail, code))
            parts.append((inverse * num_entities + tail, head, code))
        queries, answers, codes = map(np.concatenate, zip(*parts, strict=True))
        order = np.lexsort((answers, queries))
        queries, answers, codes = queries[order], answers[order], codes[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (queries[1:] != queries[:-1]) | (answers[1:] != answers[:-1])
        starts = np.flatnonzero(first)
        merged = np.bitwise_or.reduceat(codes, starts) if len(starts) else codes
        unique, counts = np.unique(queries[starts], return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(num_entities, num_relations, unique, offsets, answers[starts], merged)

    def of(self, entity: int, relation: int) -> tuple[Int64, UInt8]:
        """Answers (int64, sorted) and split codes of one query; empty where nothing is known."""
        query = relation * self.num_entities + entity
        row = int(np.searchsorted(self.queries, query))
        if row == len(self.queries) or self.queries[row] != query:
            return self.answers[:0], self.splits[:0]
        span = slice(self.offsets[row], self.offsets[row + 1])
        return self.answers[span], self.splits[span]

    def split_codes(self, entity: int, relation: int, candidate_C: Int64) -> UInt8:
        """Split code uint8[C] of each candidate as an answer to one query; 0 where that is not known."""
        answers, codes = self.of(entity, relation)
        code_C = np.zeros(len(candidate_C), dtype=np.uint8)
        if len(answers):
            place_C = np.minimum(np.searchsorted(answers, candidate_C), len(answers) - 1)
            known_C = answers[place_C] == candidate_C
            code_C[known_C] = codes[place_C[known_C]]
        return code_C

    def observed(self, relation: int) -> Int64:
        """Entities (int64, sorted, unique) known as the answer of any query with this relation."""
        low, high = np.searchsorted(
            self.queries, [relation * self.num_entities, (relation + 1) * self.num_entities]
        )
        observed: Int64 = np.unique(self.answers[self.offsets[low] : self.offsets[high]])
        return observed

    def answers_of_relations(self) -> Int64:
        """The number of known answers of each relation, int64[2R]."""
        relation = np.repeat(self.queries // self.num_entities, np.diff(self.offsets))
        counts: Int64 = np.bincount(relation, minlength=2 * self.num_relations)
        return counts

    def rows(self, entity_B: Int64, relation_B: Int64) -> tuple[Int64, Int64]:
        """All answers of a batch as pairs ``(row int64[P], answer int64[P])``, rows ascending."""
        start_B, count_B = self._spans(entity_B, relation_B)
        row_P = np.repeat(np.arange(len(count_B)), count_B)
        within_P = np.arange(len(row_P)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
        return row_P, self.answers[start_B[row_P] + within_P]

    def of_each(self, entity_B: Int64, relation_B: Int64) -> list[Int64]:
        """The answers of each query of a batch, as ``of``, looked up together."""
        start_B, count_B = self._spans(entity_B, relation_B)
        stops = (start_B + count_B).tolist()
        return [self.answers[start:stop] for start, stop in zip(start_B.tolist(), stops, strict=True)]

    def facts(self, split: str) -> Int64:
        """The distinct facts of one split, int64[num_facts, 3], rebuilt from the tail queries."""
        keep = (self.splits & split_bit(split)) != 0
        query = np.repeat(self.queries, np.diff(self.offsets))[keep]
        relation, head = np.divmod(query, self.num_entities)
        facts = np.stack([head, relation, self.answers[keep]], axis=1)
        result: Int64 = facts[relation < self.num_relations]
        return result

    def _spans(self, entity_B: Int64, relation_B: Int64) -> tuple[Int64, Int64]:
        """The first answer of each query and the number of its answers, int64[B] each."""
        wanted_B = relation_B * self.num_entities + entity_B
        if not len(self.queries):
            return np.zeros_like(wanted_B), np.zeros_like(wanted_B)
        found_B = np.minimum(np.searchsorted(self.queries, wanted_B), len(self.queries) - 1)
        start_B = self.offsets[found_B]
        count_B = np.where(self.queries[found_B] == wanted_B, self.offsets[found_B + 1] - start_B, 0)
        return start_B, count_B


def split_bit(split: str) -> int:
    """The bit of a split in a split code."""
    return 1 << SPLITS.index(split)


def first_split(code: int) -> Split:
    """The earliest split in a code: a fact of train and test is known from train."""
    assert code, "a fact that no split holds"
    split: Split = get_args(Split)[(code & -code).bit_length() - 1]
    return split
