"""Batches of queries, each with its true answers (1-to-N), and batches of single facts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

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
        parts = (self.entity, self.relation, self.row, self.answer)
        return Batch(*(part.to(device) for part in parts))


class Batches(ABC):
    """The train split in ``num_batches`` batches of ``count`` items, in a new order each epoch."""

    def __init__(self, count: int, num_batches: int) -> None:
        self._count, self.num_batches = count, num_batches

    def epoch(self, seed: int, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches ``start, start + 1, …`` of one epoch; the order follows from seed and epoch alone.

        Sizes differ by one at the most.
        """
        order = np.random.default_rng([seed, epoch]).permutation(self._count)
        return map(self._batch, np.array_split(order, self.num_batches)[start:])

    @abstractmethod
    def _batch(self, chosen_B: Int64) -> Batch: ...


class QueryBatches(Batches):
    """The distinct queries of the train split, both directions; no batch of a single row is left over.

    Raises ``ValueError`` for fewer than two queries: batch normalisation needs company.
    """

    def __init__(self, known: FilterIndex, batch_size: int) -> None:
        count = len(known.queries)
        if count < 2:
            raise ValueError(f"training needs at least 2 queries, the train split has {count}")
        super().__init__(count, max(min(-(-count // batch_size), count // 2), 1))
        self._known = known

    def _batch(self, chosen_B: Int64) -> Batch:
        relation_B, entity_B = np.divmod(self._known.queries[chosen_B], self._known.num_entities)
        row_P, answer_P = self._known.rows(entity_B, relation_B)
        return Batch(*map(torch.from_numpy, (entity_B, relation_B, row_P, answer_P)))


class FactBatches(Batches):
    """The distinct facts of the train split, each a tail query with one answer.

    ``NegativeSampler`` turns some of them into head queries. Raises ``ValueError`` where there is no fact.
    """

    def __init__(self, known: FilterIndex, batch_size: int) -> None:
        self._facts = known.facts("train")
        if not len(self._facts):
            raise ValueError("training needs facts, the train split has none")
        super().__init__(len(self._facts), -(-len(self._facts) // batch_size))

    def _batch(self, chosen_B: Int64) -> Batch:
        head_B, relation_B, tail_B = map(torch.from_numpy, self._facts[chosen_B].T.copy())
        return Batch(head_B, relation_B, torch.arange(len(chosen_B)), tail_B)
