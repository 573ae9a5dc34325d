"""GateStatistics: how modalities and experts were weighed by the queries of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from momok.model.networks.base import Encoding, LinkPredictor


class GateStatistics:
    """Running sums that tell whether gates are uniform and whether they differ between relations."""

    def __init__(self, model: LinkPredictor) -> None:
        self._names = model.modality_names
        self._present = model.present
        num_relations = 2 * model.config.num_relations
        self._weights_RM = torch.zeros(num_relations, len(self._names), dtype=torch.float64)
        self._queries_R = torch.zeros(num_relations, dtype=torch.float64)
        self._gates_RK: dict[str, Tensor] = {}
        self._holders_R: dict[str, Tensor] = {}
        self._entropy: dict[str, float] = dict.fromkeys(self._names, 0.0)

    def add(self, encoding: Encoding, entity_B: Tensor, relation_B: Tensor, times_B: Tensor) -> None:
        """Count each query as often as it was asked, ``times_B`` float64[B]."""
        relation_B = relation_B.cpu()
        present_BM = self._present[entity_B].cpu()
        weights_BM = encoding.modality_weights.double().cpu()
        self._weights_RM.index_add_(0, relation_B, times_B[:, None] * weights_BM)
        self._queries_R.index_add_(0, relation_B, times_B)
        for name, given_BK in encoding.expert_gates.items():
            has_B = present_BM[:, self._names.index(name)]
            gates_bK, relation_b, times_b = given_BK.double().cpu()[has_B], relation_B[has_B], times_B[has_B]
            shape = (len(self._queries_R), gates_bK.shape[1])
            sums = self._gates_RK.setdefault(name, torch.zeros(shape, dtype=torch.float64))
            sums.index_add_(0, relation_b, times_b[:, None] * gates_bK)
            holders = self._holders_R.setdefault(name, torch.zeros(shape[0], dtype=torch.float64))
            holders.index_add_(0, relation_b, times_b)
            self._entropy[name] += float(times_b @ torch.special.entr(gates_bK).sum(dim=1))

    def summary(self) -> dict[str, Any]:
        """Per modality: mean query weight; gates' entropy over its maximum ln K (1 = uniform) and their
        standard deviation between relations (0 = the same for all), averaged over experts; mean gates."""
        asked = self._queries_R.sum()
        weights_M = self._weights_RM.sum(dim=0) / asked
        result: dict[str, Any] = {
            "modality_weights": dict(zip(self._names, weights_M.tolist(), strict=True)),
            "gates": {},
        }
        for name, sums_RK in self._gates_RK.items():
            holders_R = self._holders_R[name]
            if not bool(holders_R.any()):
                continue
            used_R = holders_R > 0
            mean_RK = sums_RK[used_R] / holders_R[used_R, None]
            highest = np.log(sums_RK.shape[1]) if sums_RK.shape[1] > 1 else 1.0
            result["gates"][name] = {
                "mean": (sums_RK.sum(dim=0) / holders_R.sum()).tolist(),
                "entropy": self._entropy[name] / float(holders_R.sum()) / float(highest),
                "spread": float(mean_RK.std(dim=0, correction=0).mean()),
            }
        return result

    def weights_of_relation(self, relation: int) -> dict[str, float] | None:
        """Mean modality weights of the queries asked with one relation; None where there were none."""
        if not self._queries_R[relation]:
            return None
        weights_M = self._weights_RM[relation] / self._queries_R[relation]
        return dict(zip(self._names, weights_M.tolist(), strict=True))
