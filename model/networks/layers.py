"""The parts that models are put together from: expert banks, Tucker scorers, attention over modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_TEMPERATURE = 1e-4
"""Floor of a relation's temperature: sigmoid underflows for very negative inputs, and 0/0 gates are NaN."""

NOISE_FLOOR = 0.01
"""Least deviation of the gate noise in training (MoMoK, released code)."""


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Modules(nn.ModuleList, Generic[ModuleT]):
    """A list of modules that remembers of which kind, for type checkers and readers."""

    def __iter__(self) -> Iterator[ModuleT]:
        return super().__iter__()  # type: ignore[return-value]

    def __getitem__(self, place: int) -> ModuleT:  # type: ignore[override]
        return super().__getitem__(place)  # type: ignore[return-value]


class Dropout(nn.Module):
    """Dropout with cheap masks on a CPU, where torch draws one number a cell.

    Here a cell takes one byte of a random number, so that the share dropped is ``p`` rounded to a multiple of
    1 / 256; the kept cells are scaled by the share that is really kept. Rates that would round to 0 or 1 are
    torch's.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._num_dropped = round(256 * p)

    def forward(self, given: Tensor) -> Tensor:
        """``given`` with a share ``p`` of its cells 0, the others scaled; in training only."""
        if not self.training or not self.p:
            return given
        if given.device.type != "cpu" or self._num_dropped in (0, 256):
            return F.dropout(given, self.p)
        words = torch.empty(-(-given.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: given.numel()].view(given.shape) >= self._num_dropped
        return given * (256 / (256 - self._num_dropped)) * kept


class ExpertBank(nn.Module):
    """K linear views of one modality, mixed by gates (MoMoK section 3.2, ReMoKE).

    View k is ``W_k (e - b_k)``. The gates read the raw embedding, as the released code does (the paper's
    equation 2 reads the view instead).
    """

    def __init__(self, width: int, num_experts: int, *, noise: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, width, width))
        self.bias = nn.Parameter(torch.zeros(num_experts, width))
        self.gate = nn.Parameter(torch.zeros(width, num_experts))
        self.noise = nn.Parameter(torch.zeros(width, num_experts)) if noise else None
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, input_BD: Tensor, temperature_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mixed embedding float32[B, D] and gates float32[B, K].

        ``temperature_B`` float32[B] in [0, 1] sharpens the gates of a query; candidates have none.
        """
        gates_BK = self._gates(input_BD, temperature_B)
        # Gating the inputs makes the mixture one product with the stacked experts, instead of K views that
        # are then summed: sum_k g_k W_k (e - b_k) = [g_1 e, ..., g_K e] [W_1, ..., W_K] - sum_k g_k W_k b_k.
        gated_BX = (gates_BK[:, :, None] * input_BD[:, None, :]).flatten(1)
        stacked_XD = self.weight.transpose(1, 2).flatten(0, 1)
        offset_KD = torch.einsum("koi,ki->ko", self.weight, self.bias)
        return torch.addmm(-(gates_BK @ offset_KD), gated_BX, stacked_XD), gates_BK

    def views(self, input_BD: Tensor, experts: Sequence[int]) -> Tensor:
        """What some of the experts say before mixing, float32[B, len(experts), D] in their order."""
        chosen = list(experts)
        return torch.einsum("koi,bki->bko", self.weight[chosen], input_BD[:, None, :] - self.bias[chosen])

    def _gates(self, input_BD: Tensor, temperature_B: Tensor | None) -> Tensor:
        logits_BK = input_BD @ self.gate
        if self.training and self.noise is not None:
            deviation_BK = F.softplus(input_BD @ self.noise) + NOISE_FLOOR
            logits_BK = logits_BK + torch.randn_like(logits_BK) * deviation_BK
        if temperature_B is not None:
            logits_BK = logits_BK / temperature_B.clamp_min(MIN_TEMPERATURE)[:, None]
        return logits_BK.softmax(dim=1)


