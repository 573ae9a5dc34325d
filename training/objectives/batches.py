"""Batches of queries, each with its true answers (1-to-N), and batches of single facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Int64
from momok.model.filter_index import FilterIndex


@dataclass(frozen=True, eq=False)
class Batch:
    """``entity``, ``relation`` int64[B] ask; true answers are pairs of ``row`` and ``answer``, int64[P]."""

    entity: Tensor
    relation: Tensor
    row: Tensor
    answer: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.entity.to(device), self.relation.to(device), self.row.to(device), self.answer.to(device)
        )


class Batches(Protocol):
    """The train split in an order that follows from seed and epoch alone."""

    num_batches: int

    def epoch(self, seed: int, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches ``start, start + 1, …`` of one epoch."""


class QueryBatches:
    """The distinct queries of the train split, both directions, in a new order each epoch.

    Raises ``ValueError`` for fewer than two queries: batch normalisation needs company.
    """

    def __init__(self, known: FilterIndex, batch_size: int) -> None:
        if len(known.queries) < 2:
            raise ValueError(f"training needs at least 2 queries, the train split has {len(known.queries)}")
        self._known = known
        self._relation, self._entity = np.divmod(known.queries, known.num_entities)
        self.num_batches = max(min(-(-len(known.queries) // batch_size), len(known.queries) // 2), 1)

    def epoch(self, seed: int, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches ``start, start + 1, …`` of one epoch; the order follows from seed and epoch alone.

        Sizes differ by one at the most, so that no batch of a single row is left over.
        """
        for chosen_B in _shuffled(len(self._entity), self.num_batches, seed, epoch)[start:]:
            yield self._batch(chosen_B)

    def _batch(self, chosen_B: Int64) -> Batch:
        entity_B, relation_B = self._entity[chosen_B], self._relation[chosen_B]
        row_P, answer_P = self._known.rows(entity_B, relation_B)
        return Batch(*map(torch.from_numpy, (entity_B, relation_B, row_P, answer_P)))


class FactBatches:
    """The distinct facts of the train split, each a tail query with one answer, in a new order each epoch.

    ``NegativeSampler`` turns some of them into head queries. Raises ``ValueError`` where there is no fact.
    """

    def __init__(self, known: FilterIndex, batch_size: int) -> None:
        self._facts = known.facts("train")
        if not len(self._facts):
            raise ValueError("training needs facts, the train split has none")
        self.num_batches = -(-len(self._facts) // batch_size)

    def epoch(self, seed: int, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for chosen_B in _shuffled(len(self._facts), self.num_batches, seed, epoch)[start:]:
            head_B, relation_B, tail_B = map(torch.from_numpy, self._facts[chosen_B].T.copy())
            yield Batch(head_B, relation_B, torch.arange(len(chosen_B)), tail_B)


def _shuffled(count: int, num_batches: int, seed: int, epoch: int) -> list[Int64]:
    return np.array_split(np.random.default_rng([seed, epoch]).permutation(count), num_batches)
