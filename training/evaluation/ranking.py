"""Evaluation: filtered ranking over all entities, both directions, and the report of it.

Protocol: every distinct fact of a split asks for its tail and for its head; other known answers of all splits
are left out; ties count as their mean rank (``1 + greater + ties / 2``, "realistic").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from momok.model.arrays import Float64, Int64
from momok.model.bundle.names import Names
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.training.evaluation.gate_statistics import GateStatistics
from momok.training.memory import rows_at_once

PROTOCOL = "filtered over all splits, all entities, both directions, realistic ties, distinct facts"
HITS = (1, 3, 10)

ENCODED_AT_ONCE = 8192
"""Queries; a Tucker core is contracted once for each relation among them."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """``tail`` and ``head`` float64[num_facts]: the rank of the true entity at that end of each fact."""

    tail: Float64
    head: Float64

    def both(self, chosen: npt.NDArray[np.bool_] | slice = slice(None)) -> Float64:
        return np.concatenate([self.tail[chosen], self.head[chosen]])


@torch.no_grad()
def rank_facts(
    model: LinkPredictor,
    facts: Int64,
    known: FilterIndex,
    *,
    table: dict[str, Tensor] | None = None,
    statistics: GateStatistics | None = None,
) -> Ranks:
    """Ranks of both ends of ``facts`` int64[num_facts, 3] (head, relation, tail).

    ``table`` are the candidates' vectors, computed from the model where not given. Puts the model into
    evaluation mode and back. Raises ``ValueError`` where a score is not finite.
    """
    was_training = model.training
    model.eval()
    try:
        vectors = model.entity_table() if table is None else table
        head, relation, tail = facts.T
        inverse = np.stack([tail, relation + model.config.num_relations, head], axis=1)
        asked_Q3 = np.concatenate([facts, inverse])
        rank = np.empty(len(asked_Q3))
        # Queries of one relation together, and many at once: much of what encodes them is done a relation. A
        # query stands there once for each of its answers, and is scored once.
        order = np.lexsort((asked_Q3[:, 0], asked_Q3[:, 1]))
        for start in range(0, len(order), ENCODED_AT_ONCE):
            part = order[start : start + ENCODED_AT_ONCE]
            rank[part] = _rank_queries(model, vectors, known, asked_Q3[part], statistics)
    finally:
        model.train(was_training)
    return Ranks(*np.split(rank, 2))


def _rank_queries(
    model: LinkPredictor,
    table: dict[str, Tensor],
    known: FilterIndex,
    asked_B3: Int64,
    statistics: GateStatistics | None,
) -> Float64:
    """Ranks float64[B]: encoded together, scored as many at a time as memory allows, equal ones once.

    ``asked_B3`` int64[B, 3], equal queries side by side: entity, relation in [0, 2R) and what is true.
    """
    device = model.present.device
    differs = (asked_B3[1:, :2] != asked_B3[:-1, :2]).any(axis=1)
    starts = np.concatenate([[0], np.flatnonzero(differs) + 1, [len(asked_B3)]])
    entity, relation = torch.from_numpy(asked_B3[starts[:-1], :2].T.copy()).to(device)
    encoding = model.encode(entity, relation)
    if statistics is not None:
        statistics.add(encoding, entity, relation, torch.from_numpy(np.diff(starts)).double())
    rank, size = np.empty(len(asked_B3)), rows_at_once(next(iter(table.values())))
    for start in range(0, len(entity), size):
        query = {name: vector_BD[start : start + size] for name, vector_BD in encoding.query.items()}
        ends = starts[start : start + size + 1]
        tiles = list(model.score_tiles(query, table))
        # The first answer of each query last, as that uses up the tiles; one query may have very many others.
        others = np.setdiff1d(np.arange(ends[0], ends[-1]), ends[:-1], assume_unique=True)
        for first in range(0, len(others), size):
            chosen = others[first : first + size]
            rows = torch.from_numpy(np.searchsorted(ends, chosen, side="right") - 1).to(device)
            rank[chosen] = _ranks_of_truth([tile_Bc[rows] for tile_Bc in tiles], asked_B3[chosen], known)
        rank[ends[:-1]] = _ranks_of_truth(tiles, asked_B3[ends[:-1]], known)
    return rank


def _ranks_of_truth(tiles: Sequence[Tensor], asked_B3: Int64, known: FilterIndex) -> Float64:
    """``1 + greater + ties / 2`` among all entities but the other known answers, float64[B].

    ``tiles`` float32[B, c]: the scores of all entities, some after the other; they are used up.
    """
    device = tiles[0].device
    entity_B, relation_B, true_B = asked_B3.T
    row_P, answer_P = known.rows(entity_B, relation_B)
    others = answer_P != true_B[row_P]
    row_p, answer_p = (torch.from_numpy(ids[others]).to(device) for ids in (row_P, answer_P))
    rows, truth_B = torch.arange(len(true_B)), torch.from_numpy(true_B)
    pairs = torch.cat([rows.to(device), row_p]), torch.cat([truth_B.to(device), answer_p])
    score_B, score_p = _scores_at(tiles, *pairs).tensor_split([len(rows)])
    # +1 above the truth, 0 for a tie, -1 below it: (sign + 1) / 2 is what each candidate adds to the rank.
    share_B = torch.full_like(score_B, sum(tile_Bc.shape[1] for tile_Bc in tiles) / 2, dtype=torch.float64)
    for tile_Bc in tiles:  # One after the other: each then goes through the caches once.
        # Not of the truth alone: candidates scored NaN are neither above it nor equal, and would flatter it.
        # A sum is finite only if all its terms are, and quicker to look at.
        if not bool(tile_Bc.sum().isfinite()) and not bool(tile_Bc.isfinite().all()):
            raise ValueError("a score is not finite: these weights cannot be evaluated")
        # Sums of fewer than 2^24 ones are exact in float32, and float64 would copy all the signs first.
        dtype = torch.float32 if tile_Bc.shape[1] < 2**24 else torch.float64
        share_B += tile_Bc.sub_(score_B[:, None]).sign_().sum(dim=1, dtype=dtype).double() / 2
    known_p = ((score_p - score_B[row_p]).sign().double() + 1) / 2
    share_B = share_B.index_add(0, row_p, -known_p)
    result: Float64 = (share_B + 0.5).cpu().numpy()  # The truth's own share of one half makes up for the 1.
    return result


def _scores_at(tiles: Sequence[Tensor], row_P: Tensor, entity_P: Tensor) -> Tensor:
    """The scores float32[P] of pairs (row, entity)."""
    order = entity_P.argsort()
    row_P, entity_P = row_P[order], entity_P[order]
    starts = list(accumulate((tile_Bc.shape[1] for tile_Bc in tiles), initial=0))
    # Sorted, the pairs of a tile stand together: no tile looks through all of them.
    bounds = torch.searchsorted(entity_P, torch.tensor(starts, device=entity_P.device)).tolist()
    found = [
        tile_Bc[row_P[first:last], entity_P[first:last] - start]
        for tile_Bc, start, (first, last) in zip(tiles, starts[:-1], pairwise(bounds), strict=True)
    ]
    score_P = torch.empty(len(order), device=order.device)
    score_P[order] = torch.cat(found)
    return score_P


def summarise(rank: Float64) -> dict[str, float]:
    """MRR, mean rank (MR) and Hits@1/3/10 of ranks; NaN-free: an empty list gives zeros and a count of 0."""
    empty = len(rank) == 0
    result = {"mrr": 0.0 if empty else float((1 / rank).mean()), "mr": 0.0 if empty else float(rank.mean())}
    for k in HITS:
        result[f"hits@{k}"] = 0.0 if empty else float((rank <= k).mean())
    return result | {"num_queries": len(rank)}


def evaluate(
    model: LinkPredictor,
    facts: Int64,
    known: FilterIndex,
    *,
    seen: Int64,
    relations: Names,
    table: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """The whole report on the distinct ``facts``, JSON-able.

    Overall, by direction, by relation, for facts whose both entities are ``seen`` in train and for the
    others, with gate statistics.
    """
    facts = np.unique(facts, axis=0)
    statistics = GateStatistics(model)
    ranks = rank_facts(model, facts, known, table=table, statistics=statistics)
    is_seen = np.isin(facts[:, 0], seen) & np.isin(facts[:, 2], seen)
    by_relation = {}
    for relation in np.unique(facts[:, 1]).tolist():
        chosen = facts[:, 1] == relation
        by_relation[relations.keys[relation]] = {
            "label": relations.labels[relation],
            "tail": summarise(ranks.tail[chosen]),
            "head": summarise(ranks.head[chosen]),
            "modality_weights": {
                "tail": statistics.weights_of_relation(relation),
                "head": statistics.weights_of_relation(relation + len(relations)),
            },
        }
    return {
        "protocol": PROTOCOL,
        "num_facts": len(facts),
        "metrics": summarise(ranks.both()),
        "by_direction": {"tail": summarise(ranks.tail), "head": summarise(ranks.head)},
        "by_entities": {
            "seen": summarise(ranks.both(is_seen)),
            "unseen": summarise(ranks.both(~is_seen)),
        },
        "by_relation": by_relation,
        **(statistics.summary() if len(facts) else {"modality_weights": {}, "gates": {}}),
    }


def evaluation_lines(report: dict[str, Any]) -> list[str]:
    """The report as a table for people: overall, directions, entities, the gates, the largest relations."""
    rows = [("all", report["metrics"])]
    rows += [(f"{end} missing", metrics) for end, metrics in report["by_direction"].items()]
    rows += [(f"{kind} entities", metrics) for kind, metrics in report["by_entities"].items()]
    relations = sorted(report["by_relation"].values(), key=lambda row: -row["tail"]["num_queries"])
    for relation in relations[:10]:
        rows += [(f"{relation['label'][:24]}, {end} missing", relation[end]) for end in ("tail", "head")]
    names = ["mrr", "mr", *(f"hits@{k}" for k in HITS), "num_queries"]
    lines = [report["protocol"], f"{'':40}" + "".join(f"{name:>12}" for name in names)]
    for label, metrics in rows:
        lines.append(f"{label:40}" + "".join(_cell(metrics[name]) for name in names))
    if len(relations) > 10:
        lines.append(f"… {len(relations) - 10} smaller relations: --json")
    for name, weight in report["modality_weights"].items():
        line = f"{name}: mean weight {weight:.3f}"
        if gates := report["gates"].get(name):
            line += f", gate entropy {gates['entropy']:.4f} (1 = uniform)"
            line += f", spread over relations {gates['spread']:.4f}"
        lines.append(line)
    return lines


def _cell(value: float) -> str:
    return f"{value:>12}" if isinstance(value, int) else f"{value:>12.4f}"
