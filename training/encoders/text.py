"""Texts as TF-IDF weights of words and of letter groups, shrunk by a truncated SVD.

No model to download and any script will do: names that share letters come near each other, longer texts
those that share words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from momok.model.networks.modality import Modality
from momok.model.runtime.device import choose_device
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders.base import About, Options
from momok.training.encoders.jobs import Encoder, ItemJob, TableJob
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.libraries import need
from momok.training.encoders.models.text import sentence_model
from momok.training.encoders.sources import read_texts

WIDTH = 128
_LETTERS = (2, 4)


def encode_texts(name: str, texts: Sequence[str], *, width: int = WIDTH, seed: int = 0) -> Modality:
    """A modality of ``width`` features (fewer where there is less to tell apart), float16, rows of length 1.

    ``texts``: one an entity, in id order; an entity with a blank text lacks the modality. ``seed`` is that of
    the SVD. Raises ``DatasetError`` where fewer than two entities have a text.
    """
    need("sklearn", "the text encoder")
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.preprocessing import normalize

    rows = np.flatnonzero([bool(text.strip()) for text in texts])
    if len(rows) < 2:
        raise DatasetError(f"{len(rows)} entities have a text; the text encoder needs two at the least")
    given = [texts[row] for row in rows.tolist()]
    parts = [TfidfVectorizer(analyzer="char_wb", ngram_range=_LETTERS, sublinear_tf=True, dtype=np.float32)]
    if any(map(str.isalnum, "".join(given))):  # Texts of nothing but punctuation have no words.
        parts.append(TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, dtype=np.float32))
    weights_nV = make_union(*parts).fit_transform(given)
    width = min(width, len(rows) - 1, weights_nV.shape[1] - 1)
    if width < 1 or len(set(given)) == 1:
        raise DatasetError("all texts are the same; there is nothing for the text encoder to tell apart")
    features_nF = TruncatedSVD(width, random_state=seed).fit_transform(weights_nV)
    return Modality(name, normalize(features_nF).astype(np.float16), rows)


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob | TableJob:
    texts = read_texts(source, dataset)
    if options.model is None:
        width, seed = options.width or WIDTH, options.seed or 0
        about = About({"width": width, "seed": seed}, ("scikit-learn", "numpy"))
        return TableJob(about, lambda name: encode_texts(name, texts, width=width, seed=seed))
    for name, given in (("width", options.width), ("seed", options.seed)):
        if given is not None:
            raise DatasetError(f"--{name} is of TF-IDF + SVD; with --model, leave it out")
    items = {row: [text] for row, text in enumerate(texts) if text.strip()}
    if not items:
        raise DatasetError("no entity has a text", file=source)
    describer = sentence_model(ModelDirectory(options.model), choose_device(options.device))
    return ItemJob(describer, items, "no text can be encoded")


TEXT = Encoder(_start, frozenset({"model", "width", "seed"}))
