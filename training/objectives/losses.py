"""Losses: 1-to-N, where every entity is a candidate, and of true answers against a few negatives.

The true answers of a 1-to-N loss are given as pairs (row, answer). The loss and its gradient are computed
together, some rows of scores at a time, and the scores are dropped: neither the B x N scores nor the B x N
labels are ever held, forward or backward.

Axes: B queries, N entities, D width, P pairs (row, answer), n negatives; C queries scored together, p their
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from momok.training.memory import rows_at_once

LABEL_SMOOTHING = 0.1
"""The released MoMoK code trains on labels ``(1 - 0.1) y + 1 / N``."""


def cross_entropy(query_BD: Tensor, table_ND: Tensor, row_P: Tensor, answer_P: Tensor) -> Tensor:
    """Softmax cross-entropy over all entities (MoMoK equation 5), a scalar: mean over rows with an answer.

    A row with several true answers counts the mean over them. Scores are the inner products of queries and
    table; pairs are distinct. Differentiable once, in ``query_BD`` and ``table_ND``.
    """
    num_answers_B = row_P.bincount(minlength=len(query_BD)).to(_wide(query_BD))
    answered_B = num_answers_B.clamp_max(1)
    weight_B = answered_B / answered_B.sum().clamp_min(1)
    weight_P = 1 / num_answers_B[row_P]
    return _apply(_differentiate_cross_entropy, query_BD, table_ND, row_P, answer_P, weight_B, weight_P)


def binary_cross_entropy(query_BD: Tensor, table_ND: Tensor, row_P: Tensor, answer_P: Tensor) -> Tensor:
    """Binary cross-entropy of every cell with smoothed labels, mean over the B x N cells (released code).

    ``softplus(z) - y z`` with ``y = 0.9 y_true + 1 / N``; arguments as for ``cross_entropy``.
    """
    num_rows, num_entities = len(query_BD), len(table_ND)
    weight_B = query_BD.new_full((num_rows,), 1 / (num_rows * num_entities), dtype=_wide(query_BD))
    weight_P = query_BD.new_full(row_P.shape, 1 - LABEL_SMOOTHING, dtype=_wide(query_BD))
    of_true = _apply(
        _differentiate_binary_cross_entropy, query_BD, table_ND, row_P, answer_P, weight_B, weight_P
    )
    # The 1 / N of every label: the sum of all scores is the product of two sums, no cell is visited.
    means = (side.mean(dim=0, dtype=weight_B.dtype) for side in (query_BD, table_ND))
    return of_true - torch.mul(*means).sum() / num_entities


def self_adversarial_weights(negative_Bn: Tensor, beta: float) -> Tensor:
    """``softmax(β s⁻)`` over the negatives of each row, float[B, n], detached; negatives of -inf weigh 0."""
    score_Bn = negative_Bn.detach()
    none_Bn = score_Bn == -torch.inf
    # Masked before and after: 0 times -inf is NaN, and so is the softmax of a row without negatives.
    weights_Bn = (beta * score_Bn.masked_fill(none_Bn, 0.0)).masked_fill(none_Bn, -torch.inf).softmax(dim=1)
    return weights_Bn.masked_fill(none_Bn, 0.0)


def negative_sampling(positive_B: Tensor, negative_Bn: Tensor, weights_Bn: Tensor) -> Tensor:
    """``-½ [mean log σ(s⁺) + mean Σ_i w_i log σ(-s⁻_i)]``, a scalar (RotatE, arXiv 1902.10197, equation 5).

    ``positive_B`` and ``negative_Bn`` are scores; a negative of -inf is none. Weights without a gradient, as
    ``self_adversarial_weights``.
    """
    of_negatives_B = (weights_Bn * F.logsigmoid(-negative_Bn)).sum(dim=1)
    return -(F.logsigmoid(positive_B).mean() + of_negatives_B.mean()) / 2


LOSSES = {"ce": cross_entropy, "bce": binary_cross_entropy}

Differentiate = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(score float[C, N], row int64[p], answer int64[p], weight float[p]) -> loss of each row float[C], and its
gradient in every score float[C, N]."""


