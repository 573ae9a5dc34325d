"""Negatives: facts with one end replaced by a random entity.

Axes: B facts, b facts of one group, G groups that share negatives, n negatives of a group, V = G n negatives
of all groups, D width, P facts of the train split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from momok.model.filter_index import FilterIndex
from momok.model.scores import Branch
from momok.training.objectives.batches import Batch


@dataclass(frozen=True, eq=False)
class Corrupted:
    """Queries ``entity``, ``relation`` (in [0, 2R)) int64[B], with the true ``answer`` int64[B].

    ``negative`` int64[G, n]: the negatives that the rows of a group share; ``sizes`` are the groups' numbers
    of rows, in their order. ``is_true`` bool[B, n]: negatives that are true answers of that row.
    """

    entity: Tensor
    relation: Tensor
    answer: Tensor
    negative: Tensor
    is_true: Tensor
    sizes: tuple[int, ...]

    def scores(self, branch: Branch, query_BD: Tensor, vector_VD: Tensor) -> Tensor:
        """float[B, n]: the query of each row against the negatives of its group; vectors group by group."""
        negative_GnD = vector_VD.view(*self.negative.shape, -1)
        groups = zip(torch.split(query_BD, list(self.sizes)), negative_GnD.unbind(), strict=True)
        return torch.cat([branch.scores(query_bD, negative_nD) for query_bD, negative_nD in groups])


class NegativeSampler(nn.Module):
    """Corrupts the head or the tail of facts, by chance, with entities drawn uniformly.

    The end is chosen by the relation's cardinality (Wang et al., 2014): ``tails per head / (tails per head +
    heads per tail)`` is the chance of the head, so that *one to many* relations rarely take a true tail for a
    negative. Facts of the train split are marked and are no negatives. Random numbers come from torch's
    generator, so that a resumed run draws the same.
    """

    _head_share: Tensor
    _queries: Tensor
    _facts: Tensor

    def __init__(self, known: FilterIndex) -> None:
        super().__init__()
        self._num_entities, self._num_relations = known.num_entities, known.num_relations
        relation = known.queries // known.num_entities
        num_queries_R = np.bincount(relation, minlength=2 * known.num_relations)
        # Answers per query of each relation: tails per head, and for inverse relations heads per tail.
        share_R = known.answers_of_relations() / np.maximum(num_queries_R, 1)
        tails_R, heads_R = share_R[: known.num_relations], share_R[known.num_relations :]
        head_share_R = tails_R / np.maximum(tails_R + heads_R, 1)
        # Sorted, as queries are and the answers of each. A fact is the place of its query times N plus its
        # answer: (relation * N + entity) * N would not fit int64 in graphs of tens of millions of entities.
        row_P = np.repeat(np.arange(len(known.queries)), np.diff(known.offsets))
        self.register_buffer("_head_share", torch.from_numpy(head_share_R), persistent=False)
        self.register_buffer("_queries", torch.from_numpy(known.queries), persistent=False)
        facts = row_P * known.num_entities + known.answers
        self.register_buffer("_facts", torch.from_numpy(facts), persistent=False)

    def corrupt(self, batch: Batch, num_negatives: int, shared_by: int = 1) -> Corrupted:
        """Choose an end of each fact of a batch with one answer a row, and draw its negatives.

        Up to ``shared_by`` rows share negatives; groups differ by one row at most.
        """
        device, num_rows = batch.entity.device, len(batch.entity)
        asks_head_B = torch.rand(num_rows, device=device) < self._head_share[batch.relation]
        entity_B = torch.where(asks_head_B, batch.answer, batch.entity)
        answer_B = torch.where(asks_head_B, batch.entity, batch.answer)
        relation_B = batch.relation + self._num_relations * asks_head_B
        sizes = tuple(map(len, torch.arange(num_rows).tensor_split(-(-num_rows // shared_by))))
        negative_Gn = torch.randint(self._num_entities, (len(sizes), num_negatives), device=device)
        own_Bn = negative_Gn.repeat_interleave(torch.tensor(sizes, device=device), dim=0)
        is_true_Bn = self.holds(entity_B, relation_B, own_Bn)
        return Corrupted(entity_B, relation_B, answer_B, negative_Gn, is_true_Bn, sizes)

    def holds(self, entity_B: Tensor, relation_B: Tensor, candidate_Bn: Tensor) -> Tensor:
        """bool[B, n]: whether a candidate answers the query of its row by the train split."""
        if not len(self._queries):
            return torch.zeros_like(candidate_Bn, dtype=torch.bool)
        query_B = relation_B * self._num_entities + entity_B
        row_B = torch.searchsorted(self._queries, query_B).clamp_max(len(self._queries) - 1)
        wanted_Bn = row_B[:, None] * self._num_entities + candidate_Bn
        place_Bn = torch.searchsorted(self._facts, wanted_Bn).clamp_max(len(self._facts) - 1)
        return (self._facts[place_Bn] == wanted_Bn) & (self._queries[row_B] == query_B)[:, None]
