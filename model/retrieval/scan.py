"""Scan: every candidate scored in low precision, and kept if rounding may hide that it is among the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Float32, Float64, Int64
from momok.model.retrieval.ahead import Ahead
from momok.model.retrieval.matmul import CELLS, AnyLayout, Errors, Layout, spaces_of
from momok.model.retrieval.selection import Proposal, Selection, excluded_pairs
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision, decide, decide_exactly

GROUP = 32
"""Candidates of a group; those in contention are looked for in groups whose best is."""

GROUPS_FOR_ONE = 4
"""So many groups at least for each answer wanted, or the best share groups and contention opens too far."""

CROWD = 1024
"""So many in contention besides four for each answer wanted are a crowd."""


class Scan:
    """Proposes exactly those that can be among the best k, whatever rounding takes away.

    A candidate is left out only if its score and that of the k-th best lie further apart than both may err
    (``Layout.errors``), so nothing that is left out can belong to the answer. Where a crowd is as close,
    ``finer`` looks again; without one, everyone in contention is proposed. With ``ahead``, the next scores
    are computed while these are looked through.
    """

    def __init__(
        self,
        table: EntityTable,
        decision: Decision,
        layout: AnyLayout | None = None,
        finer: Scan | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self.layout: AnyLayout = layout or Layout(table, spaces_of(table, decision))
        dtype = self.layout.dtype
        self.name = "scan" if dtype == torch.float32 else f"scan-{str(dtype).removeprefix('torch.')}"
        self._entities, self._finer, self._ahead = table, finer, ahead
        self._decision: Decision = decision

    def warm(self) -> None:
        self.layout.warm()

    @torch.inference_mode()
    def propose(self, query_BX: Float32, selections: Sequence[Selection]) -> Proposal:
        """All that may be among the best of each row: nothing is left to prove."""
        errors = self.layout.errors(query_BX)
        certain_B = np.isfinite(errors.together).all(axis=1)
        sure, crowded = np.flatnonzero(certain_B), np.flatnonzero(~certain_B)
        found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
        least_B = np.full(len(selections), np.nan)
        if len(sure):
            contenders = self._contenders(
                query_BX[sure], [selections[row] for row in sure.tolist()], errors.of(sure)
            )
            row_P, entity_P, least_B[sure], crowd = contenders.found()
            found.append((sure[row_P], entity_P))
            crowded = np.concatenate([crowded, sure[crowd]])
        found += self._second_look(query_BX, selections, crowded, least_B)
        row_P, entity_P = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(row_P, kind="stable")
        return Proposal(row_P[order], entity_P[order], np.full(len(selections), -np.inf))

    def _contenders(self, query_BX: Float32, selections: Sequence[Selection], errors: Errors) -> _Contenders:
        device = self.layout.device
        masks = _Masks(selections, len(self._entities), device)
        contenders = _Contenders(selections, errors, self._decision, device)
        for start, scores in self._tiles(query_BX):
            score_CB = self._decided(scores)
            masks.apply(score_CB, start)
            contenders.look(score_CB, start)
        return contenders

    def _tiles(self, query_BX: Float32) -> Iterator[tuple[int, list[Tensor]]]:
        tiles = self.layout.tiles(torch.from_numpy(query_BX))
        # Where there is little to compute, as for a lone query, asking a thread costs a tenth of it.
        little = len(query_BX) * len(self._entities) <= CELLS[self.layout.device.type]
        return tiles if little or self._ahead is None else self._ahead(tiles)

    def _second_look(
        self, query_BX: Float32, selections: Sequence[Selection], rows: Int64, least_B: Float64
    ) -> list[tuple[Int64, Int64]]:
        """Pairs (row, entity) of the rows that rounding has left open."""
        if self._finer is not None and len(rows):
            proposal = self._finer.propose(query_BX[rows], [selections[row] for row in rows.tolist()])
            return [(rows[proposal.rows], proposal.entities)]
        found = []
        for row in rows.tolist():
            query = torch.from_numpy(query_BX[row : row + 1])
            entity_C = self._all_in_contention(query, selections[row], float(least_B[row]))
            entity_C = self._best_of(entity_C, query_BX[row : row + 1], selections[row].k)
            found.append((np.full(len(entity_C), row), entity_C))
        return found

    def _best_of(self, entity_C: Int64, query_1X: Float32, k: int) -> Int64:
        """The best of a crowd, so that a batch of crowds is not held at once; ascending."""
        score_CS = self._entities.rescore(query_1X, np.zeros_like(entity_C), entity_C)
        order = np.lexsort((entity_C, -decide_exactly(score_CS, self._decision)))
        return np.sort(entity_C[order[:k]])

    def _all_in_contention(self, query_1X: Tensor, selection: Selection, least: float) -> Int64:
        """Everyone allowed who scores at least ``least``, or anything at all if that is NaN."""
        allowed_N = selection.allowed(len(self._entities))
        for start, scores in self.layout.tiles(query_1X):
            behind_C = (self._decided(scores)[:, 0] < least).cpu().numpy()
            allowed_N[start : start + len(behind_C)] &= ~behind_C
        return np.flatnonzero(allowed_N)

    def _decided(self, scores: Sequence[Tensor]) -> Tensor:
        """[C, B]. What is the decision already is left as it is stored, anything else computed in float32."""
        if self._decision != "mean_sigmoid":
            return scores[0]
        return decide(map(Tensor.float, scores), self._decision)


class _Contenders:
    """Who is in contention for the best k of each row, as more and more candidates are looked at.

    The k-th of the best of k groups is no better than the k-th best of all: who falls short of it by more
    than rounding explains is out. As tiles go by it rises.
    """

    def __init__(
        self, selections: Sequence[Selection], errors: Errors, decision: Decision, device: torch.device
    ) -> None:
        wanted = [selection.k for selection in selections]
        self._decision: Decision = decision
        self._most, self._relative = max(wanted), errors.relative
        self._wanted_B = torch.tensor(wanted, device=device)
        self._absolute_BS = torch.from_numpy(errors.absolute).to(device)
        self._together_BS = torch.from_numpy(errors.together).to(device)
        self._best_BK = torch.full((len(wanted), self._most), -torch.inf, device=device)
        self._least_B = torch.full((len(wanted),), -torch.inf, dtype=torch.float64, device=device)
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._counts_B = torch.zeros_like(self._wanted_B)
        self._crowds_B = CROWD + 4 * self._wanted_B

    def look(self, score_CB: Tensor, start: int) -> None:
        """At the candidates from ``start`` on; -inf for who may not be answered."""
        parts = _grouped(score_CB, self._most)
        highest = [grouped_PGB.amax(dim=0).float() for grouped_PGB in parts]
        found = [self._best_BK, *(highest_GB.T for highest_GB in highest)]
        self._best_BK = torch.cat(found, dim=1).topk(self._most, dim=1).values
        kth_B = self._best_BK.gather(1, self._wanted_B[:, None] - 1)[:, 0].double()
        self._least_B = least_in_contention(
            kth_B, self._absolute_BS, self._together_BS, self._relative, self._decision
        )
        for grouped_PGB, highest_GB in zip(parts, highest, strict=True):
            self._collect(grouped_PGB, highest_GB, start)
            start += grouped_PGB[..., 0].numel()

    def _collect(self, grouped_PGB: Tensor, highest_GB: Tensor, start: int) -> None:
        """Keep those of a part that are in contention, except of rows where a crowd already is."""
        open_B = self._counts_B <= self._crowds_B
        group_p, row_p = torch.nonzero(
            (highest_GB >= self._least_B) & (highest_GB > -torch.inf) & open_B, as_tuple=True
        )
        member_Pp = grouped_PGB[:, group_p, row_p].float()
        kept_Pp = (member_Pp >= self._least_B[row_p]) & (member_Pp > -torch.inf)
        place, pair = torch.nonzero(kept_Pp, as_tuple=True)
        row_P, entity_P = row_p[pair], start + place * grouped_PGB.shape[1] + group_p[pair]
        self._pairs.append((row_P, entity_P, member_Pp[place, pair]))
        self._counts_B += torch.bincount(row_P, minlength=len(self._counts_B))

    def found(self) -> tuple[Int64, Int64, Float64, Int64]:
        """Pairs ``row_P``, ``entity_P`` of rows without a crowd; each row's least score; crowded rows."""
        row_P, entity_P, score_P = (torch.cat(parts) for parts in zip(*self._pairs, strict=True))
        crowd_B = torch.bincount(row_P, minlength=len(self._counts_B)) > self._crowds_B
        kept_P = (score_P >= self._least_B[row_P]) & ~crowd_B[row_P]
        pairs = torch.stack([row_P[kept_P], entity_P[kept_P]]).cpu().numpy()
        rows = torch.stack([self._least_B, crowd_B.double()]).cpu().numpy()
        return pairs[0], pairs[1], rows[0], np.flatnonzero(rows[1])


