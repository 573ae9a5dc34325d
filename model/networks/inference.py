"""Layers for inference: made once from trained ones, with everything precomputed that no query changes.

Each holds the weights as they were when it was made; a layer that changes afterwards needs a new one.

Axes: B queries, N entities, D width, M modalities, K experts, J attentions, R relations, G modalities or
branches of one shape, X several parts side by side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from momok.model.networks.layers import MIN_TEMPERATURE, AttentionFusion, ExpertBank, TuckerScorer

KEPT_BYTES = 1 << 28
"""Expert outputs of all entities are kept up to this size: 29,000 with 3 modalities of 256 and 3 experts."""


class AffinePart(NamedTuple):
    """The maps of one shape: their places, matrices float32[G, D, X] and offsets float32[G, 1, X]."""

    places: list[int]
    matrix: Tensor
    offset: Tensor


class AffineMaps:
    """Affine maps ``y_m = x_m A_m + c_m``, each with an input of its own.

    Maps of one shape are multiplied together: torch gives a batch of products to all of its threads, and a
    product of a single row to one.
    """

    def __init__(self, matrices: Sequence[Tensor], offsets: Sequence[Tensor]) -> None:
        self.parts = [
            AffinePart(
                places,
                torch.stack([matrices[m] for m in places]),
                torch.stack([offsets[m] for m in places])[:, None],
            )
            for places in alike([matrix.shape for matrix in matrices])
        ]

    def __call__(self, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """Outputs float32[G, B, X] of each part, from float32[B, D] of each map."""
        for places, matrix, offset in self.parts:
            yield torch.baddbmm(offset, torch.stack([inputs[m] for m in places]), matrix)


class InferenceExperts:
    """Expert banks of all modalities: views and the logits of the gates in one map for each.

    The outputs of the experts depend on the entity alone: for all modalities of one width they are
    float32[G, B, K D + K], the views and then the logits. They are kept for all entities where that takes
    ``KEPT_BYTES`` at most, else computed for each query from the tables, of which there are no copies. Of
    each modality, ``tables`` are the inputs of all entities, ``reducers`` the maps before the experts.
    """

    @torch.no_grad()
    def __init__(
        self, tables: Sequence[Tensor], reducers: Iterable[nn.Module], banks: Sequence[ExpertBank]
    ) -> None:
        self._tables, self._reducers = tables, [deepcopy(reducer) for reducer in reducers]
        self._num_experts = banks[0].gate.shape[1]
        matrices, offsets = zip(*map(self._map, banks), strict=True)
        self._maps = AffineMaps(matrices, offsets)
        entity_bytes = sum(part.offset.nbytes for part in self._maps.parts)
        self._kept = self._computed(tables) if len(tables[0]) * entity_bytes <= KEPT_BYTES else None

    def outputs(self, entity_B: Tensor) -> list[Tensor]:
        """Expert outputs float32[G, B, K D + K] of some entities."""
        if self._kept is None:
            return self._computed([table.index_select(0, entity_B) for table in self._tables])
        return [output_GNX.index_select(1, entity_B) for output_GNX in self._kept]

    def mix(
        self, outputs: Sequence[Tensor], temperature_B: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mixed embeddings float32[B, D] and gates float32[B, K] of each modality."""
        floored_B1 = None if temperature_B is None else temperature_B.clamp_min(MIN_TEMPERATURE)[:, None]
        mixed, gates = ([outputs[0]] * len(self._tables) for _ in range(2))
        for part, output_GBX in zip(self._maps.parts, outputs, strict=True):
            shape = (*output_GBX.shape[:2], self._num_experts, -1)
            logits_GBK = output_GBX[..., -self._num_experts :]
            gates_GBK = softmax(logits_GBK if floored_B1 is None else logits_GBK / floored_B1, dim=2)
            views_GBKD = output_GBX[..., : -self._num_experts].view(shape)
            mixed_GBD = (gates_GBK[:, :, None] @ views_GBKD).squeeze(2)
            _put(part.places, mixed_GBD, mixed)
            _put(part.places, gates_GBK, gates)
        return mixed, gates

    @torch.no_grad()  # All other inputs are weights without gradients.
    def _computed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        pairs = zip(self._reducers, inputs, strict=True)
        return list(self._maps([reducer(given) for reducer, given in pairs]))

    def _map(self, bank: ExpertBank) -> tuple[Tensor, Tensor]:
        """Matrix float32[D, K D + K] and offset: all views ``W_k (e - b_k)``, then the logits."""
        shift_KD = torch.einsum("koi,ki->ko", bank.weight, bank.bias)
        matrix_DX = torch.cat([bank.weight.permute(2, 0, 1).flatten(1), bank.gate], dim=1)
        return matrix_DX, torch.cat([-shift_KD.flatten(), shift_KD.new_zeros(self._num_experts)])


