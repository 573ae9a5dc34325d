"""A graph small enough to count by hand, with everything wrong that public graphs have; and random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from momok.model.bundle.names import Names
from momok.model.networks.modality import Modality
from momok.training.data.dataset import STRUCTURE, Dataset

TRAIN = [[0, 0, 1], [1, 0, 2], [0, 0, 1], [2, 1, 3], [3, 1, 0]]  # the first stands there twice
VALID = [[0, 0, 1], [1, 1, 0]]  # the first is in train
TEST = [[4, 0, 1], [2, 1, 3], [1, 1, 0], [0, 2, 1]]  # unseen entity; in train; in valid; unseen relation


@pytest.fixture
def small() -> Dataset:
    text = np.arange(15, dtype=np.float16).reshape(5, 3)
    numeric = np.array([[2.5], [-1.0]], dtype=np.float32)
    return Dataset(
        name="small",
        entities=Names(
            "entity", ["Q0", "Q1", "Q2", "Q3", "Q4"], ["Paris", "France", "Rome", "Italy", "Paris"]
        ),
        relations=Names("relation", ["P0", "P1", "P2"], ["capital of", "near", "twin of"]),
        descriptions=("a city", "", "", "", "a prince"),
        facts={"train": np.array(TRAIN), "valid": np.array(VALID), "test": np.array(TEST)},
        modalities=(
            STRUCTURE,
            Modality("text", text, np.arange(5)),
            Modality("numeric", numeric, np.array([3, 0])),
        ),
        provenance={"made": "by hand"},
        pictures=("https://example.org/paris.png", "", "", "", ""),
    )


def _texts(minimum: int) -> st.SearchStrategy[str]:
    """Any text that fits in a column; line ends other than the usual ones do."""
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0")
    awkward = st.sampled_from(["\x85", "\u2028", "\x0b", "\x1c", " ", ".", "é", "日"])
    return st.text(letters | awkward, min_size=minimum, max_size=6)


def _keys(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(_texts(1).filter(str.strip), min_size=1, max_size=most, unique=True)


@st.composite
def _datasets(draw: st.DrawFn) -> Dataset:
    entities, relations = draw(_keys(6)), draw(_keys(3))
    num_entities, num_relations = len(entities), len(relations)
    ids = st.tuples(*(st.integers(0, size - 1) for size in (num_entities, num_relations, num_entities)))
    facts = {
        split: np.array(draw(st.lists(ids, min_size=minimum, max_size=8)), dtype=np.int64).reshape(-1, 3)
        for split, minimum in (("train", 1), ("valid", 0), ("test", 0))
    }
    texts = st.lists(_texts(0), min_size=num_entities, max_size=num_entities).map(tuple)
    labels = st.lists(_texts(1).filter(str.strip), min_size=num_entities, max_size=num_entities)
    rows = draw(st.lists(st.integers(0, num_entities - 1), min_size=1, max_size=num_entities, unique=True))
    shape = (len(rows), draw(st.integers(1, 3)))
    features = draw(
        st.sampled_from([np.float16, np.float32]).flatmap(
            lambda dtype: hnp.arrays(dtype, shape, elements={"allow_nan": False, "allow_infinity": False})
        )
    )
    return Dataset(
        name="random",
        entities=Names("entity", entities, draw(labels)),
        relations=Names("relation", relations, relations),
        descriptions=draw(texts),
        facts=facts,
        modalities=(STRUCTURE, Modality("image", features, np.array(rows, dtype=np.int64))),
        provenance={"seed": draw(st.integers()), "note": [None, 0.5, "é"]},
        pictures=draw(texts.map(lambda names: tuple(name and f"https://{name}" for name in names))),
    )


@pytest.fixture(scope="session")
def datasets() -> st.SearchStrategy[Dataset]:
    """Random valid datasets, for ``data.draw``."""
    return _datasets()
