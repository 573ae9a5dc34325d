"""Layers as answering needs them: made once from trained ones, with nothing left to do again for each query.

Each holds the weights as they were when it was made; a layer that changes afterwards needs a new one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from model.layers import MIN_TEMPERATURE, AttentionFusion, ExpertBank, TuckerScorer


class AffineMaps:
    """Affine maps ``y_m = x_m A_m + c_m``, each with an input of its own.

    Those of one shape are multiplied together: torch gives a batch of products to all of its threads, and a
    product of a single row to one.
    """

    def __init__(self, matrices: Sequence[Tensor], offsets: Sequence[Tensor]) -> None:
        self._parts = [
            (places, torch.stack([matrices[m] for m in places]), torch.stack([offsets[m] for m in places]))
            for places in alike([matrix.shape for matrix in matrices])
        ]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs float32[B, …] in the order of the ``inputs`` float32[B, …]."""
        outputs = list(inputs)
        for places, matrix, offset in self._parts:
            part = torch.baddbmm(offset[:, None], torch.stack([inputs[m] for m in places]), matrix)
            for place, output in zip(places, part.unbind(), strict=True):
                outputs[place] = output
        return outputs


class FrozenExperts:
    """Expert banks of all modalities: views and the logits of the gates in one map for each."""

    @torch.no_grad()
    def __init__(self, banks: Sequence[ExpertBank]) -> None:
        self._num_experts = banks[0].gate.shape[1]
        matrices, offsets = zip(*map(self._map, banks), strict=True)
        self._maps = AffineMaps(matrices, offsets)

    def __call__(
        self, inputs: Sequence[Tensor], temperature_B: Tensor
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Mixed embeddings float32[B, D] and gates float32[B, K] of each modality."""
        both = self._maps(inputs)
        logits_MBK = torch.stack([both_BX[:, -self._num_experts :] for both_BX in both])
        gates = softmax(logits_MBK / temperature_B.clamp_min(MIN_TEMPERATURE)[:, None]).unbind()
        shape = (len(temperature_B), self._num_experts, -1)
        mixed = [
            torch.bmm(gates_BK[:, None], both_BX[:, : -self._num_experts].view(shape)).squeeze(1)
            for gates_BK, both_BX in zip(gates, both, strict=True)
        ]
        return mixed, gates

    def _map(self, bank: ExpertBank) -> tuple[Tensor, Tensor]:
        """Matrix float32[D, K D + K] and offset: all views ``W_k (e - b_k)``, then the logits."""
        shift_KD = torch.einsum("koi,ki->ko", bank.weight, bank.bias)
        matrix_DX = torch.cat([bank.weight.permute(2, 0, 1).flatten(1), bank.gate], dim=1)
        return matrix_DX, torch.cat([-shift_KD.flatten(), shift_KD.new_zeros(self._num_experts)])


class FrozenFusion:
    """An attention fusion whose attentions read a modality in one product."""

    @torch.no_grad()
    def __init__(self, fusion: AttentionFusion) -> None:
        by_modality = list(zip(*fusion.maps, strict=True))
        self._num_attentions = len(fusion.maps)
        self._maps = AffineMaps(
            [torch.cat([layer.weight for layer in maps]).T for maps in by_modality],
            [torch.cat([layer.bias for layer in maps]) for maps in by_modality],
        )
        self._attention_D = fusion.attention.weight[0].detach()

    def __call__(self, inputs: Sequence[Tensor], absent_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Fused vectors float32[B, D] and the weights float32[B, M], their mean over the attentions.

        Where ``absent_BM`` (bool) the weight is 0; every row needs one modality that is not absent.
        """
        shape = (len(absent_BM), self._num_attentions, -1)
        mapped_BJMD = torch.stack([mapped.view(shape) for mapped in self._maps(inputs)], dim=2).relu_()
        logits_BJM = mapped_BJMD @ self._attention_D
        weights_BJM = softmax(logits_BJM.masked_fill(absent_BM[:, None], float("-inf")))
        fused_BD = torch.bmm(weights_BJM.flatten(1)[:, None], mapped_BJMD.flatten(1, 2)).squeeze(1)
        return fused_BD, weights_BJM.mean(dim=1)


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, for small tensors.

    torch's own starts its threads for as little as two rows (2.13), and waits for them: next to nothing on an
    idle machine, and 12 ms, fifty times the rest of an encoding, where the other cores are busy.
    """
    raised = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    return raised.div_(raised.sum(dim=-1, keepdim=True))


@torch.no_grad()
def fold_tucker(scorer: TuckerScorer, relation_UR: Tensor) -> tuple[Tensor, Tensor]:
    """What a Tucker scorer does in evaluation with each of U relations: ``q = x A + c``.

    Returns ``A`` float32[U, D, D] and ``c`` float32[U, D]. Both batch norms are affine there:
    ``((x s + t) M) s' + t' = x (s M s') + (t M) s' + t'``.
    """
    width = scorer.core.shape[1]
    scale_D, shift_D = _affine(scorer.input_norm)
    scale_out_D, shift_out_D = _affine(scorer.output_norm)
    matrix_UDD = (relation_UR @ scorer.core.flatten(1)).view(-1, width, width)
    offset_UD = torch.addcmul(shift_out_D, shift_D @ matrix_UDD, scale_out_D)
    return matrix_UDD.mul_(scale_D[:, None] * scale_out_D), offset_UD


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift float32[D] of a batch norm in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale_D = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale_D, norm.bias - norm.running_mean * scale_D


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of each distinct key."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return list(places.values())
