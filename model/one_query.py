"""OneQuery: a single MoMoK query on a CPU, encoded in few and small steps.

A scan leaves nothing else in a processor's caches, and a torch operation of 4 us then takes 20: its own code
has to come from memory again. numpy's take half of that. Matrices are left to torch: for wide ones OpenBLAS
starts threads, which keep a core busy for 80 ms after the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.frozen import AffinePart, Float32, FrozenExperts, FrozenFusion
from model.layers import MIN_TEMPERATURE

Bool = npt.NDArray[np.bool_]


class OneQuery:
    """The experts' mixture and the fusion of ``MoMoKQueries`` for one row."""

    def __init__(self, experts: FrozenExperts, fusion: FrozenFusion | None) -> None:
        self._places, self._num_experts, self._fusion = experts.places, experts.num_experts, fusion

    def inputs(
        self, said: Sequence[Float32], temperature: float | None, absent_M: Bool
    ) -> tuple[list[Float32], Float32, Float32]:
        """What each branch works with, float32[D], the joint one last; the gates float32[M, K]; the modality
        weights float32[M].

        ``said`` float32[G, K D + K]: as ``FrozenExperts.say``, of one entity.
        """
        gates_MK = np.empty((len(absent_M), self._num_experts), dtype=np.float32)
        mixed = list(gates_MK)
        for places, said_GX in zip(self._places, said, strict=True):
            logits_GK = said_GX[:, -self._num_experts :]
            if temperature is not None:
                logits_GK = logits_GK / np.float32(max(temperature, MIN_TEMPERATURE))
            gates_MK[places] = gates_GK = softmax(logits_GK, axis=1)
            views_GKD = said_GX[:, : -self._num_experts].reshape(*gates_GK.shape, -1)
            for place, mixed_1D in zip(places, gates_GK[:, None] @ views_GKD, strict=True):
                mixed[place] = mixed_1D[0]
        if self._fusion is None:
            present_M = (~absent_M).astype(np.float32)
            return mixed, gates_MK, present_M / present_M.sum()
        fused_D, weights_M = self._fuse(self._fusion, mixed, absent_M)
        return [*mixed, fused_D], gates_MK, weights_M

    def _fuse(
        self, fusion: FrozenFusion, mixed: Sequence[Float32], absent_M: Bool
    ) -> tuple[Float32, Float32]:
        mapped_MX = np.array(affine(mixed, fusion.maps.parts))
        mapped_MJD = np.maximum(mapped_MX, 0, out=mapped_MX).reshape(fusion.shape)
        logits_MJ = mapped_MJD @ fusion.attention_D.numpy()
        logits_MJ[absent_M] = -np.inf
        weights_MJ = softmax(logits_MJ, axis=0)
        fused_D = weights_MJ.ravel() @ mapped_MJD.reshape(weights_MJ.size, -1)
        return fused_D, weights_MJ.sum(axis=1) / np.float32(fusion.shape[1])


def affine(vectors: Sequence[Float32], parts: Iterable[AffinePart]) -> list[Float32]:
    """Each vector float32[D] times the matrix of its place, plus its offset."""
    outputs = list(vectors)
    for places, matrix_GDX, offset_G1X in parts:
        given_G1D = torch.from_numpy(np.array([[vectors[place]] for place in places]))
        output_G1X = torch.baddbmm(offset_G1X, given_G1D, matrix_GDX).numpy()
        for place, output_1X in zip(places, output_G1X, strict=True):
            outputs[place] = output_1X[0]
    return outputs


def softmax(logits: Float32, axis: int) -> Float32:
    raised: Float32 = np.exp(logits - logits.max(axis, keepdims=True))
    raised /= raised.sum(axis, keepdims=True)
    return raised
