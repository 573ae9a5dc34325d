"""Scan: every candidate scored in float32, and kept if rounding may hide that it is among the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.decision import Decision, decide
from model.selection import Bool, Proposal, Selection, excluded_pairs
from model.table import EntityTable, Float32, Float64, Int64

SPARE = 8
"""Candidates looked at beyond k, so that rounding rarely asks for a second look."""

CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Scores held at once; on a CPU they stay within reach of its caches."""

GROUP = 32
"""The best of a row are looked for in the groups of the highest maxima, each of so many candidates."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes for which the product is timed."""

TIMED_ROWS = 8192

Product = Callable[[Tensor, Tensor], Tensor]


def _wide(query_BD: Tensor, table_CD: Tensor) -> Tensor:
    return query_BD @ table_CD.T


def _tall(query_BD: Tensor, table_CD: Tensor) -> Tensor:
    return (table_CD @ query_BD.T).T.contiguous()


def _one_by_one(query_BD: Tensor, table_CD: Tensor) -> Tensor:
    return torch.stack([torch.mv(table_CD, query_D) for query_D in query_BD])


PRODUCTS: tuple[Product, ...] = (_wide, _tall, _one_by_one)
"""Ways to the same product; libraries are slow at one or the other, depending on the size of the batch."""


class _Best(NamedTuple):
    """The best of each row, descending: float32[B, C] and int64[B, C]; -inf where a row has no more."""

    scores: Tensor
    entities: Tensor


