"""Dropout from random bytes: its share, its mean and its gradient."""

from __future__ import annotations

import pytest
import torch

from momok.model.networks.layers import Dropout


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    dropped_NN = Dropout(p)(torch.ones(1000, 1001))
    share = (dropped_NN == 0).float().mean().item()
    assert share == pytest.approx(p, abs=1 / 512 + 3e-3)
    assert dropped_NN.mean().item() == pytest.approx(1, abs=0.02)
    kept = dropped_NN[dropped_NN != 0]
    assert bool((kept == kept[0]).all())
    # Neither rows nor columns go together.
    for axis in (0, 1):
        assert (dropped_NN == 0).float().mean(dim=axis).std() < 3 * (p * (1 - p) / 1000) ** 0.5


def test_gradient_flows_where_the_value_did_and_as_much() -> None:
    torch.manual_seed(0)
    given = torch.ones(7, 13, requires_grad=True)
    dropped = Dropout(0.4)(given)
    dropped.sum().backward()
    assert given.grad is not None
    assert torch.equal(given.grad, dropped.detach())


def test_follows_the_seed_and_is_drawn_anew_each_time() -> None:
    dropout, given = Dropout(0.5), torch.ones(50)
    torch.manual_seed(3)
    first, second = dropout(given), dropout(given)
    torch.manual_seed(3)
    assert torch.equal(dropout(given), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.001, 0.9985, 0.9999])
def test_rates_beside_0_and_1_are_kept(p: float) -> None:
    torch.manual_seed(0)
    dropped_NN = Dropout(p)(torch.ones(2000, 2000))
    assert dropped_NN.isfinite().all()
    assert (dropped_NN == 0).float().mean().item() == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_evaluation_and_zero_change_nothing(p: float) -> None:
    given = torch.randn(4, 5)
    assert Dropout(p).eval()(given) is given
    assert Dropout(0.0)(given) is given


def test_keeps_the_precision_it_is_given() -> None:
    given = torch.ones(64, 64, dtype=torch.bfloat16)
    assert Dropout(0.5)(given).dtype == torch.bfloat16
