"""Complementarity: how little each of several views says about the others, estimated for every entity.

Between two views the estimate is Gaussian and closed-form: their leading principal components, and the
canonical correlations ρ between those. The mutual information is ``Σ -½ log(1 - ρ²)`` nats. What *one*
entity's view x says about another view Y is the Kullback-Leibler divergence ``KL(p(Y|x) ‖ p(Y))`` (DeWeese
and Meister, 1999), here ``Σ ½ (ρ² a² - ρ² - log(1 - ρ²))`` with a the canonical variates of x. Its mean over
entities is the mutual information, and it needs nothing of an entity but its own view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_CORRELATION = 0.999
"""Cap of ρ: two views that are one and the same would share infinitely much."""
ROWS_PER_COMPONENT = 10
"""Least entities for each component: with fewer, correlations are mostly chance."""
_NEGLIGIBLE = 1e-6
"""Components with a smaller share of the leading one's variance are rounding."""


@dataclass(frozen=True, eq=False)
class PairInformation:
    """What each of two views says about the other; ``basis`` float64[X, r] leads to canonical variates."""

    means: tuple[Tensor, Tensor]
    bases: tuple[Tensor, Tensor]
    correlation: Tensor

    @classmethod
    def fit(cls, x_nX: Tensor, y_nX: Tensor, components: int) -> PairInformation:
        """From the views of n entities, with ``components`` of each at the most."""
        components = max(min(components, len(x_nX) // ROWS_PER_COMPONENT), 1)
        whitened = [_whiten(given.double(), components) for given in (x_nX, y_nX)]
        (x_mean, x_basis, x_nr), (y_mean, y_basis, y_nr) = whitened
        left, correlation, right = torch.linalg.svd(x_nr.T @ y_nr / len(x_nr), full_matrices=False)
        bases = (x_basis @ left, y_basis @ right.T)
        return cls((x_mean, y_mean), bases, correlation.clamp(max=LARGEST_CORRELATION))

    @property
    def mutual(self) -> float:
        """The mutual information in nats."""
        return float(-torch.log1p(-(self.correlation**2)).sum() / 2)

    def of(self, side: int, view_nX: Tensor) -> Tensor:
        """What each of these views (of the first kind for side 0) says about the other kind, nats[n]."""
        variate_nr = (view_nX.double() - self.means[side]) @ self.bases[side]
        square_r = self.correlation**2
        return (square_r * (variate_nr**2 - 1) - torch.log1p(-square_r)).sum(dim=1) / 2

    @property
    def components(self) -> int:
        return max(len(self.correlation), 1)


class Complementarity:
    """``-mean_j I(v_k; V_j)`` of V views of the same entities, in nats a component.

    ``views``: float[n, X] each, of the entities that it is fitted on; ``present`` bool[n, V] is True
    where an entity has the view. A pair of views is fitted on the entities that have both.
    """

    def __init__(self, views: Sequence[Tensor], present: Tensor, components: int) -> None:
        self._pairs: dict[tuple[int, int], PairInformation] = {}
        for k in range(len(views)):
            for j in range(k + 1, len(views)):
                both_n = present[:, k] & present[:, j]
                if int(both_n.sum()) > ROWS_PER_COMPONENT:
                    pair = PairInformation.fit(views[k][both_n], views[j][both_n], components)
                    self._pairs[k, j] = pair

    def __call__(self, views: Sequence[Tensor], present: Tensor) -> Tensor:
        """float32[n, V] of any entities; 0 for a view without another to be compared with."""
        total = torch.zeros(present.shape, dtype=torch.float64, device=present.device)
        count = torch.zeros_like(total)
        for (k, j), pair in self._pairs.items():
            both_n = (present[:, k] & present[:, j]).double()
            for side, view in enumerate((k, j)):
                total[:, view] += pair.of(side, views[view]) / pair.components * both_n
                count[:, view] += both_n
        return (-total / count.clamp_min(1)).float()


def _whiten(given_nX: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean float64[X], basis float64[X, r] and the leading principal components with unit variance [n, r]."""
    mean_X = given_nX.mean(dim=0)
    centred_nX = given_nX - mean_X
    variance_X, basis_XX = torch.linalg.eigh(centred_nX.T @ centred_nX / len(given_nX))
    variance_r, basis_Xr = variance_X[-components:], basis_XX[:, -components:]
    kept_r = variance_r > (_NEGLIGIBLE * variance_X[-1]).clamp_min(torch.finfo(torch.float32).tiny)
    basis_Xr = basis_Xr[:, kept_r] * variance_r[kept_r].rsqrt()
    return mean_X, basis_Xr, centred_nX @ basis_Xr