class Scan:
    """Proposes exactly those that can be among the best k, whatever float32 rounds away.

    A candidate is left out only if its score and that of the k-th best lie further apart than both may err
    (``EntityTable.rounding``), so nothing that is left out can belong to the answer.
    """

    name = "scan"

    def __init__(self, table: EntityTable, decision: Decision, device: torch.device | None = None) -> None:
        self._entities = table
        self._decision: Decision = decision
        self._table_NX = torch.from_numpy(table.joined_NX).to(device)
        self._columns = table.columns if decision == "mean_sigmoid" else [table.whole]
        self._products: dict[int, Product] = {1: _one_by_one, 2: _wide}

    @torch.inference_mode()
    def warm(self) -> None:
        """Time the ways to multiply on this machine, for each size of batch."""
        table_CX = self._table_NX[:TIMED_ROWS]
        for size in BATCHES:
            query_BX = table_CX[:1].expand(size, -1).contiguous()
            self._products[size] = min(PRODUCTS, key=lambda way: self._seconds(way, query_BX, table_CX))

    @torch.inference_mode()
    def propose(self, query_BX: Float32, selections: Sequence[Selection]) -> Proposal:
        """All that may be among the best of each row: nothing is left to prove."""
        num_entities = len(self._entities)
        query, masks = torch.from_numpy(query_BX).to(self._table_NX.device), _Masks(selections, num_entities)
        k_B = np.minimum([selection.k for selection in selections], num_entities)
        depth = min(int(k_B.max()) + SPARE, num_entities)
        score_BC, entity_BC = _on_host(self._best(query, masks.to(query.device), depth))
        errors = [self._entities.rounding(query_BX, columns) for columns in self._columns]
        kth_B = score_BC[np.arange(len(k_B)), k_B - 1].astype(np.float64)
        least_B = least_in_contention(kth_B, np.stack(errors, axis=1), self._decision)
        kept_BC = (score_BC >= least_B[:, None]) & (score_BC > -np.inf)
        crowded_B = kept_BC[:, -1] & (depth < num_entities) | np.isnan(least_B)
        kept_BC[crowded_B] = False
        row_P, place_P = np.nonzero(kept_BC)
        found = [(row_P, entity_BC[row_P, place_P])]
        for row in np.flatnonzero(crowded_B).tolist():
            entity_C = self._all_in_contention(query[row : row + 1], selections[row], float(least_B[row]))
            found.append((np.full(len(entity_C), row), entity_C))
        row_P, entity_P = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(row_P, kind="stable")
        return Proposal(row_P[order], entity_P[order], np.full(len(k_B), -np.inf))

    def _all_in_contention(self, query_1X: Tensor, selection: Selection, least: float) -> Int64:
        """Everyone allowed who scores at least ``least``; those whose score overflowed to NaN too."""
        allowed_N = selection.allowed(len(self._entities))
        for start, score_1C in self._tiles(query_1X):
            behind_C = (score_1C[0] < least).cpu().numpy()
            allowed_N[start : start + len(behind_C)] &= ~behind_C
        return np.flatnonzero(allowed_N)

    def _best(self, query_BX: Tensor, masks: _Masks, depth: int) -> _Best:
        best: _Best | None = None
        for start, score_BC in self._tiles(query_BX):
            masks.apply(score_BC, start)
            found = _top(score_BC, min(depth, score_BC.shape[1]))
            found = _Best(found.scores, found.entities + start)
            best = found if best is None else _merged(best, found, depth)
        assert best is not None, "a table without entities"
        return best

    def _tiles(self, query_BX: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The decided scores float32[B, C] of so many candidates at a time, from ``start`` on."""
        cells = CELLS.get(query_BX.device.type, CELLS["cuda"])
        at_once = max(cells // len(query_BX), 1024) if len(query_BX) > 1 else len(self._table_NX)
        product = self._products[max(size for size in self._products if size <= len(query_BX))]
        for start in range(0, len(self._table_NX), at_once):
            tile_CX = self._table_NX[start : start + at_once]
            scores = (product(query_BX[:, columns], tile_CX[:, columns]) for columns in self._columns)
            yield start, decide(scores, self._decision)

    def _seconds(self, product: Product, query_BX: Tensor, table_CX: Tensor) -> float:
        """The shortest of a few runs."""
        times = []
        for _ in range(3):
            started = perf_counter()
            for columns in self._columns:
                product(query_BX[:, columns], table_CX[:, columns])
            if query_BX.is_cuda:
                torch.cuda.synchronize(query_BX.device)
            times.append(perf_counter() - started)
        return min(times)


def least_in_contention(kth_B: Float64, error_BS: Float64, decision: Decision) -> Float64:
    """The float32 score below which nobody can reach the k-th best, float64[B]; NaN where none is certain.

    ``kth_B``: the k-th best float32 score; ``error_BS``: of the score of each branch for ``mean_sigmoid``,
    else of the whole. Both scores may err, in opposite directions, hence twice the error.
    """
    certain_B: Bool = np.isfinite(error_BS.sum(axis=1))
    kth_B, error_BS = np.where(certain_B, kth_B, 0), np.where(certain_B[:, None], error_BS, 0)
    if decision != "mean_sigmoid":
        least_B = kth_B - 2 * error_BS[:, 0]
    else:
        # A sigmoid changes by at most a quarter of what its logit does, and by no larger factor than exp of
        # it; computing it, and their mean, in float32 costs a few units in the last place.
        units = (8 + error_BS.shape[1]) * 2.0**-24
        absolute_B = 0.25 * error_BS.mean(axis=1) + units
        factor_B = np.exp(np.minimum(error_BS.max(axis=1), 300)) * (1 + units) / (1 - units)
        least_B = np.maximum(kth_B - 2 * absolute_B, kth_B / factor_B**2 - 2.0**-120)
    return np.where(certain_B, least_B, np.nan)


class _Masks:
    """Who may not be answered, as pairs and, where candidates are named, as whole rows."""

    def __init__(self, selections: Sequence[Selection], num_entities: int) -> None:
        row_P, entity_P = excluded_pairs(selections)
        self._row_P, self._entity_P = torch.from_numpy(row_P), torch.from_numpy(entity_P)
        self._barred = {
            row: torch.from_numpy(~selection.allowed(num_entities))
            for row, selection in enumerate(selections)
            if selection.candidates is not None
        }

    def to(self, device: torch.device) -> _Masks:
        self._row_P, self._entity_P = self._row_P.to(device), self._entity_P.to(device)
        self._barred = {row: barred_N.to(device) for row, barred_N in self._barred.items()}
        return self

    def apply(self, score_BC: Tensor, start: int) -> None:
        """Set the scores of candidates from ``start`` on that may not be answered to -inf."""
        stop = start + score_BC.shape[1]
        if len(self._entity_P):
            here_P = (self._entity_P >= start) & (self._entity_P < stop)
            score_BC[self._row_P[here_P], self._entity_P[here_P] - start] = -torch.inf
        for row, barred_N in self._barred.items():
            score_BC[row].masked_fill_(barred_N[start:stop], -torch.inf)


def _top(score_BC: Tensor, depth: int) -> _Best:
    """The ``depth`` best of each row, looked for where they must be.

    They lie in the ``depth`` groups of the highest maxima, and maxima are quicker to find than an order.
    """
    num_groups = score_BC.shape[1] // GROUP
    if 4 * depth > num_groups:
        return _Best(*score_BC.topk(depth, dim=1))
    grouped_BPG = score_BC[:, : GROUP * num_groups].view(-1, GROUP, num_groups)
    group_BD = grouped_BPG.amax(dim=1).topk(depth, dim=1, sorted=False).indices
    members_BPD = grouped_BPG.gather(2, group_BD[:, None, :].expand(-1, GROUP, -1))
    places_P1 = num_groups * torch.arange(GROUP, device=score_BC.device)[:, None]
    entity_BPD = places_P1 + group_BD[:, None, :]
    rest_BC = score_BC[:, GROUP * num_groups :]
    rest_C = torch.arange(GROUP * num_groups, score_BC.shape[1], device=score_BC.device)
    best = torch.cat([members_BPD.flatten(1), rest_BC], dim=1).topk(depth, dim=1)
    entity_BC = torch.cat([entity_BPD.flatten(1), rest_C.expand(len(score_BC), -1)], dim=1)
    return _Best(best.values, entity_BC.gather(1, best.indices))


def _merged(first: _Best, second: _Best, depth: int) -> _Best:
    score_BC = torch.cat([first.scores, second.scores], dim=1)
    best = score_BC.topk(min(depth, score_BC.shape[1]), dim=1)
    entity_BC = torch.cat([first.entities, second.entities], dim=1)
    return _Best(best.values, entity_BC.gather(1, best.indices))


def _on_host(best: _Best) -> tuple[Float32, Int64]:
    """Scores and entities in one copy: on a GPU each copy waits for all the work before it."""
    packed = torch.stack([best.scores, best.entities.int().view(torch.float32)]).cpu().numpy()
    return packed[0], packed[1].view(np.int32).astype(np.int64)
