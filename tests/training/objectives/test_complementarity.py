"""What views share, on Gaussians whose mutual information is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from momok.training.objectives.complementarity import Complementarity, PairInformation

NUM, WIDTH = 20_000, 6


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def noise(generator: torch.Generator, num: int = NUM, width: int = WIDTH) -> Tensor:
    return torch.randn(num, width, generator=generator)


def turn(generator: torch.Generator, width: int = WIDTH) -> Tensor:
    """A random rotation."""
    orthogonal, _ = torch.linalg.qr(noise(generator, width, width))
    return torch.as_tensor(orthogonal)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("turned", [False, True])
def test_known_gaussians_share_what_they_should(rho: float, turned: bool, generator: torch.Generator) -> None:
    x = noise(generator)
    y = rho * x + math.sqrt(1 - rho**2) * noise(generator)
    if turned:  # Information minds neither rotations nor units nor where zero is.
        x, y = 3 * x @ turn(generator) + 5, y @ turn(generator) / 100 - 1
    expected = -WIDTH / 2 * math.log(1 - rho**2)
    pair = PairInformation.fit(x, y, components=32)
    assert pair.mutual == pytest.approx(expected, rel=0.03, abs=0.005)
    for side, view in enumerate((x, y)):
        of_each = pair.of(side, view)
        assert float(of_each.mean()) == pytest.approx(pair.mutual, rel=1e-3, abs=1e-6)
        assert float(of_each.min()) > -1e-9, "a divergence is never negative"


def test_one_entity_says_what_the_divergence_says(generator: torch.Generator) -> None:
    """KL(p(Y|x) ‖ p(Y)) of one coordinate by its definition, on a grid."""
    rho = 0.8
    x = noise(generator, 400_000, 1)
    y = rho * x + math.sqrt(1 - rho**2) * noise(generator, 400_000, 1)
    pair = PairInformation.fit(x, y, components=1)
    grid = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    for value in (0.0, 1.0, -2.0):
        given, prior = (
            -((grid - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2
            for mean, variance in ((rho * value, 1 - rho**2), (0.0, 1.0))
        )
        expected = float(torch.trapezoid(given.exp() * (given - prior), grid))
        found = float(pair.of(0, torch.tensor([[value]])))
        assert found == pytest.approx(expected, rel=0.03)


def test_more_components_see_more_and_few_entities_allow_few(generator: torch.Generator) -> None:
    x = noise(generator)
    y = 0.8 * x + 0.6 * noise(generator)
    one, all_of_them = (PairInformation.fit(x, y, components=number) for number in (1, 32))
    assert one.mutual < all_of_them.mutual
    few = PairInformation.fit(x[:20], y[:20], components=32)
    assert few.components == 2


def test_a_view_that_never_changes_says_nothing(generator: torch.Generator) -> None:
    pair = PairInformation.fit(noise(generator), torch.ones(NUM, WIDTH), components=4)
    assert pair.mutual == 0
    assert not pair.of(0, noise(generator)).any()


def test_redundant_below_noisy_below_complementary(generator: torch.Generator) -> None:
    """A copy is the least complementary, a blurred copy more so, and what says something else the most."""
    base = noise(generator)
    views = [
        base,
        base @ turn(generator) + 0.1 * noise(generator),  # redundant
        base + 1.5 * noise(generator),  # noisy
        noise(generator),  # complementary
    ]
    present = torch.ones(NUM, len(views), dtype=torch.bool)
    found_nV = Complementarity(views, present, components=32)(views, present)
    _, redundant, noisy, complementary = found_nV.mean(dim=0).tolist()
    assert redundant < noisy < complementary < 0.01
    # What its description cannot tell apart: noise that says nothing shares nothing either.
    weights = (found_nV / 0.2).softmax(dim=1).mean(dim=0)
    assert float(weights.argmax()) == 3


def test_entities_differ_and_do_not_depend_on_each_other(generator: torch.Generator) -> None:
    x = noise(generator)
    views = [x, 0.9 * x + 0.4 * noise(generator), noise(generator)]
    present = torch.ones(NUM, 3, dtype=torch.bool)
    estimate = Complementarity(views, present, components=32)
    together = estimate(views, present)
    assert float(together.std(dim=0)[0]) > 0.05
    alone = estimate([view[7:8] for view in views], present[7:8])
    torch.testing.assert_close(alone[0], together[7])


def test_nobody_is_compared_with_what_it_lacks(generator: torch.Generator) -> None:
    x = noise(generator)
    views = [x, 0.9 * x + 0.4 * noise(generator), noise(generator)]
    present = torch.ones(NUM, 3, dtype=torch.bool)
    present[: NUM // 2, 1] = False
    views[1][: NUM // 2] = 1e3  # Whatever stands there.
    found = Complementarity(views, present, components=32)(views, present)
    assert (found[: NUM // 2, 1] == 0).all()
    without, having = found[: NUM // 2, 0].mean(), found[NUM // 2 :, 0].mean()
    assert float(having) < float(without) - 0.1
    only_one = torch.zeros(NUM, 3, dtype=torch.bool)
    only_one[:, 0] = True
    assert not Complementarity(views, only_one, components=32)(views, only_one).any()
