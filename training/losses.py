"""1-to-N losses: every entity is a candidate, the true answers are given as pairs (row, answer).

Neither loss builds the B x N label matrix.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

LABEL_SMOOTHING = 0.1
"""The released MoMoK code trains on labels ``(1 - 0.1) y + 1 / N``."""


def cross_entropy(score_BN: Tensor, row_P: Tensor, answer_P: Tensor) -> Tensor:
    """Softmax cross-entropy over all entities (MoMoK equation 5), mean over the rows with an answer.

    A row with several true answers counts the mean over them.
    """
    num_answers_B = row_P.bincount(minlength=len(score_BN)).to(score_BN.dtype)
    answered_B = num_answers_B > 0
    log_partition_B = score_BN.logsumexp(dim=1)
    mean_true_score = (score_BN[row_P, answer_P] / num_answers_B[row_P]).sum()
    total = (log_partition_B * answered_B).sum() - mean_true_score
    return total / answered_B.sum().clamp_min(1)


def binary_cross_entropy(score_BN: Tensor, row_P: Tensor, answer_P: Tensor) -> Tensor:
    """Binary cross-entropy of every cell with smoothed labels, mean over the B x N cells (released code).

    ``softplus(z) - y z`` with ``y = 0.9 y_true + 1 / N``, summed without the labels themselves.
    """
    num_cells = score_BN.numel()
    true_sum = (1 - LABEL_SMOOTHING) * score_BN[row_P, answer_P].sum()
    smoothing_sum = score_BN.sum() / score_BN.shape[1]
    return (F.softplus(score_BN).sum() - true_sum - smoothing_sum) / num_cells


LOSSES = {"ce": cross_entropy, "bce": binary_cross_entropy}
