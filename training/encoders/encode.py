"""momok encode: raw inputs of a dataset's entities -> one more modality of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from momok.model.networks.modality import Modality
from momok.training.data.checks import check_modality_name
from momok.training.data.dataset import Dataset
from momok.training.data.directory import locked
from momok.training.data.files import DatasetError
from momok.training.encoders.audio import AUDIO
from momok.training.encoders.base import About, Options
from momok.training.encoders.image import IMAGE
from momok.training.encoders.jobs import Encoder, ItemJob, JobOptions
from momok.training.encoders.numeric import NUMERIC
from momok.training.encoders.pieces import LeftOut
from momok.training.encoders.text import TEXT
from momok.training.encoders.video import VIDEO

ENCODERS: Mapping[str, Encoder] = {
    "text": TEXT,
    "numeric": NUMERIC,
    "image": IMAGE,
    "audio": AUDIO,
    "video": VIDEO,
}
"""A further encoder is a file like theirs, and a line here."""

DEFAULTS = Options()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The dataset with its new modality, both on disk, and the items that were left out, with the reasons."""

    dataset: Dataset
    modality: Modality
    left_out: LeftOut


def encode(
    path: Path,
    name: str,
    source: str,
    encoder: str,
    options: Options = DEFAULTS,
    *,
    replace: bool = False,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    show_progress: bool = False,
) -> Encoded | None:
    """Make the modality ``name`` from ``source`` and put it into the dataset at ``path``.

    Unfinished work stands beside the dataset, in ``partial_of(path, name)``, until the modality is written;
    None says that ``stop`` ended it. Other modalities may be made at the same time. Raises ``DatasetError``
    for sources that cannot be used, where the dataset has ``name`` already and ``replace`` does not say that
    this is meant, and where its graph was changed meanwhile.
    """
    with locked(path):
        dataset = Dataset.open(path)
    _check_place(dataset, name, replace)
    chosen = ENCODERS[encoder]
    _check_options(encoder, chosen, options)
    job = chosen.start(dataset, source, options)
    work = JobOptions(
        partial=partial_of(path, name),
        resume=resume,
        identity={"dataset": dataset.fingerprint, **_provenance(encoder, source, job.about)},
        stop=stop,
        show_progress=show_progress,
    )
    made = job.run(name, work)
    if made is None:
        return None
    with locked(path):
        dataset = with_modality(_again(path, dataset, name, replace), made, encoder, source, job.about)
        dataset.write_modality(path, name)
    if isinstance(job, ItemJob):  # Else another's unfinished work may stand there.
        shutil.rmtree(partial_of(path, name), ignore_errors=True)
    return Encoded(dataset, made, work.left_out)


def partial_of(path: Path, name: str) -> Path:
    """Where unfinished work on a modality of the dataset at ``path`` is kept."""
    path = path.resolve()
    return path.with_name(f"{path.name}.{name}.partial")


def with_modality(dataset: Dataset, made: Modality, encoder: str, source: str, about: About) -> Dataset:
    """The dataset with a modality in place of one of that name, or after all others."""
    places = {modality.name: modality for modality in dataset.modalities} | {made.name: made}
    encoders = dataset.provenance.get("encoders", {}) | {made.name: _provenance(encoder, source, about)}
    return dataclasses.replace(
        dataset, modalities=tuple(places.values()), provenance=dataset.provenance | {"encoders": encoders}
    )


def _again(path: Path, before: Dataset, name: str, replace: bool) -> Dataset:
    """The dataset read again, with modalities that other processes added since ``before``."""
    dataset = Dataset.open(path)
    if dataset.fingerprint != before.fingerprint:
        raise DatasetError(f"its graph was changed while {name!r} was made; encode again", file=path)
    _check_place(dataset, name, replace)
    return dataset


def _provenance(encoder: str, source: str, about: About) -> dict[str, Any]:
    model = about.model
    return {
        "encoder": encoder,
        "source": source,
        "settings": dict(about.settings),
        **({"model": {"directory": str(model.path), "sha256": model.sha256}} if model else {}),
        "versions": {library: version(library) for library in about.libraries},
    }


def _check_place(dataset: Dataset, name: str, replace: bool) -> None:
    check_modality_name(name)
    taken = [modality.name for modality in dataset.modalities]
    if name in taken and (not replace or name == taken[0]):
        remedy = "choose another name" if name == taken[0] else "choose another name, or --replace it"
        raise DatasetError(f"{dataset.name} has a modality {name!r} already; {remedy}")


def _check_options(name: str, encoder: Encoder, options: Options) -> None:
    for option in Options.model_fields:
        if option not in encoder.takes and option != "device" and getattr(options, option) is not None:
            raise DatasetError(f"the {name} encoder has no --{option}; leave out --{option}")
