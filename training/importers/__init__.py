"""Importers: public layouts of a graph, with labels and features beside it, become a Dataset.

May import `data`, and `fit` for runs made of released checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from momok.training.data.checks import check_modality_name
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.importers.features import read_modality
from momok.training.importers.holdout import hold_out
from momok.training.importers.labels import label_entities, label_relations
from momok.training.importers.layouts import import_momok, import_openke, import_tsv

LAYOUTS: dict[str, Callable[[Path], Dataset]] = {
    "openke": import_openke,
    "momok": import_momok,
    "tsv": import_tsv,
}


def import_dataset(
    src: str | Path,
    layout: str,
    *,
    name: str | None = None,
    labels: str | Path | None = None,
    relation_labels: str | Path | None = None,
    features: Mapping[str, str | Path] | None = None,
    rows: Mapping[str, str | Path] | None = None,
    holdout: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Read a graph in one of ``LAYOUTS``, add what stands beside it, and note in ``provenance`` its sources.

    ``labels`` and ``relation_labels`` default to ``entity_labels.tsv`` and ``relation_labels.tsv`` of ``src``
    where those exist. ``features`` maps a modality to its file, ``rows`` to the file that names the
    entities of its rows where the features' own does not. ``holdout`` replaces the valid split by this
    share of train, drawn with ``seed``. Nothing is cleaned silently: ``momok.training.data.report``
    names the flaws of a graph. Raises ``DatasetError``.
    """
    src, features, rows = Path(src), features or {}, rows or {}
    if layout not in LAYOUTS:
        raise DatasetError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    if not src.is_dir():
        raise DatasetError("no such directory; name the one that holds the graph's files", file=src)
    provenance: dict[str, Any] = {"source": str(src), "layout": layout}
    dataset = LAYOUTS[layout](src)
    if file := _beside(src, labels, "entity_labels.tsv"):
        dataset, provenance["labels"] = label_entities(dataset, file), str(file)
    if file := _beside(src, relation_labels, "relation_labels.tsv"):
        dataset, provenance["relation_labels"] = label_relations(dataset, file), str(file)
    dataset = _with_features(dataset, features, rows)
    provenance["features"] = {modality: str(file) for modality, file in features.items()}
    dataset = dataclasses.replace(dataset, name=name or dataset.name, provenance=provenance)
    return dataset if holdout is None else hold_out(dataset, holdout, seed)


def _beside(src: Path, given: str | Path | None, default: str) -> Path | None:
    if given is not None:
        return Path(given)
    return src / default if (src / default).is_file() else None


def _with_features(
    dataset: Dataset, features: Mapping[str, str | Path], rows: Mapping[str, str | Path]
) -> Dataset:
    if unused := sorted(set(rows) - set(features)):
        raise DatasetError(f"rows are given for {unused}, but no features; add --features {unused[0]}=FILE")
    modalities = list(dataset.modalities)
    for name, file in features.items():
        check_modality_name(name)
        if name in [modality.name for modality in modalities]:
            raise DatasetError(
                f"modality {name!r} is learned per entity and takes no file; choose another name"
            )
        rows_file = Path(rows[name]) if name in rows else None
        modalities.append(read_modality(name, Path(file), dataset.entities, rows_file))
    return dataclasses.replace(dataset, modalities=tuple(modalities))
