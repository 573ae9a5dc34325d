"""Batches of queries against all entities (1-to-N), each with its true answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.known import KnownAnswers


@dataclass(frozen=True)
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


class QueryBatches:
    """The distinct queries of the train split, both directions, in a new order each epoch.

    Raises ``ValueError`` for fewer than two queries: batch normalisation needs company.
    """

    def __init__(self, known: KnownAnswers, batch_size: int) -> None:
        if len(known.queries) < 2:
            raise ValueError(f"training needs at least 2 queries, the train split has {len(known.queries)}")
        self._known = known
        self._relation, self._entity = np.divmod(known.queries, known.num_entities)
        self.num_batches = max(min(-(-len(known.queries) // batch_size), len(known.queries) // 2), 1)

    def epoch(self, seed: int, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches ``start, start + 1, …`` of one epoch; the order follows from seed and epoch alone.

        Sizes differ by one at the most, so that no batch of a single row is left over.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self._entity))
        for chosen_B in np.array_split(order, self.num_batches)[start:]:
            yield self._batch(chosen_B)

    def _batch(self, chosen_B: np.ndarray) -> Batch:
        entity_B, relation_B = self._entity[chosen_B], self._relation[chosen_B]
        row_P, answer_P = self._known.rows(entity_B, relation_B)
        return Batch(*map(torch.from_numpy, (entity_B, relation_B, row_P, answer_P)))
