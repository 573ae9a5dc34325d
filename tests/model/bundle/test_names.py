"""Names: a key first, then a label that no other shares; otherwise an error that helps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momok.model.bundle.names import AmbiguousName, Names, UnknownName, UnresolvedName, closest, shorten

NAMES = Names("entity", ["Q1", "Q2", "Q3", "Paris"], ["Paris", "Rome", "Rome", "Paris (Texas)"])


def test_a_key_wins_over_a_label() -> None:
    assert NAMES.resolve("Q1") == 0
    assert NAMES.resolve("Paris") == 3  # the key of one, the label of another
    assert NAMES.resolve("Paris (Texas)") == 3
    assert len(NAMES) == 4


def test_an_id_is_found_by_key_and_not_by_label() -> None:
    names = Names("entity", ["Q1", "Q2"], ["Paris", "Q1"])
    assert [names.id_of(name) for name in ("Q1", "Q2", "Paris")] == [0, 1, None]


def test_a_shared_label_is_refused_with_its_keys() -> None:
    with pytest.raises(
        AmbiguousName, match=r"entity label 'Rome' is shared by 2; .* keys 'Q2', 'Q3'$"
    ) as caught:
        NAMES.resolve("Rome")
    assert (caught.value.kind, caught.value.name, caught.value.choices) == ("entity", "Rome", ("Q2", "Q3"))
    assert NAMES.ambiguous_labels() == 1


def test_many_keys_of_a_shared_label_are_cut() -> None:
    many = Names("entity", [f"Q{index}" for index in range(9)], ["John"] * 9)
    with pytest.raises(AmbiguousName, match=r"shared by 9; .* 'Q7', …$") as caught:
        many.resolve("John")
    assert len(caught.value.choices) == 9


def test_an_unknown_name_is_refused() -> None:
    for name in ("", "rome", "Q4", "x" * 1000):
        with pytest.raises(UnknownName, match="unknown entity") as caught:
            NAMES.resolve(name)
        assert caught.value.name == name
        assert len(str(caught.value)) < 100, "what a caller sent is never echoed at full size"
    assert issubclass(UnknownName, UnresolvedName)
    assert issubclass(AmbiguousName, UnresolvedName)


def test_an_unknown_name_tells_the_nearest_when_given() -> None:
    assert str(UnknownName("relation", "born", ["born in", "borders"])) == (
        "unknown relation 'born'; nearest: 'born in', 'borders'"
    )


def test_nearest_labels_ignore_case_and_leave_out_the_unlike() -> None:
    assert closest("pariS (texas", NAMES.labels, 3) == ["Paris (Texas)", "Paris"]
    assert closest("zzzzzz", NAMES.labels, 3) == []
    assert closest("ROME", ["Rome", "rome", "Romeo"], 2) == ["Rome", "Romeo"]
    assert closest("a", ["a", "ab", "abc"], 1) == ["a"]


def test_labels_that_are_equally_near_keep_their_order() -> None:
    """A search gives them by rank, so the first are the better ones."""
    assert closest("abcd", ["abcx", "abcy", "abcz", "abcd"], 3) == ["abcd", "abcx", "abcy"]


def test_shorten_keeps_what_fits() -> None:
    assert shorten("é" * 64) == "é" * 64
    assert shorten("é" * 65) == "é" * 63 + "…"
    assert shorten("abcdef", 4) == "abc…"


def test_wrong_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="2 relation keys but 1 labels"):
        Names("relation", ["a", "b"], ["x"])
    with pytest.raises(ValueError, match="relation key 'b' is given twice"):
        Names("relation", ["a", "b", "b"], ["x", "y", "z"])


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcxyz")), unique_by=lambda row: row[0]
    ),
    name=st.sampled_from("abcdefghxyz"),
)
def test_resolve_agrees_with_reading_the_whole_table(rows: list[tuple[str, str]], name: str) -> None:
    names = Names("entity", [key for key, _ in rows], [label for _, label in rows])
    by_key = [index for index, (key, _) in enumerate(rows) if key == name]
    by_label = [index for index, (_, label) in enumerate(rows) if label == name]
    expected = by_key or by_label
    if len(expected) == 1:
        assert names.resolve(name) == expected[0]
    else:
        with pytest.raises(AmbiguousName if expected else UnknownName):
            names.resolve(name)
