"""The vocabulary: reading gives the texts as written, and searching agrees with a plain search."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momok.model.bundle import vocabulary as module
from momok.model.bundle.names import AmbiguousName, Names, UnknownName
from momok.model.bundle.vocabulary import (
    EntityDetails,
    SearchTooLong,
    Vocabulary,
    VocabularyError,
    write_vocabulary,
)

LABELS = [
    ("Q1", "Paris", 9),
    ("Q2", "Paris", 3),
    ("Q3", "Paris Saint-Germain", 5),
    ("Q4", "Île de Paris", 50),
    ("Q5", "PARIS", 4),
    ("Q6", "Straße", 1),
    ("Q7", "北京市", 7),
    ("Q8", "上海", 2),
    ("Q9", "100% sure_thing", 0),
    ("Q10", "1000 sureXthing", 8),
    ("Q11", 'the "best" of', 6),
    ("Q12", "this OR that NEAR(the, end)*", 1),
    ("Q13", "back\\slash", 1),
    ("dbr:München", "Munich", 11),
    ("Q15", "no", 2),
    ("Q16", "", 2),
    ("Q17", "nul\0inside", 2),
    ("Q18", "Ελλάς", 4),
]


def write(
    path: Path, rows: Sequence[tuple[str, str, int]], relations: Sequence[tuple[str, str]] = (("r", "R"),)
) -> Vocabulary:
    keys, labels = [key for key, _, _ in rows], [label for _, label, _ in rows]
    write_vocabulary(
        path,
        entities=Names("entity", keys, labels),
        relations=Names("relation", [key for key, _ in relations], [label for _, label in relations]),
        descriptions=[f"about {key}" for key in keys],
        degrees=[degree for _, _, degree in rows],
        relation_counts=range(len(relations)),
    )
    return Vocabulary.open(path)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    return write(
        tmp_path / "v.sqlite",
        LABELS,
        [("P1", "capital of"), ("P2", "borders"), ("P3", "twin of"), ("P4", "twin of")],
    )


def plain_search(rows: Sequence[tuple[str, str, int]], text: str) -> list[int]:
    wanted = text.casefold().strip()
    found = []
    for entity, (key, label, degree) in enumerate(rows):
        folded = label.casefold()
        if wanted in folded or wanted in key.casefold():
            found.append((folded != wanted, not folded.startswith(wanted), -degree, entity))
    return [entity for *_, entity in sorted(found)]


ORDINARY = [
    "paris",
    "PARIS",
    "Paris ",
    "  paris",
    "aris",
    "Saint-Germain",
    "le de p",
    "no",
    "",
    " ",
    "\t",
    "zzz",
    "z",
]
BEYOND_ASCII = [
    *("île", "ÎLE", "ß", "ss", "STRASSE", "straße", "北", "北京", "北京市", "上海", "京市"),
    *("dbr:m", "DBR:MÜNCHEN", "ün", "ςς", "λάς", "ΕΛΛΆΣ", "Ελλάς"),
]
SPECIAL = [
    *(
        "%",
        "0%",
        "00% sure",
        "_",
        "e_t",
        "sure_thing",
        '"',
        '"best"',
        '""',
        "OR",
        "this OR that",
        "AND NOT",
        "NEAR",
    ),
    *(
        "NEAR(the",
        "end)*",
        "*",
        "aris*",
        "par*",
        "label:paris",
        "-",
        "^par",
        "{",
        "\\",
        "\\s",
        "k\\slash",
        "'",
    ),
    *("'; DROP TABLE entities; --", "q1", "Q12", "a" * 10_000),
]


@pytest.mark.parametrize("text", ORDINARY + BEYOND_ASCII + SPECIAL)
def test_searching_finds_what_holds_the_text_in_the_right_order(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.search(text, limit=100) == plain_search(LABELS, text)


def test_equal_labels_come_first_then_beginnings_then_the_rest(vocabulary: Vocabulary) -> None:
    labels = [vocabulary.entities.labels[entity] for entity in vocabulary.search("paris", limit=10)]
    assert labels == ["Paris", "PARIS", "Paris", "Paris Saint-Germain", "Île de Paris"]


def test_keys_are_searched_whatever_the_length_of_the_text(vocabulary: Vocabulary) -> None:
    for text in ("q7", "Q17", "dbr", "br:"):
        assert vocabulary.search(text, limit=100) == plain_search(LABELS, text) != []


@pytest.mark.parametrize(
    "text", ["\0", "a\0", "nul\0inside", "\0inside", "\ud800", "par\udfffis", "\ud83d\ude00x"]
)
def test_what_sqlite_cannot_take_is_searched_for_all_the_same(vocabulary: Vocabulary, text: str) -> None:
    # One stands for any other of its kind, which no name in earnest has.
    expected = [16] if text in ("\0", "\ud800", "\0inside", "nul\0inside") else []
    assert vocabulary.search(text, limit=100) == expected
    if text != "nul\0inside":
        with pytest.raises(UnknownName):
            vocabulary.resolve_entity(text)


LETTERS = st.sampled_from([*"aAbBéÉßſIıİςΣσ日本 \"'%_\\*-()^:{}", "\0", "ﬁ", "\u0301", "😀"])
TEXTS = st.text(LETTERS, max_size=5)


@given(
    rows=st.lists(
        st.tuples(st.text('kK%_"1', min_size=1, max_size=4), TEXTS, st.integers(0, 3)),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[0],
    ),
    texts=st.lists(TEXTS, min_size=1, max_size=10),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_searching_any_text_in_any_names_is_a_plain_search(
    rows: list[tuple[str, str, int]], texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "v.sqlite"
    path.unlink(missing_ok=True)
    with closing(write(path, rows)) as vocabulary:
        assert vocabulary.entities.labels == tuple(label for _, label, _ in rows)
        for text in [*texts, *(label[1:] for _, label, _ in rows)]:
            assert vocabulary.search(text, limit=100) == plain_search(rows, text)


@pytest.mark.parametrize("text", ["", "1", "ent", "entity 1"])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_follow_each_other_without_gap_or_overlap(tmp_path: Path, text: str, limit: int) -> None:
    rows = [(f"Q{number}", f"Entity {number % 40}", number % 5) for number in range(150)]
    vocabulary = write(tmp_path / "v.sqlite", rows)
    pages: list[int] = []
    while page := vocabulary.search(text, limit=limit, offset=len(pages)):
        pages += page
    assert pages == plain_search(rows, text)


KEYS_BEYOND_ASCII = [("Ére", "Age", 1), ("ÉT", "Summer", 2), ("e", "Letter", 3)]


@pytest.mark.parametrize("text", ["É", "é", "Ér", "ér", "ÉRE", "ére", "ét", "E"])
def test_keys_are_found_regardless_of_case_by_short_texts_as_by_long_ones(text: str, tmp_path: Path) -> None:
    with closing(write(tmp_path / "v.sqlite", KEYS_BEYOND_ASCII)) as vocabulary:
        found = vocabulary.search(text, limit=10)
    assert found == plain_search(KEYS_BEYOND_ASCII, text) != []


def test_a_vocabulary_of_before_keys_were_folded_opens_and_finds(tmp_path: Path) -> None:
    write(tmp_path / "v.sqlite", [*LABELS, *KEYS_BEYOND_ASCII]).close()
    with closing(sqlite3.connect(tmp_path / "v.sqlite")) as connection, connection:
        connection.execute("ALTER TABLE entities DROP COLUMN folded_key")
    with closing(Vocabulary.open(tmp_path / "v.sqlite")) as vocabulary:
        for text in ("q1", "Q", "paris", "ére", "dbr", "br"):
            found = vocabulary.search(text, limit=100)
            assert found == plain_search([*LABELS, *KEYS_BEYOND_ASCII], text) != []
        assert vocabulary.details(0) == EntityDetails("about Q1", 9)


def test_written_and_opened_everything_is_there(vocabulary: Vocabulary) -> None:
    assert vocabulary.entities.keys == tuple(key for key, _, _ in LABELS)
    assert vocabulary.entities.labels == tuple(label for _, label, _ in LABELS)
    assert vocabulary.relations.keys == ("P1", "P2", "P3", "P4")
    assert vocabulary.relation_counts == (0, 1, 2, 3)
    for entity, (key, _, degree) in enumerate(LABELS):
        assert vocabulary.details(entity) == EntityDetails(f"about {key}", degree)


def test_names_are_resolved_by_key_then_by_label(vocabulary: Vocabulary) -> None:
    assert vocabulary.resolve_entity("Q1") == 0
    assert vocabulary.resolve_entity("Munich") == 13
    assert vocabulary.resolve_relation("borders") == vocabulary.resolve_relation("P2") == 1
    with pytest.raises(AmbiguousName, match="'Q1', 'Q2'"):
        vocabulary.resolve_entity("Paris")
    with pytest.raises(AmbiguousName, match="'P3', 'P4'"):
        vocabulary.resolve_relation("twin of")


@pytest.mark.parametrize(
    ("misspelt", "best"),
    [
        ("Munihc", "Munich"),
        ("MUNIC", "Munich"),
        ("Pariss Saint German", "Paris Saint-Germain"),
        ("Strase", "Straße"),
        ('the "bast" of', 'the "best" of'),
        ("this OR thus NEAR(the, end)*", "this OR that NEAR(the, end)*"),
    ],
)
def test_a_misspelt_entity_is_answered_with_the_nearest_labels(
    vocabulary: Vocabulary, misspelt: str, best: str
) -> None:
    with pytest.raises(UnknownName) as caught:
        vocabulary.resolve_entity(misspelt)
    assert caught.value.choices[0] == best
    assert len(caught.value.choices) <= 3


@pytest.mark.parametrize("name", ["x", "zz", "qqqqqq", '"""', "x" * 100_000])
def test_a_name_like_no_other_gets_no_suggestion(vocabulary: Vocabulary, name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        vocabulary.resolve_entity(name)
    assert caught.value.choices == ()
    assert len(str(caught.value)) < 200


def test_a_misspelt_relation_is_answered_with_the_nearest_labels(vocabulary: Vocabulary) -> None:
    with pytest.raises(UnknownName, match="unknown relation 'border'; nearest: 'borders'"):
        vocabulary.resolve_relation("border")


def test_several_threads_read_one_vocabulary(tmp_path: Path) -> None:
    rows = [(f"Q{number}", f"Entity {number}", number % 7) for number in range(500)]
    vocabulary = write(tmp_path / "v.sqlite", rows)
    texts = ["", "9", "ent", "entity 1", "TITY 33"]
    expected = {text: plain_search(rows, text) for text in texts}
    wrong: list[object] = []

    def read(start: int) -> None:
        try:
            for number in range(start, start + 60):
                text = texts[number % len(texts)]
                if vocabulary.search(text, limit=1000) != expected[text]:
                    wrong.append(text)
                if vocabulary.details(number) != EntityDetails(f"about Q{number}", number % 7):
                    wrong.append(number)
                try:
                    vocabulary.resolve_entity(f"Entitty {number}")
                except UnknownName as error:
                    if not error.choices:
                        wrong.append(error)
        except Exception as error:  # a thread's exception would be lost
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_opened_vocabulary_cannot_be_written(vocabulary: Vocabulary, tmp_path: Path) -> None:
    before = (tmp_path / "v.sqlite").read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        vocabulary._connection.execute("DELETE FROM entities")
    vocabulary.close()
    assert (tmp_path / "v.sqlite").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["v.sqlite"]


def test_a_path_may_hold_what_means_something_in_an_address(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c %20é"
    folder.mkdir()
    with closing(write(folder / "v.sqlite", LABELS)) as vocabulary:
        assert len(vocabulary.entities) == len(LABELS)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "no tables", "folder"])