def least_in_contention(
    kth_B: Tensor, absolute_BS: Tensor, together_BS: Tensor, relative: float, decision: Decision
) -> Tensor:
    """The score below which nobody can reach the k-th best, float64[B].

    ``kth_B``: at most the k-th best score found, float64; the others as in ``Errors``, finite. Both scores
    may err, in opposite directions, hence twice the error.
    """
    if decision != "mean_sigmoid":
        # Before its last rounding the k-th was at least kth / (1 + share) where positive, and who was found
        # at v can have been no more than v / (1 - share).
        least_B = kth_B / (1 + relative * kth_B.sign()) - 2 * absolute_BS[:, 0]
        return least_B * (1 - relative * least_B.sign())
    apart_B, factor_B = errors_of_sigmoids(together_BS)
    return torch.maximum(kth_B - 2 * apart_B, kth_B / factor_B**2 - 2.0**-120)


def errors_of_sigmoids(together_BS: Tensor) -> tuple[Tensor, Tensor]:
    """By how much and by which factor a mean of sigmoids may err, float64[B]; logits err as in ``Errors``.

    A sigmoid changes by at most a quarter of what its logit does, and by no larger factor than exp of it;
    computing it, and their mean, in float32 costs a few units in the last place.
    """
    units = (8 + together_BS.shape[1]) * 2.0**-24
    factor_B = together_BS.amax(dim=1).clamp(max=300).exp() * (1 + units) / (1 - units)
    return 0.25 * together_BS.mean(dim=1) + units, factor_B


class _Masks:
    """Who may not be answered, as pairs and, where candidates are named, as whole rows."""

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
    """The scores as [size, groups, B], a group being every so many-th row, and the rest."""
    size = min(max(len(score_CB) // (GROUPS_FOR_ONE * most), 1), GROUP)
    whole = len(score_CB) // size * size
    parts = [score_CB[:whole].view(size, -1, score_CB.shape[1]), score_CB[None, whole:]]
    return [part for part in parts if part.numel()]
