"""Names that share letters are near, and texts that share words; an entity without a text is absent."""

from __future__ import annotations

import numpy as np
import pytest

from momok.training.data.files import DatasetError
from momok.training.encoders.text import encode_texts

TEXTS = [
    "Norway; Norge; Norvège",
    "",
    "Norwegian krone; couronne norvégienne",
    "Japan; 日本; Japon",
    "  ",
    "Japanese; 日本語; japonais",
    "a river in the north of a small country",
    "a long river in a country",
]


def similarity(width: int = 128) -> np.ndarray:
    features = encode_texts("text", TEXTS, width=width).features
    assert features is not None
    wide = features.astype(np.float64)
    return wide @ wide.T


def test_near_are_those_that_share_letters_or_words_whatever_the_script() -> None:
    near = similarity()
    np.fill_diagonal(near, -1)
    assert near.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]


def test_who_has_no_text_is_absent_and_rows_have_length_one() -> None:
    modality = encode_texts("words", TEXTS)
    assert modality.name == "words"
    assert modality.rows is not None
    assert modality.rows.tolist() == [0, 2, 3, 5, 6, 7]
    np.testing.assert_allclose(np.diag(similarity()), 1, atol=2e-3)


def test_the_width_is_as_asked_unless_there_is_less_to_tell_apart() -> None:
    narrow, wide = encode_texts("text", TEXTS, width=3), encode_texts("text", TEXTS, width=1000)
    assert narrow.features is not None
    assert wide.features is not None
    assert (narrow.features.shape, wide.features.shape) == ((6, 3), (6, 5))
    assert narrow.features.dtype == np.float16


def test_the_same_texts_give_the_same_features() -> None:
    first, second = (encode_texts("text", TEXTS, seed=4).features for _ in range(2))
    assert np.array_equal(first, second)  # type: ignore[arg-type]


def test_punctuation_is_a_text_too() -> None:
    assert encode_texts("text", ["!!", "?? !", "--"]).features is not None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", " "], "0 entities have a text"),
        (["one", ""], "1 entities have a text; the text encoder needs two"),
        (["a", "a"], "all texts are the same"),
    ],
)
def test_too_little_to_learn_from_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        encode_texts("text", texts)
