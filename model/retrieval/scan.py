"""Scan: every candidate scored by a kernel, and kept if rounding may hide that it is among the best.

Axes: B queries, C candidates of a tile, K answers wanted, N entities, P pairs of a query and an entity,
g groups, m members of a group, X widths of all spaces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Float32, Float64, Int64
from momok.model.retrieval.kernel import Kernel
from momok.model.retrieval.selection import Proposal, Selection, excluded_pairs
from momok.model.scores import Fusion, ScoreErrors

GROUP = 32
"""Candidates of a group; the shortlist is looked for in groups with a good enough best member."""

GROUPS_FOR_ONE = 4
"""Groups for each answer wanted, at least; with fewer, good candidates share groups: the threshold falls."""

MOST_LISTED = 1024
"""A shortlist longer than this, and four more for each answer wanted, overflows."""


class Scan:
    """Proposes exactly the candidates that can be among the best k, whatever rounding takes away.

    A candidate is left out only if its score and the k-th best lie further apart than both may err. Rows
    with a shortlist that overflows are scanned again by ``fallback``; without one, their candidates are
    rescored.
    """

    def __init__(self, kernel: Kernel, fallback: Scan | None = None) -> None:
        self.kernel, self.name = kernel, kernel.name
        self._table, self._fusion, self._fallback = kernel.table, kernel.fusion, fallback

    def answers(self, selection: Selection) -> bool:
        """Every query can be scanned."""
        return True

    @torch.inference_mode()
    def propose(self, query_BX: Float32, selections: Sequence[Selection]) -> Proposal:
        """All candidates that may be among the best of each row: nothing is left to prove."""
        errors = self.kernel.errors(query_BX)
        certain, overflow = np.flatnonzero(errors.finite), np.flatnonzero(~errors.finite)
        found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
        least_B = np.full(len(selections), np.nan)
        if len(certain):
            chosen = [selections[row] for row in certain.tolist()]
            shortlist = self._shortlist(query_BX[certain], chosen, errors.rows(certain))
            row_P, entity_P, least_B[certain], too_long = shortlist.found()
            found.append((certain[row_P], entity_P))
            overflow = np.concatenate([overflow, certain[too_long]])
        found += self._rescan(query_BX, selections, overflow, least_B)
        row_P, entity_P = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(row_P, kind="stable")
        return Proposal(row_P[order], entity_P[order], np.full(len(selections), -np.inf))

    def _shortlist(
        self, query_BX: Float32, selections: Sequence[Selection], errors: ScoreErrors
    ) -> _Shortlist:
        masks = _Masks(selections, len(self._table), self.kernel.device)
        shortlist = _Shortlist(selections, errors, self._fusion, self.kernel.device)
        for start, score_CB in self.kernel.fused(query_BX):
            masks.apply(score_CB, start)
            shortlist.add(score_CB, start)
        return shortlist

    def _rescan(
        self, query_BX: Float32, selections: Sequence[Selection], rows: Int64, least_B: Float64
    ) -> list[tuple[Int64, Int64]]:
        """Pairs (row, entity) of rows that the shortlist has left open."""
        if self._fallback is not None and len(rows):
            proposal = self._fallback.propose(query_BX[rows], [selections[row] for row in rows.tolist()])
            return [(rows[proposal.rows], proposal.entities)]
        found = []
        for row in rows.tolist():
            query_1X = query_BX[row : row + 1]
            entity_C = self._all_in_contention(query_1X, selections[row], float(least_B[row]))
            entity_C = self._best_of(entity_C, query_1X, selections[row].k)
            found.append((np.full(len(entity_C), row), entity_C))
        return found

    def _best_of(self, entity_C: Int64, query_1X: Float32, k: int) -> Int64:
        """The best of many, ascending by id, so that those of a whole batch are not held at once."""
        score_CS = self._table.rescore(query_1X, np.zeros_like(entity_C), entity_C)
        order = np.lexsort((entity_C, -self._fusion.combine_exactly(score_CS)))
        return np.sort(entity_C[order[:k]])

    def _all_in_contention(self, query_1X: Float32, selection: Selection, least: float) -> Int64:
        """All allowed entities with a score of at least ``least``, or with any if that is NaN."""
        allowed_N = selection.allowed(len(self._table))
        for start, score_C1 in self.kernel.fused(query_1X):
            behind_C = (score_C1[:, 0] < least).cpu().numpy()
            allowed_N[start : start + len(behind_C)] &= ~behind_C
        return np.flatnonzero(allowed_N)


class _Shortlist:
    """The candidates that can be among the best k of each row, as tile after tile is added.

    The k-th of the best members of k groups is no better than the k-th best of all: a candidate that falls
    short of it by more than rounding explains is out. The threshold rises from tile to tile.
    """

    def __init__(
        self, selections: Sequence[Selection], errors: ScoreErrors, fusion: Fusion, device: torch.device
    ) -> None:
        wanted = [selection.k for selection in selections]
        self._fusion, self._errors, self._most = fusion, errors, max(wanted)
        self._wanted_B = torch.tensor(wanted, device=device)
        self._best_BK = torch.full((len(wanted), self._most), -torch.inf, device=device)
        self._least_B = torch.full((len(wanted),), -torch.inf, dtype=torch.float64, device=device)
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._counts_B = torch.zeros_like(self._wanted_B)
        self._limits_B = MOST_LISTED + 4 * self._wanted_B

    def add(self, score_CB: Tensor, start: int) -> None:
        """A tile of candidates from ``start`` on; -inf for those that may not be answered."""
        parts = _grouped(score_CB, self._most)
        highest = [grouped_mgB.amax(dim=0).float() for grouped_mgB in parts]
        found = [self._best_BK, *(highest_gB.T for highest_gB in highest)]
        self._best_BK = torch.cat(found, dim=1).topk(self._most, dim=1).values
        kth_B = self._best_BK.gather(1, self._wanted_B[:, None] - 1)[:, 0].double()
        self._least_B = self._fusion.least_in_contention(kth_B, self._errors)
        for grouped_mgB, highest_gB in zip(parts, highest, strict=True):
            self._collect(grouped_mgB, highest_gB, start)
            start += grouped_mgB[..., 0].numel()

    def _collect(self, grouped_mgB: Tensor, highest_gB: Tensor, start: int) -> None:
        """Keep the candidates of a part above the threshold, except of rows that overflow already."""
        open_B = self._counts_B <= self._limits_B
        group_p, row_p = torch.nonzero(
            (highest_gB >= self._least_B) & (highest_gB > -torch.inf) & open_B, as_tuple=True
        )
        member_mp = grouped_mgB[:, group_p, row_p].float()
        kept_mp = (member_mp >= self._least_B[row_p]) & (member_mp > -torch.inf)
        member_P, pair_P = torch.nonzero(kept_mp, as_tuple=True)
        row_P, entity_P = row_p[pair_P], start + member_P * grouped_mgB.shape[1] + group_p[pair_P]
        self._pairs.append((row_P, entity_P, member_mp[member_P, pair_P]))
        self._counts_B += torch.bincount(row_P, minlength=len(self._counts_B))

    def found(self) -> tuple[Int64, Int64, Float64, Int64]:
        """Pairs ``row_P``, ``entity_P`` of rows without overflow; each row's threshold; overflowing rows."""
        row_P, entity_P, score_P = (torch.cat(parts) for parts in zip(*self._pairs, strict=True))
        overflow_B = torch.bincount(row_P, minlength=len(self._counts_B)) > self._limits_B
        kept_P = (score_P >= self._least_B[row_P]) & ~overflow_B[row_P]
        pairs = torch.stack([row_P[kept_P], entity_P[kept_P]]).cpu().numpy()
        rows = torch.stack([self._least_B, overflow_B.double()]).cpu().numpy()
        return pairs[0], pairs[1], rows[0], np.flatnonzero(rows[1])