def _differentiate_cross_entropy(
    score_CN: Tensor, row_p: Tensor, answer_p: Tensor, weight_p: Tensor
) -> tuple[Tensor, Tensor]:
    """log Σ exp(z) minus the mean score of the answers; gradient: probability minus label."""
    true_p = score_CN[row_p, answer_p]
    gradient_CN = score_CN.softmax(dim=1)
    # The most probable cell has a probability of 1 / N at least, so that its logarithm is safe.
    log_sum_C = score_CN.amax(dim=1) - gradient_CN.amax(dim=1).log()
    loss_C = log_sum_C.index_add(0, row_p, -weight_p * true_p)
    gradient_CN[row_p, answer_p] -= weight_p
    return loss_C, gradient_CN


def _differentiate_binary_cross_entropy(
    score_CN: Tensor, row_p: Tensor, answer_p: Tensor, weight_p: Tensor
) -> tuple[Tensor, Tensor]:
    """Σ softplus(z) - Σ y z over the true cells; gradient: probability minus label."""
    loss_C = F.softplus(score_CN).sum(dim=1)
    loss_C = loss_C.index_add(0, row_p, -weight_p * score_CN[row_p, answer_p])
    gradient_CN = score_CN.sigmoid_()
    gradient_CN[row_p, answer_p] -= weight_p
    return loss_C, gradient_CN


def _apply(differentiate: Differentiate, query_BD: Tensor, table_ND: Tensor, *rest: Tensor) -> Tensor:
    kind = query_BD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query_BD.dtype
    with torch.autocast(kind, enabled=False):
        inputs = (query_BD.to(dtype), table_ND.to(dtype), *rest)
        loss: Tensor = _OneToN.apply(differentiate, *inputs)  # type: ignore[no-untyped-call]
        return loss


def _wide(given: Tensor) -> torch.dtype:
    """The precision of losses and gradients: float32 at the least."""
    return torch.promote_types(given.dtype, torch.float32)


class _OneToN(torch.autograd.Function):
    """Σ_b weight_b loss_b, differentiated while it is computed. Products are made in the queries' dtype,
    losses and gradients in float32 at the least."""

    @staticmethod
    def forward(
        ctx: Any,
        differentiate: Differentiate,
        query_BD: Tensor,
        table_ND: Tensor,
        row_P: Tensor,
        answer_P: Tensor,
        weight_B: Tensor,
        weight_P: Tensor,
    ) -> Tensor:
        wide = weight_B.dtype
        total = torch.zeros((), dtype=wide, device=query_BD.device)
        query_gradients = []
        table_gradient_ND = torch.zeros_like(table_ND, dtype=wide)
        for rows, pairs in _chunks(query_BD, table_ND, row_P):
            query_CD, weight_C = query_BD[rows], weight_B[rows]
            row_p = row_P[pairs] - rows.start
            score_CN = (query_CD @ table_ND.T).to(wide)
            loss_C, gradient_CN = differentiate(score_CN, row_p, answer_P[pairs], weight_P[pairs])
            total += loss_C @ weight_C
            gradient_CN = gradient_CN.to(query_BD.dtype)
            query_gradients.append((gradient_CN @ table_ND) * weight_C[:, None])
            weighted_CD = (query_CD * weight_C[:, None]).to(query_BD.dtype)
            table_gradient_ND += gradient_CN.T @ weighted_CD
        ctx.save_for_backward(
            torch.cat(query_gradients).to(query_BD.dtype), table_gradient_ND.to(table_ND.dtype)
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query_gradient_BD, table_gradient_ND = ctx.saved_tensors
        return None, gradient * query_gradient_BD, gradient * table_gradient_ND, None, None, None, None


def _chunks(query_BD: Tensor, table_ND: Tensor, row_P: Tensor) -> Iterator[tuple[slice, Tensor | slice]]:
    """Rows that are scored together, and their pairs."""
    size = rows_at_once(table_ND)
    if len(query_BD) <= size:
        yield slice(0, len(query_BD)), slice(None)
        return
    for start in range(0, len(query_BD), size):
        yield slice(start, start + size), (row_P >= start) & (row_P < start + size)