class RelationGroups:
    """A batch sorted by relation, so that work that only depends on the relation is done once for each.

    ``unique`` int64[U] holds the distinct relations of the batch.
    """

    def __init__(self, relation_B: Tensor) -> None:
        self.unique, self.inverse, counts = torch.unique(relation_B, return_inverse=True, return_counts=True)
        self._order = torch.argsort(self.inverse, stable=True)
        self._sizes: list[int] = counts.tolist()

    def multiply(self, input_BD: Tensor, matrix_UDD: Tensor) -> Tensor:
        """Row b times the matrix of its relation, float32[B, D], in the batch's own order."""
        groups = torch.split(input_BD[self._order], self._sizes)
        sorted_BD = torch.cat([rows @ matrix for rows, matrix in zip(groups, matrix_UDD, strict=True)])
        return sorted_BD[torch.argsort(self._order)]

    def multiply_add(
        self, input_GBD: Tensor, matrices: Sequence[Tensor], offsets: Sequence[Tensor]
    ) -> Tensor:
        """The same for G inputs at once, each row plus the offset of its relation, float32[G, B, D].

        ``matrices``: U of float32[G, D, D], ``offsets``: U of float32[G, 1, D].
        """
        groups = torch.split(input_GBD[:, self._order], self._sizes, dim=1)
        sorted_GBD = torch.cat(list(map(torch.baddbmm, offsets, groups, matrices)), dim=1)
        return sorted_GBD[:, torch.argsort(self._order)]


class TuckerScorer(nn.Module):
    """The query side of TuckER: ``q_j = sum_{r,i} rel_r W[r, i, j] x_i`` between two batch norms.

    The core is contracted once for each relation of the batch, so its dropout mask is drawn once for each
    relation and not once for each row as the authors do (docs/architecture.md).
    """

    def __init__(
        self,
        width: int,
        relation_width: int,
        *,
        input_dropout: float,
        matrix_dropout: float,
        output_dropout: float,
    ) -> None:
        super().__init__()
        self.core = nn.Parameter(torch.empty(relation_width, width, width))
        self.input_norm = nn.BatchNorm1d(width)
        self.output_norm = nn.BatchNorm1d(width)
        self.input_dropout = Dropout(input_dropout)
        self.matrix_dropout = Dropout(matrix_dropout)
        self.output_dropout = Dropout(output_dropout)
        nn.init.xavier_uniform_(self.core)

    def forward(self, input_BD: Tensor, relation_UR: Tensor, groups: RelationGroups) -> Tensor:
        """Query vectors float32[B, D] from mixed embeddings and the vectors of the batch's relations."""
        input_BD = self.input_dropout(self.input_norm(input_BD))
        output_BD = groups.multiply(input_BD, self.matrix_dropout(self.matrices(relation_UR)))
        normed_BD: Tensor = self.output_dropout(self.output_norm(output_BD))
        return normed_BD

    def matrices(self, relation_UR: Tensor) -> Tensor:
        """``sum_r rel_r W[r]`` of each relation, float32[U, D, D], not contiguous.

        Row by row of the matrices: one product with the whole core would step through it in strides of D²
        numbers, each on a page of memory of its own, and take half as long again.
        """
        width = self.core.shape[1]
        matrix_DUD = torch.bmm(relation_UR.expand(width, -1, -1), self.core.transpose(0, 1))
        return matrix_DUD.transpose(0, 1)


class AttentionFusion(nn.Module):
    """Several modalities as one vector, by attention (MoMoK section 3.3, MuJoD).

    Attention j maps modality m to ``x_mj = ReLU(L_mj dropout(e_m))`` and weighs the modalities by
    ``softmax_m(w · x_mj)``, with one ``w`` for all; the results are summed over m and j.
    """

    def __init__(self, widths: Sequence[int], width: int, *, num_attentions: int, dropout: float) -> None:
        super().__init__()
        self.maps: Modules[Modules[nn.Linear]] = Modules(
            Modules(nn.Linear(given, width) for given in widths) for _ in range(num_attentions)
        )
        self.attention = nn.Linear(width, 1, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Sequence[Tensor], present_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fused vectors float32[B, D] and the weights float32[J, B, M] of every attention.

        Where ``present_BM`` (bool) is false the weight is 0; every row needs one present modality.
        """
        fused_BD, weights = torch.zeros((), device=inputs[0].device), []
        for maps in self.maps:
            mapped = [F.relu(layer(self.dropout(given))) for layer, given in zip(maps, inputs, strict=True)]
            logits_BM = torch.cat([self.attention(given) for given in mapped], dim=1)
            if present_BM is not None:
                logits_BM = logits_BM.masked_fill(~present_BM, float("-inf"))
            weights_BM = logits_BM.softmax(dim=1)
            for m, given in enumerate(mapped):  # One after the other: a stack of all would be held twice.
                fused_BD = fused_BD + weights_BM[:, m : m + 1] * given
            weights.append(weights_BM)
        return fused_BD, torch.stack(weights)


def equal_weights(present_BM: Tensor) -> Tensor:
    """Weights float32[B, M], the same for all that are present and 0 for the others."""
    return present_BM / present_BM.sum(dim=1, keepdim=True)
