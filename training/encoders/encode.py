"""momok encode: raw inputs of a dataset's entities -> one more modality of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, get_args

from tqdm import tqdm

from model.modality import Modality
from training.dataset import Dataset
from training.encoders.image import Unreadable, encode_pictures
from training.encoders.numeric import encode_numbers
from training.encoders.sources import find_pictures, read_numbers, read_texts
from training.encoders.text import WIDTH, encode_texts
from training.files import DatasetError

EncoderName = Literal["text", "numeric", "image"]
ENCODERS: tuple[str, ...] = get_args(EncoderName)

_LIBRARIES: Mapping[EncoderName, Sequence[str]] = {
    "text": ("scikit-learn", "numpy"),
    "numeric": ("numpy",),
    "image": ("pillow", "numpy"),
}


def encode(
    dataset: Dataset,
    name: str,
    source: str,
    encoder: EncoderName,
    *,
    width: int | None = None,
    seed: int = 0,
    replace: bool = False,
    unreadable: Unreadable | None = None,
    show_progress: bool = False,
) -> Dataset:
    """The dataset with the modality ``name``, made from ``source``; its provenance says how.

    ``unreadable`` receives the pictures that were left out. Raises ``DatasetError`` for sources that cannot
    be used, and where the dataset has ``name`` already and ``replace`` does not say that this is meant.
    """
    taken = [modality.name for modality in dataset.modalities]
    if name in taken and (not replace or name == taken[0]):
        remedy = "choose another name" if name == taken[0] else "choose another name, or --replace it"
        raise DatasetError(f"{dataset.name} has a modality {name!r} already; {remedy}")
    if width is not None and encoder != "text":
        raise DatasetError(f"the {encoder} encoder chooses its width itself; leave out --width")
    settings: dict[str, Any] = {}
    if encoder == "text":
        settings = {"width": width or WIDTH, "seed": seed}
        made = encode_texts(name, read_texts(source, dataset), **settings)
    elif encoder == "numeric":
        attributes, value_NA = read_numbers(source, dataset.entities)
        settings = {"attributes": attributes}
        made = encode_numbers(name, value_NA)
    else:
        pictures = find_pictures(source, dataset.entities)
        settings = {"num_pictures": sum(map(len, pictures.values()))}
        with tqdm(pictures.items(), desc=name, unit="entity", disable=not show_progress) as watched:
            made = encode_pictures(name, watched, unreadable=unreadable)
    return with_modality(dataset, made, encoder, source, settings)


def with_modality(
    dataset: Dataset, made: Modality, encoder: EncoderName, source: str, settings: Mapping[str, Any]
) -> Dataset:
    """The dataset with a modality in place of one of that name, or after all others."""
    places = {modality.name: modality for modality in dataset.modalities} | {made.name: made}
    about = {
        "encoder": encoder,
        "source": source,
        "settings": dict(settings),
        "versions": {library: version(library) for library in _LIBRARIES[encoder]},
    }
    encoders = {**dataset.provenance.get("encoders", {}), made.name: about}
    return dataclasses.replace(
        dataset,
        modalities=tuple(places.values()),
        provenance={**dataset.provenance, "encoders": encoders},
    )