class InferenceFusion:
    """An attention fusion whose attentions read a modality in one product."""

    @torch.no_grad()
    def __init__(self, fusion: AttentionFusion) -> None:
        by_modality = list(zip(*fusion.maps, strict=True))
        self.shape = (len(by_modality), len(fusion.maps), -1)
        self.maps = AffineMaps(
            [torch.cat([layer.weight for layer in maps]).T for maps in by_modality],
            [torch.cat([layer.bias for layer in maps]) for maps in by_modality],
        )
        self.attention_D = fusion.attention.weight[0].detach()

    def __call__(self, inputs: Sequence[Tensor], absent_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Fused vectors float32[B, D] and the weights float32[B, M], their mean over the attentions.

        Where ``absent_BM`` (bool) the weight is 0; every row needs one modality that is not absent.
        """
        mapped = list(inputs)
        for part, mapped_GBX in zip(self.maps.parts, self.maps(inputs), strict=True):
            _put(part.places, mapped_GBX, mapped)
        mapped_BMJD = torch.stack(mapped, dim=1).relu_().view(len(absent_BM), *self.shape)
        logits_BMJ = mapped_BMJD @ self.attention_D
        weights_BMJ = softmax(logits_BMJ.masked_fill_(absent_BM[:, :, None], float("-inf")), dim=1)
        fused_BD = torch.bmm(weights_BMJ.flatten(1)[:, None], mapped_BMJD.flatten(1, 2)).squeeze(1)
        return fused_BD, weights_BMJ.mean(dim=2)


def softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax of small tensors.

    torch's own starts its threads for as little as two rows (2.13), and waits for them: next to nothing on an
    idle machine, and 12 ms, fifty times the rest of an encoding, where the other cores are busy.
    """
    raised = (logits - logits.amax(dim, keepdim=True)).exp_()
    return raised.div_(raised.sum(dim, keepdim=True))


@torch.no_grad()
def tucker_of_relations(scorer: TuckerScorer, relation_RW: Tensor) -> tuple[Tensor, Tensor]:
    """A Tucker scorer in evaluation, for each of R relations: ``q = x A + c``.

    Returns ``A`` float32[R, D, D] and ``c`` float32[R, D]. Both batch norms are affine there:
    ``((x s + t) M) s' + t' = x (s M s') + (t M) s' + t'``.
    """
    scale_D, shift_D = _affine(scorer.input_norm)
    scale_out_D, shift_out_D = _affine(scorer.output_norm)
    matrix_RDD = scorer.matrices(relation_RW)
    offset_RD = torch.addcmul(shift_out_D, shift_D @ matrix_RDD, scale_out_D)
    return matrix_RDD.mul_(scale_D[:, None] * scale_out_D), offset_RD


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift float32[D] of a batch norm in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale_D = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale_D, norm.bias - norm.running_mean * scale_D


def _put(places: Sequence[int], parts: Tensor, into: list[Tensor]) -> None:
    for place, part in zip(places, parts.unbind(), strict=True):
        into[place] = part


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of each distinct key."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return list(places.values())
