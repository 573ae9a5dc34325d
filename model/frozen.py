"""Layers as answering needs them: made once from trained ones, with nothing left to do again for each query.

Each holds the weights as they were when it was made; a layer that changes afterwards needs a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.layers import AttentionFusion, ExpertBank, TuckerScorer


class FrozenExperts:
    """The views of an expert bank and the logits of its gates, as one affine map."""

    @torch.no_grad()
    def __init__(self, bank: ExpertBank) -> None:
        self.num_experts = len(bank.weight)
        shift_KD = torch.einsum("koi,ki->ko", bank.weight, bank.bias)
        views_DX = bank.weight.permute(2, 0, 1).flatten(1)
        self._matrix_DX = torch.cat([views_DX, bank.gate], dim=1)
        self._offset_X = torch.cat([-shift_KD.flatten(), shift_KD.new_zeros(self.num_experts)])

    def __call__(self, input_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Views float32[B, K, D] and gate logits float32[B, K], before any temperature."""
        both_BX = torch.addmm(self._offset_X, input_BD, self._matrix_DX)
        views_BX, logits_BK = both_BX.tensor_split((-self.num_experts,), dim=1)
        return views_BX.view(len(input_BD), self.num_experts, -1), logits_BK


class FrozenFusion:
    """An attention fusion whose attentions read a modality in one product."""

    @torch.no_grad()
    def __init__(self, fusion: AttentionFusion) -> None:
        by_modality = list(zip(*fusion.maps, strict=True))
        self._num_attentions = len(fusion.maps)
        self._matrices = [torch.cat([layer.weight for layer in maps]).T.contiguous() for maps in by_modality]
        self._offsets = [torch.cat([layer.bias for layer in maps]) for maps in by_modality]
        self._attention_D = fusion.attention.weight[0].detach()

    def __call__(self, inputs: Sequence[Tensor], absent_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Fused vectors float32[B, D] and the weights float32[B, M], their mean over the attentions.

        Where ``absent_BM`` (bool) the weight is 0; every row needs one modality that is not absent.
        """
        mapped = [
            torch.addmm(offset, given, matrix).view(len(absent_BM), self._num_attentions, -1)
            for offset, given, matrix in zip(self._offsets, inputs, self._matrices, strict=True)
        ]
        mapped_BJMD = torch.stack(mapped, dim=2).relu_()
        logits_BJM = mapped_BJMD @ self._attention_D
        weights_BJM = softmax(logits_BJM.masked_fill(absent_BM[:, None], float("-inf")))
        fused_BD = torch.bmm(weights_BJM.flatten(1)[:, None], mapped_BJMD.flatten(1, 2)).squeeze(1)
        return fused_BD, weights_BJM.mean(dim=1)


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, for small tensors.

    torch's own starts its threads for as little as two rows (2.13), and waits for them: next to nothing on an
    idle machine, and 12 ms, fifty times the rest of an encoding, where the other cores have work of their own.
    """
    raised = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    return raised.div_(raised.sum(dim=-1, keepdim=True))


@torch.no_grad()
def fold_tucker(scorer: TuckerScorer, relation_UR: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What a Tucker scorer does in evaluation with each of U relations: ``q = x A + c``.

    Returns the U matrices ``A`` float32[D, D] and offsets ``c`` float32[D]. Both batch norms are affine
    there: ``((x s + t) M) s' + t' = x (s M s') + (t M) s' + t'``. Each tensor owns its memory, so that
    one may be kept without the others.
    """
    width = scorer.core.shape[1]
    scale_D, shift_D = _affine(scorer.input_norm)
    scale_out_D, shift_out_D = _affine(scorer.output_norm)
    matrix_UDD = (relation_UR @ scorer.core.flatten(1)).view(-1, width, width)
    scale_DD = scale_D[:, None] * scale_out_D
    matrices = [matrix_DD * scale_DD for matrix_DD in matrix_UDD]
    offsets = [torch.addcmul(shift_out_D, shift_D @ matrix_DD, scale_out_D) for matrix_DD in matrix_UDD]
    return matrices, offsets


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift float32[D] of a batch norm in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale_D = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale_D, norm.bias - norm.running_mean * scale_D
