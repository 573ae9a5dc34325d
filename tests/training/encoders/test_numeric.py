"""Numbers: robust scaling, logarithms of heavy tails, and a column that marks missing ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from momok.model.bundle.names import Names
from momok.training.data.files import DatasetError
from momok.training.encoders.numeric import CLIP, encode_numbers
from momok.training.encoders.sources import read_numbers

NAN = np.nan


def features(value_NA: list[list[float]]) -> np.ndarray:
    found = encode_numbers("numeric", np.array(value_NA, dtype=np.float64)).features
    assert found is not None
    assert found.dtype == np.float32
    return found


def test_a_column_is_measured_from_its_median_in_interquartile_ranges() -> None:
    found = features([[1], [2], [3], [4], [5]])  # quartiles 2 and 4
    assert found[:, 0].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_a_heavy_tail_is_taken_by_its_logarithm_on_both_sides_of_zero() -> None:
    column = np.array([-1e6, *[-1.0, 0.0, 1.0] * 20, 1e3, 1e6, 1e9])
    found = features(column[:, None].tolist())[:, 0]
    assert np.all(np.diff(found[np.argsort(column)]) >= 0)  # The order stays,
    logs = np.sign(column) * np.log1p(np.abs(column))
    low, median, high = np.percentile(logs, [25, 50, 75])
    np.testing.assert_allclose(found, np.clip((logs - median) / (high - low), -CLIP, CLIP), rtol=1e-6)


def test_units_do_not_matter_to_a_column_without_a_tail() -> None:
    column = np.random.default_rng(0).normal(size=50)
    np.testing.assert_allclose(
        features(column[:, None].tolist()), features((1e6 * column[:, None] + 3).tolist()), rtol=1e-4
    )


def test_missing_cells_get_the_median_and_a_column_that_says_so() -> None:
    modality = encode_numbers("numeric", np.array([[1, 5], [NAN, NAN], [3, NAN], [5, 7]], dtype=np.float64))
    assert modality.rows is not None
    assert modality.rows.tolist() == [0, 2, 3]  # Who has no number at all lacks the modality.
    assert modality.features is not None
    assert modality.features.tolist() == [[-1, -1, 0], [0, 0, 1], [1, 1, 0]]


def test_a_column_nobody_has_is_left_out_and_a_constant_one_stays_calm() -> None:
    assert features([[7, NAN], [7, NAN], [7, NAN]]).tolist() == [[0], [0], [0]]


def test_a_column_mostly_of_one_value_keeps_its_exceptions() -> None:
    found = features([[0.0]] * 9 + [[1.0]])[:, 0]
    assert found[9] > 1
    assert not found[:9].any()


def test_an_outlier_is_clipped() -> None:
    found = features([[value] for value in [*np.linspace(-1, 1, 200), 1e3, -1e3]])[:, 0]
    assert (found.max(), found.min()) == (CLIP, -CLIP)


@pytest.mark.parametrize(
    ("values", "message"),
    [([[NAN], [NAN]], "no entity has a number"), ([[1.0], [np.inf]], "attribute 0 of entity 1 is infinite")],
)
def test_what_are_no_numbers_is_refused(values: list[list[float]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        features(values)


def test_the_largest_and_smallest_numbers_do_not_overflow() -> None:
    for column in (
        [-1.7e308, 1.0, 1.7e308],
        [1e154, 2e155, 3e156, 1e200],
        [5e-324, 1e-320, 1e-310],
        [1e308] * 3,
    ):
        found = features([[value] for value in column])[:, 0]
        assert np.isfinite(found).all()
        assert np.all(np.diff(found) >= 0)
    around = np.array([1.0, 2.0, 4.0, 7.0])
    np.testing.assert_array_equal(
        features((around[:, None] * 2.0**900).tolist()), features(around[:, None].tolist())
    )


def test_facts_as_db15k_has_them(tmp_path: Path) -> None:
    """An (entity, attribute, value) a line: years, heights in metres, populations over seven magnitudes."""
    random = np.random.default_rng(3)
    keys = [f"http://dbpedia.org/resource/E_{index}" for index in range(200)]
    facts: dict[tuple[str, str], float] = {}
    for index, key in enumerate(keys[:180]):
        if index % 2:
            facts[key, "birthYear"] = float(random.integers(1850, 2000))
        if index % 3:
            facts[key, "height"] = round(float(random.normal(1.8, 0.1)), 2)
        if index % 5 == 0:
            facts[key, "populationTotal"] = float(np.round(10 ** random.uniform(1, 8)))
    lines = [f"{key}\t{attribute}\t{value:.17g}" for (key, attribute), value in facts.items()]
    source = tmp_path / "numeric.tsv"
    source.write_text("\n".join(["key\tattribute\tvalue", *random.permutation(lines)]) + "\n")
    attributes, value_NA = read_numbers(str(source), Names("entity", keys, keys))
    assert set(attributes) == {"birthYear", "height", "populationTotal"}
    assert {
        (keys[row], attributes[column]): value_NA[row, column]
        for row, column in np.argwhere(~np.isnan(value_NA))
    } == facts
    modality = encode_numbers("numeric", value_NA)
    assert modality.rows is not None
    assert modality.features is not None
    having = sorted({keys.index(key) for key, _ in facts})
    assert modality.rows.tolist() == having
    assert modality.features.shape == (len(having), 6)
    for column, attribute in enumerate(attributes):
        lacking = [float((keys[row], attribute) not in facts) for row in having]
        assert modality.features[:, 3 + column].tolist() == lacking
        present = modality.features[np.array(lacking) == 0, column]
        assert np.median(present) == pytest.approx(0, abs=1e-6)
        low, high = np.percentile(present, [25, 75])
        assert high - low == pytest.approx(1, abs=1e-5)
    # Only the heavy tail is taken by its logarithm.
    given = {key: value for (key, attribute), value in facts.items() if attribute == "populationTotal"}
    scaled = [
        modality.features[having.index(keys.index(key)), attributes.index("populationTotal")] for key in given
    ]
    logs = np.log1p(list(given.values()))
    assert np.corrcoef(scaled, logs)[0, 1] == pytest.approx(1, abs=1e-6)