class _Masks:
    """Entities that may not be answered, as pairs and, where candidates are named, as whole rows."""

    def __init__(self, selections: Sequence[Selection], num_entities: int, device: torch.device) -> None:
        row_P, entity_P = excluded_pairs(selections)
        self._row_P = torch.from_numpy(row_P).to(device)
        self._entity_P = torch.from_numpy(entity_P).to(device)
        self._barred = {
            row: torch.from_numpy(~selection.allowed(num_entities)).to(device)
            for row, selection in enumerate(selections)
            if selection.candidates is not None
        }

    def apply(self, score_CB: Tensor, start: int) -> None:
        """Set the scores of candidates from ``start`` on that may not be answered to -inf."""
        stop = start + len(score_CB)
        if len(self._entity_P):
            here_P = (self._entity_P >= start) & (self._entity_P < stop)
            score_CB[self._entity_P[here_P] - start, self._row_P[here_P]] = -torch.inf
        for row, barred_N in self._barred.items():
            score_CB[:, row].masked_fill_(barred_N[start:stop], -torch.inf)


def _grouped(score_CB: Tensor, most: int) -> list[Tensor]:
    """The scores as [members, groups, B], a group being every so many-th row, and the rest."""
    size = min(max(len(score_CB) // (GROUPS_FOR_ONE * most), 1), GROUP)
    whole = len(score_CB) // size * size
    parts = [score_CB[:whole].view(size, -1, score_CB.shape[1]), score_CB[None, whole:]]
    return [part for part in parts if part.numel()]
