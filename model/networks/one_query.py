"""OneQuery: a single MoMoK query on a CPU, encoded in few and small steps.

A scan leaves nothing else in a processor's caches, and a torch operation of 4 us then takes 20: its own code
has to come from memory again. numpy's take less. Matrices are left to torch: for wide ones OpenBLAS starts
threads, which keep a core busy for 80 ms after the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Bool, Float32
from momok.model.networks.base import CachedRelation, Encoding
from momok.model.networks.inference import EntityOutputs, InferenceExperts, InferenceFusion
from momok.model.networks.layers import MIN_TEMPERATURE


class OneQuery:
    """Encodes by the parts of a query side, all of them on a CPU.

    What is of one width stays together all through, and M counts the modalities one width after the other.
    ``branches``: the names of all, the modalities' first; ``same_width``: the places of those of one width.
    """

    def __init__(
        self,
        entities: EntityOutputs,
        experts: InferenceExperts,
        fusion: InferenceFusion | None,
        absent_NM: Tensor,
        temperature_R: Tensor | None,
        branches: Sequence[str],
        same_width: Sequence[Sequence[int]],
    ) -> None:
        self._entities, self._fusion = entities, fusion
        self._temperature_R = None if temperature_R is None else temperature_R.numpy()
        self._num_experts = experts.num_experts
        modality_order = list(chain.from_iterable(experts.places))
        branch_order = list(chain.from_iterable(same_width))
        self._absent_NM = absent_NM.numpy()[:, modality_order]
        self._modality_ranks = np.argsort(modality_order)
        self._gates = dict(zip(branches, self._modality_ranks.tolist(), strict=False))
        self._query = dict(zip(branches, np.argsort(branch_order).tolist(), strict=True))
        self._joint_part = next(part for part, places in enumerate(same_width) if len(branches) - 1 in places)

    def encode(self, entity: int, relation: int, folded: CachedRelation) -> Encoding:
        """A batch of one. ``folded``: as ``MoMoKInference`` folds the relation."""
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN is found, and told of, by the scorer.
            return self._encode(entity, relation, folded)

    def _encode(self, entity: int, relation: int, folded: CachedRelation) -> Encoding:
        temperature_1 = None if self._temperature_R is None else self._temperature_R[relation : relation + 1]
        inputs, gates_MK = self._mix(entity, temperature_1)
        absent_M = self._absent_NM[entity]
        if self._fusion is None:
            present_M = (~absent_M).astype(np.float32)
            weights_M: Float32 = present_M / present_M.sum()
        else:
            fused_11D, weights_M = self._fuse(self._fusion, inputs, absent_M)
            if self._joint_part == len(inputs):
                inputs.append(fused_11D)
            else:
                inputs[self._joint_part] = np.concatenate([inputs[self._joint_part], fused_11D])
        outputs = map(_multiply, inputs, folded[::2], folded[1::2])
        rows = list(chain.from_iterable(output_G1D.unbind() for output_G1D in outputs))
        gates = torch.from_numpy(gates_MK[:, None]).unbind()
        return Encoding(
            {name: rows[rank] for name, rank in self._query.items()},
            torch.from_numpy(weights_M[None, self._modality_ranks]),
            {name: gates[rank] for name, rank in self._gates.items()},
            None if temperature_1 is None else torch.from_numpy(temperature_1),
        )

    def _mix(self, entity: int, temperature_1: Float32 | None) -> tuple[list[Float32], Float32]:
        """The mixed views of the modalities of each width, float32[G, 1, D], and the gates float32[M, K]."""
        inputs, gates = [], []
        for said_GX in self._entities.said_of_one(entity):
            logits_GK, views_GX = said_GX[:, -self._num_experts :], said_GX[:, : -self._num_experts]
            if temperature_1 is not None:
                floored_1: Float32 = np.maximum(temperature_1, MIN_TEMPERATURE)
                logits_GK = logits_GK / floored_1
            gates_GK = softmax(logits_GK, axis=1)
            inputs.append(gates_GK[:, None] @ views_GX.reshape(*gates_GK.shape, -1))
            gates.append(gates_GK)
        return inputs, np.concatenate(gates)

    def _fuse(
        self, fusion: InferenceFusion, inputs: Sequence[Float32], absent_M: Bool
    ) -> tuple[Float32, Float32]:
        """The fused vector float32[1, 1, D] and the weights float32[M]."""
        mapped = [
            _multiply(input_G1D, part.matrix, part.offset).numpy()
            for input_G1D, part in zip(inputs, fusion.maps.parts, strict=True)
        ]
        mapped_MJD = np.maximum(np.concatenate(mapped), 0).reshape(fusion.shape)
        logits_MJ = mapped_MJD @ fusion.attention_D.numpy()
        logits_MJ[absent_M] = -np.inf
        weights_MJ = softmax(logits_MJ, axis=0)
        fused_11D = weights_MJ.reshape(1, 1, -1) @ mapped_MJD.reshape(1, weights_MJ.size, -1)
        return fused_11D, weights_MJ.sum(axis=1) / np.float32(fusion.shape[1])


def softmax(logits: Float32, axis: int) -> Float32:
    raised: Float32 = np.exp(logits - logits.max(axis, keepdims=True))
    raised /= raised.sum(axis, keepdims=True)
    return raised


def _multiply(input_G1D: Float32, matrix_GDX: Tensor, offset_G1X: Tensor) -> Tensor:
    return torch.baddbmm(offset_G1X, torch.from_numpy(input_G1D), matrix_GDX)
