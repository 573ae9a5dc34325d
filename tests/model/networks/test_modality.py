"""ModalitySpec: raw features of any width become a table that is fitted on train entities alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from momok.model.networks.modality import Modality, ModalityInput, ModalitySpec

N = 30
ROWS = np.array([3, 29, 0, 7, 8, 11, 5, 20, 21, 22, 2, 14])
TRAIN = np.array([0, 2, 3, 5, 7, 8, 14, 25, 26])  # 11, 20, 21, 22 and 29 have features but no place in train
SEEN = np.isin(ROWS, TRAIN)
SPANNED = int(SEEN.sum()) - 1
"""Directions that the seen rows span about their mean."""


def random_features(width: int, num_rows: int = len(ROWS)) -> npt.NDArray[np.float32]:
    return np.random.default_rng(width).normal(2, 3, (num_rows, width)).astype(np.float32)


def fit(features: npt.NDArray[Any] | None, spec: ModalitySpec | None = None, seed: int = 0) -> ModalityInput:
    rows = None if features is None else ROWS
    return (spec or ModalitySpec()).fit(
        Modality("m", features, rows),
        num_entities=N,
        train_entities=TRAIN,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize(
    ("num_features", "table_width"),
    [(1, 64), (4, 64), (31, 64), (32, 32), (256, 256), (257, SPANNED), (384, SPANNED), (1024, SPANNED)],
)
def test_branches_of_any_width_become_workable(num_features: int, table_width: int) -> None:
    found = fit(random_features(num_features).astype(np.float16))
    assert found.table.shape == (N, table_width)
    assert found.table.dtype == torch.float32
    assert found.width == table_width
    assert bool(torch.isfinite(found.table).all())
    assert found.present.nonzero().flatten().tolist() == sorted(ROWS.tolist())


@pytest.mark.parametrize(
    ("reduce", "width", "table_width", "branch_width"),
    [
        ("linear", 256, 4096, 256),
        ("none", 256, 4096, 4096),
        ("linear", 5000, 4096, 4096),
        ("pca", 5000, 4096, 4096),
    ],
)
def test_wide_features_may_stay_or_shrink_in_the_model(
    reduce: Any, width: int, table_width: int, branch_width: int
) -> None:
    found = fit(random_features(4096), ModalitySpec(width=width, reduce=reduce))
    assert (found.table.shape[1], found.width) == (table_width, branch_width)


def test_a_lift_narrower_than_the_features_keeps_them() -> None:
    assert fit(random_features(31), ModalitySpec(lift_to=2)).table.shape == (N, 31)


def test_without_features_every_entity_gets_a_random_row() -> None:
    found = fit(None, ModalitySpec(width=500))
    assert found.table.shape == (N, 500)
    assert found.width == 500
    assert bool(found.present.all())
    assert float(found.table.std()) == pytest.approx(math.sqrt(2 / (N + 500)), rel=0.05)


@pytest.mark.parametrize("num_features", [None, 4, 64, 384])
def test_the_seed_decides(num_features: int | None) -> None:
    features = None if num_features is None else random_features(num_features)
    one, same, other = fit(features).table, fit(features).table, fit(features, seed=1).table
    assert torch.equal(one, same)
    draws = num_features is None or num_features < 32
    assert torch.equal(one, other) is not draws


@pytest.mark.parametrize("num_features", [1, 4, 64, 384])
def test_statistics_come_from_train_entities_alone(num_features: int) -> None:
    features = random_features(num_features)
    changed = features.copy()
    changed[~SEEN] *= -50
    before, after = fit(features).table, fit(changed).table
    others = np.setdiff1d(np.arange(N), ROWS[~SEEN])
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[ROWS[~SEEN]], after[ROWS[~SEEN]])


@pytest.mark.parametrize("num_features", [1, 4, 64, 384])
def test_an_absent_modality_starts_at_the_mean_of_train(num_features: int) -> None:
    table = fit(random_features(num_features)).table
    absent = np.setdiff1d(np.arange(N), ROWS)
    expected = table[ROWS[SEEN]].double().mean(dim=0).float().expand(len(absent), -1)
    torch.testing.assert_close(table[absent], expected)


def test_numbers_are_standardised_before_they_are_lifted() -> None:
    features = random_features(4)
    features[:, 2] = 7  # the same for all: no deviation to divide by
    table = fit(features).table.numpy()
    for column in range(4):
        seen = [float(x) for x in features[SEEN, column]]
        mean = sum(seen) / len(seen)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in seen) / len(seen)) or 1
        expected = [
            (float(x) - mean) / deviation / 2 for x in features[:, column]
        ]  # 2 is the root of 4 columns
        assert table[ROWS, column] == pytest.approx(expected, abs=1e-5)


def test_lifted_numbers_score_by_nearness() -> None:
    """Waves beside the numbers: their inner products are a Gaussian kernel, up to sampling."""
    features = np.linspace(-2, 2, len(ROWS), dtype=np.float32)[:, None]
    table = fit(features, ModalitySpec(lift_to=20_001)).table
    numbers, waves = table[ROWS, 0], table[ROWS, 1:]
    for one in range(len(ROWS)):
        for other in range(len(ROWS)):
            kernel = math.exp(-(float(numbers[one] - numbers[other]) ** 2) / 2)
            assert float(waves[one] @ waves[other]) == pytest.approx(kernel, abs=0.04)


def test_embeddings_get_unit_length() -> None:
    features = random_features(64)
    features[4] = 0  # stays: there is no direction to keep
    table = fit(features).table[ROWS]
    lengths = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in table]
    assert lengths == pytest.approx([0 if index == 4 else 1 for index in range(len(ROWS))], abs=1e-5)


def test_normalise_none_leaves_numbers_alone() -> None:
    features = random_features(64)
    table = fit(features, ModalitySpec(normalise="none")).table
    assert np.array_equal(table[ROWS].numpy(), features)


def test_principal_components_are_those_of_a_plain_decomposition() -> None:
    features = random_features(40)
    table = fit(features, ModalitySpec(width=4)).table[ROWS].numpy()
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    centred = unit - unit[SEEN].mean(axis=0)
    _, _, components = np.linalg.svd(centred[SEEN], full_matrices=False)
    for column in range(4):
        component = components[column]
        component = component * np.sign(component[np.abs(component).argmax()])
        assert table[:, column] == pytest.approx(centred @ component, abs=1e-4)


def test_components_that_the_seen_rows_do_not_span_are_dropped() -> None:
    """Six seen rows span five directions about their mean; a sixth would be noise for unseen entities."""
    random = np.random.default_rng(0)
    features = random.standard_normal((9, 40)).astype(np.float32)
    given = ModalitySpec(width=8, normalise="none").fit(
        Modality("text", features, np.arange(9)),
        num_entities=9,
        train_entities=np.arange(6),
        generator=torch.Generator(),
    )
    assert given.width == given.table.shape[1] == 5
    assert (given.table[:6].std(dim=0) > 1e-3).all()


def test_equal_rows_have_no_components() -> None:
    """Directions taken from rounding would be noise for unseen entities."""
    random = np.random.default_rng(0)
    features = random.standard_normal((9, 40)).astype(np.float32)
    features[:6] = features[0]
    given = ModalitySpec(width=8).fit(
        Modality("text", features, np.arange(9)),
        num_entities=9,
        train_entities=np.arange(6),
        generator=torch.Generator(),
    )
    assert given.table.tolist() == [[0.0]] * 9


def similarity_error(features: npt.NDArray[np.float32], reduced: npt.NDArray[np.float64]) -> float:
    """How far inner products of centred rows move, relative to their size, at the best common scale."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted, found = (one @ one.T for one in (unit - unit.mean(axis=0), reduced - reduced.mean(axis=0)))
    scale = (wanted * found).sum() / (found * found).sum()
    return float(np.linalg.norm(wanted - scale * found) / np.linalg.norm(wanted))


