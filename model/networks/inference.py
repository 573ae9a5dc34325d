"""Layers as answering needs them: made once from trained ones, with nothing left to do again for each query.

Each holds the weights as they were when it was made; a layer that changes afterwards needs a new one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from momok.model.arrays import Float32
from momok.model.networks.layers import MIN_TEMPERATURE, AttentionFusion, ExpertBank, TuckerScorer

SAID_BYTES = 1 << 28
"""What experts say of entities is kept if it is no more: of 29,000 with 3 modalities of 256 and 3 experts."""


class AffinePart(NamedTuple):
    """The maps of one shape: their places, matrices float32[G, D, X] and offsets float32[G, 1, X]."""

    places: list[int]
    matrix: Tensor
    offset: Tensor


class AffineMaps:
    """Affine maps ``y_m = x_m A_m + c_m``, each with an input of its own.

    Those of one shape are multiplied together: torch gives a batch of products to all of its threads, and a
    product of a single row to one. After a scan has emptied the caches, every call that is saved counts.
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

    What experts say of an entity depends on nothing else: of all modalities of one width it is float32[G, B,
    K D + K], the views and then the logits.
    """

    @torch.no_grad()
    def __init__(self, banks: Sequence[ExpertBank]) -> None:
        self.num_experts = banks[0].gate.shape[1]
        matrices, offsets = zip(*map(self._map, banks), strict=True)
        self._maps = AffineMaps(matrices, offsets)

    @property
    def places(self) -> list[list[int]]:
        """The modalities of each width."""
        return [part.places for part in self._maps.parts]

    @property
    def entity_bytes(self) -> int:
        """The size of what experts say of one entity."""
        return sum(part.offset.nbytes for part in self._maps.parts)

    def say(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What they say of entities, float32[G, B, K D + K], from their float32[B, D] in each modality."""
        return list(self._maps(inputs))

    def mix(self, said: Sequence[Tensor], temperature_B: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Mixed embeddings float32[B, D] and gates float32[B, K] of each modality."""
        floored_B1 = None if temperature_B is None else temperature_B.clamp_min(MIN_TEMPERATURE)[:, None]
        mixed, gates = ([said[0]] * sum(map(len, self.places)) for _ in range(2))
        for places, said_GBX in zip(self.places, said, strict=True):
            shape = (*said_GBX.shape[:2], self.num_experts, -1)
            logits_GBK = said_GBX[..., -self.num_experts :]
            gates_GBK = softmax(logits_GBK if floored_B1 is None else logits_GBK / floored_B1, dim=2)
            views_GBKD = said_GBX[..., : -self.num_experts].view(shape)
            mixed_GBD = (gates_GBK[:, :, None] @ views_GBKD).squeeze(2)
            _put(places, mixed_GBD, mixed)
            _put(places, gates_GBK, gates)
        return mixed, gates

    def _map(self, bank: ExpertBank) -> tuple[Tensor, Tensor]:
        """Matrix float32[D, K D + K] and offset: all views ``W_k (e - b_k)``, then the logits."""
        shift_KD = torch.einsum("koi,ki->ko", bank.weight, bank.bias)
        matrix_DX = torch.cat([bank.weight.permute(2, 0, 1).flatten(1), bank.gate], dim=1)
        return matrix_DX, torch.cat([-shift_KD.flatten(), shift_KD.new_zeros(self.num_experts)])


class EntityOutputs:
    """What the experts say of entities; kept of all of them where that is ``SAID_BYTES`` at most.

    Else it is made anew for each query, of the tables themselves and not of copies.
    ``tables``: the inputs of all entities in each modality; ``reducers``: the maps that go before, by the
    modality's place.
    """

    @torch.no_grad()
    def __init__(
        self, tables: Sequence[Tensor], reducers: Mapping[int, nn.Module], experts: InferenceExperts
    ) -> None:
        self._tables, self._experts = tables, experts
        self._reducers = {place: deepcopy(reducer) for place, reducer in reducers.items()}
        self._kept: list[Tensor] | None = None
        if len(tables[0]) * experts.entity_bytes <= SAID_BYTES:
            self._kept = self._say(tables)

    def said_of(self, entity_B: Tensor) -> list[Tensor]:
        """Of some entities, float32[G, B, K D + K]."""
        if self._kept is None:
            return self._say([table.index_select(0, entity_B) for table in self._tables])
        return [said_GNX.index_select(1, entity_B) for said_GNX in self._kept]

    def said_of_one(self, entity: int) -> list[Float32]:
        """Of one entity on a CPU, float32[G, K D + K]."""
        if self._kept is None:
            return [said_G1X[:, 0].numpy() for said_G1X in self.said_of(torch.tensor([entity]))]
        return [said_GNX.numpy()[:, entity] for said_GNX in self._kept]

    @torch.no_grad()  # The rest that queries need is made of weights that no gradient flows to.
    def _say(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        reduced = list(inputs)
        for place, reducer in self._reducers.items():
            reduced[place] = reducer(inputs[place])
        return self._experts.say(reduced)


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
def fold_tucker(scorer: TuckerScorer, relation_UR: Tensor) -> tuple[Tensor, Tensor]:
    """What a Tucker scorer does in evaluation with each of U relations: ``q = x A + c``.

    Returns ``A`` float32[U, D, D] and ``c`` float32[U, D]. Both batch norms are affine there:
    ``((x s + t) M) s' + t' = x (s M s') + (t M) s' + t'``.
    """
    scale_D, shift_D = _affine(scorer.input_norm)
    scale_out_D, shift_out_D = _affine(scorer.output_norm)
    matrix_UDD = scorer.matrices(relation_UR)
    offset_UD = torch.addcmul(shift_out_D, shift_D @ matrix_UDD, scale_out_D)
    return matrix_UDD.mul_(scale_D[:, None] * scale_out_D), offset_UD


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
