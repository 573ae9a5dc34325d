"""CLUB: a contrastive log-ratio upper bound of mutual information (arXiv 2006.12013)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Likelihood = Literal["complete", "released"]
"""``complete`` is the Gaussian log-likelihood; ``released`` leaves its log-variance out, as MoMoK's code
does, which pins the variance at its cap and underestimates the bound."""


class ClubEstimator(nn.Module):
    """A Gaussian ``q(y|x)`` with diagonal variance between two spaces of one width D.

    The bound is one only as far as ``q`` fits: its hidden layer of D / 2 (as released) cannot follow a linear
    map of full rank, and then it may fall below the mutual information.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = self._network(width)
        self.log_variance = nn.Sequential(*self._network(width), nn.Tanh())

    @staticmethod
    def _network(width: int) -> nn.Sequential:
        hidden = max(width // 2, 1)
        return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def bound(self, x_BD: Tensor, y_BD: Tensor, permutation_B: Tensor) -> Tensor:
        """Upper bound of I(x; y) in nats: pairs against pairs broken up by ``permutation_B``, a scalar."""
        mean_BD, precision_BD = self.mean(x_BD), torch.exp(-self.log_variance(x_BD))
        paired_B = ((mean_BD - y_BD) ** 2 * precision_BD).sum(dim=1)
        shuffled_B = ((mean_BD - y_BD[permutation_B]) ** 2 * precision_BD).sum(dim=1)
        bound: Tensor = (shuffled_B - paired_B).mean() / 2
        return bound

    def negative_log_likelihood(
        self, x_BD: Tensor, y_BD: Tensor, likelihood: Likelihood = "complete"
    ) -> Tensor:
        """Mean of ``-log q(y|x)`` up to a constant, a scalar: what the estimator itself minimises."""
        log_variance_BD = self.log_variance(x_BD)
        error_BD = (self.mean(x_BD) - y_BD) ** 2 * torch.exp(-log_variance_BD)
        if likelihood == "complete":
            error_BD = error_BD + log_variance_BD
        nll: Tensor = error_BD.sum(dim=1).mean() / 2
        return nll