def test_components_keep_similarities_that_pooling_loses(shared: Path) -> None:
    """Pooling 384-wide text by averaging, as the released code does, keeps 128 distinct numbers."""
    features = load_file(shared / "data" / "MKG-Y" / "name_text.safetensors")["features"][:1500].astype(
        np.float32
    )
    rows = np.arange(len(features))
    spec = ModalitySpec(width=128)
    fitted = spec.fit(
        Modality("text", features, rows),
        num_entities=len(rows),
        train_entities=rows,
        generator=torch.Generator(),
    )
    pooled = features.reshape(len(features), 128, 3).mean(axis=2)
    ours = similarity_error(features, fitted.table.double().numpy())
    theirs = similarity_error(features, pooled.astype(np.float64))
    assert ours < 0.15 < 0.3 < theirs


def test_a_modality_that_no_train_entity_has_is_refused() -> None:
    with pytest.raises(ValueError, match="modality 'm': no entity of the train split has it"):
        ModalitySpec().fit(
            Modality("m", random_features(4), ROWS),
            num_entities=N,
            train_entities=np.array([25, 26]),
            generator=torch.Generator(),
        )


def test_present_marks_rows_or_everyone() -> None:
    assert Modality("structure").present(3).tolist() == [True, True, True]
    some = Modality("image", np.zeros((2, 1), np.float32), np.array([2, 0]))
    assert some.present(4).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "fields", [{"widht": 3}, {"width": 1}, {"reduce": "pool"}, {"normalise": "l1"}, {"lift_to": 0}]
)
def test_a_wrong_spec_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModalitySpec(**fields)


@pytest.mark.parametrize("constant", [0.1, 3.3, 1e6 + 0.3, 0.0])
def test_a_constant_column_does_not_blow_up_what_train_has_not_seen(constant: float) -> None:
    features = np.full((40, 2), constant, dtype=np.float32)
    features[:, 1] = np.arange(40)
    features[-1, 0] = 1.1 * constant + 1e-3
    spec = ModalitySpec(normalise="standard")
    table_NF = spec.fit(
        Modality("numeric", features, np.arange(40)),
        num_entities=40,
        train_entities=np.arange(39),
        generator=torch.Generator().manual_seed(0),
    ).table
    assert float(table_NF[:-1, 0].abs().max()) < 1e-3 * max(constant, 1)
    assert float(table_NF[-1, 0].abs()) <= 0.2 * constant + 1e-2
