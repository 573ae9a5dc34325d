"""Rotations and distances against complex numbers, one at a time."""

from __future__ import annotations

import cmath

import pytest
import torch
from torch import Tensor

from momok.model import rotation
from momok.model.rotation import distance, paired_distance, rotate, signed_phase


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coordinates(packed: Tensor) -> list[complex]:
    real, imaginary = packed.detach().chunk(2)
    return [complex(re, im) for re, im in zip(real.tolist(), imaginary.tolist(), strict=True)]


def plain_distance(query: Tensor, target: Tensor) -> float:
    return sum(abs(q - t) for q, t in zip(coordinates(query), coordinates(target), strict=True))


@pytest.fixture(params=[1, 7, 1 << 18])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pairs are cut into tiles."""
    monkeypatch.setitem(rotation.CELLS, "cpu", 3 * request.param)


def test_a_rotation_multiplies_every_coordinate() -> None:
    entity, phase = numbers(4, 6), numbers(4, 3, seed=1)
    for row, turned in enumerate(rotate(entity, phase)):
        pairs = zip(coordinates(entity[row]), phase[row].tolist(), strict=True)
        expected = [number * cmath.exp(1j * angle) for number, angle in pairs]
        assert coordinates(turned) == pytest.approx(expected)


def test_the_inverse_relation_asks_for_the_head() -> None:
    head, tail, phase = numbers(5, 6), numbers(5, 6, seed=1), numbers(2, 3, seed=2)
    relation = torch.tensor([0, 1, 1, 0, 1])
    forward = paired_distance(rotate(head, signed_phase(phase, relation)), tail)
    backward = paired_distance(rotate(tail, signed_phase(phase, relation + 2)), head)
    torch.testing.assert_close(forward, backward)
    assert forward.tolist() == pytest.approx(
        [
            plain_distance(t, rotate(h[None], phase[r][None])[0])
            for h, r, t in zip(head, relation, tail, strict=True)
        ]
    )


@pytest.mark.usefixtures("tiles")
def test_distances_are_sums_of_moduli() -> None:
    query, table = numbers(5, 6), numbers(8, 6, seed=1)
    expected = [[plain_distance(q, t) for t in table] for q in query]
    torch.testing.assert_close(distance(query, table), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.usefixtures("tiles")
def test_gradients_of_distances_are_those_of_finite_differences() -> None:
    query, table = numbers(5, 6).requires_grad_(), numbers(8, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(distance, (query, table))


def test_where_coordinates_coincide_the_gradient_is_zero() -> None:
    query = numbers(2, 6).float()
    for measure in (distance, paired_distance):
        given = query.clone().requires_grad_()
        measured = measure(given, query)
        near = measured.diagonal() if measured.dim() == 2 else measured
        assert near.tolist() == pytest.approx([0, 0], abs=1e-15)
        (gradient,) = torch.autograd.grad(near.sum(), given)
        assert gradient.abs().max() == 0