def test_a_file_that_is_no_vocabulary_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    if damage == "truncated":
        write(path, [(f"Q{number}", "x" * 100, 0) for number in range(500)]).close()
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "folder":
        path.mkdir()
    elif damage == "no tables":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE something (id)")
    elif damage != "missing":
        path.write_text("hello, world " * 100 if damage == "text" else "")
    with pytest.raises(VocabularyError, match=r"v\.sqlite: not a readable vocabulary"):
        Vocabulary.open(path)


def test_labels_are_suggested_once_in_the_best_spelling(tmp_path: Path) -> None:
    rows = [(f"Q{number}", label, 0) for number, label in enumerate(["Berlin", "BERLIN", "berlin", "Bern"])]
    vocabulary = write(tmp_path / "v.sqlite", rows)
    with pytest.raises(UnknownName) as caught:
        vocabulary.resolve_entity("Berlinn")
    choices = caught.value.choices
    assert not any(one.casefold() == other.casefold() for one, other in itertools.combinations(choices, 2))


def test_a_search_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = 3000
    labels = [f"Entity {index}" for index in range(number)]
    write_vocabulary(
        tmp_path / "v.sqlite",
        entities=Names("entity", [f"e{index}" for index in range(number)], labels),
        relations=Names("relation", ["r"], ["r"]),
        descriptions=[""] * number,
        degrees=[1] * number,
        relation_counts=[1],
    )
    vocabulary = Vocabulary.open(tmp_path / "v.sqlite")
    assert len(vocabulary.search("tit", limit=5)) == 5
    monkeypatch.setattr(module, "_STEPS", 100)
    monkeypatch.setattr(module, "_SEARCH_S", -1.0)
    for text in ("tit", "e"):
        with pytest.raises(SearchTooLong, match="give more characters"):
            vocabulary.search(text, limit=5)
    monkeypatch.setattr(module, "_SIMILAR_S", -1.0)
    with pytest.raises(UnknownName) as unknown:
        vocabulary.resolve_entity("Entitty 5")
    assert unknown.value.choices == (), "a help that would cost too much"
    monkeypatch.undo()
    with pytest.raises(UnknownName, match="nearest"):
        vocabulary.resolve_entity("Entitty 5")
