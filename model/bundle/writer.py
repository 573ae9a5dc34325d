"""save_bundle: a bundle on its way to disk, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.numpy import save as arrays_as_bytes
from safetensors.torch import save as tensors_as_bytes

from momok.model.bundle.bundle import (
    ENTITIES,
    FILES,
    GATES,
    KNOWN,
    MANIFEST,
    PRESENT,
    TABLE,
    VOCABULARY,
    WEIGHTS,
    WEIGHTS_OF_MODALITIES,
    Bundle,
    BundleError,
)
from momok.model.bundle.manifest import CONCAT, Manifest, digest_of
from momok.model.bundle.pictures import FOLDER, name_of, read_picture
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import Candidates, LinkPredictor
from momok.model.retrieval.index import EntityIndex
from momok.model.runtime.directory import new_directory


def save_bundle(
    path: Path,
    *,
    model: LinkPredictor,
    candidates: Candidates,
    known: FilterIndex,
    write_names: Callable[[Path], None],
    manifest: Manifest,
    check: Callable[[Bundle], None],
    pictures: Mapping[int, Path] | None = None,
    index: EntityIndex | None = None,
) -> Manifest:
    """Write a bundle as a whole: it appears at ``path`` complete and checked, or not at all.

    ``write_names`` writes the vocabulary; ``manifest`` is written with the digests of the other files;
    ``check`` is given the bundle as it was read back, and raises where it differs from the intention;
    ``pictures`` are files by entity; ``index`` is the approximate index that the manifest names. Raises
    ``BundleError`` where ``path`` exists or cannot be written, ``PictureError`` for what is no picture.
    """
    with new_directory(path, BundleError) as directory:
        # Not save_file: it makes files that only their owner may read, and services run as other users.
        (directory / WEIGHTS).write_bytes(tensors_as_bytes(_contiguous(model.state_dict())))
        (directory / ENTITIES).write_bytes(tensors_as_bytes(_candidate_tensors(candidates, model)))
        rows = {name: getattr(known, name) for name in ("queries", "offsets", "answers", "splits")}
        (directory / KNOWN).write_bytes(arrays_as_bytes(rows))
        write_names(directory / VOCABULARY)
        names = [*FILES, *_write_pictures(directory, pictures or {})]
        if index is not None:
            names.append(f"index/{CONCAT}.faiss")
            (directory / "index").mkdir()
            index.write(directory / names[-1])
        digests = {name: digest_of(directory / name) for name in names}
        text = manifest.model_copy(update={"files": digests}).model_dump_json(indent=2)
        (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")
        written = Bundle.open(directory)
        try:
            check(written)
        finally:
            written.vocabulary.close()
    return written.manifest


def _write_pictures(directory: Path, pictures: Mapping[int, Path]) -> list[str]:
    if pictures:
        (directory / FOLDER).mkdir()
    names = []
    for entity, path in pictures.items():
        data, suffix = read_picture(path)
        names.append(name_of(entity, suffix))
        (directory / names[-1]).write_bytes(data)
    return names


def _candidate_tensors(candidates: Candidates, model: LinkPredictor) -> dict[str, torch.Tensor]:
    tensors = {TABLE + name: rows for name, rows in candidates.vectors.items()}
    tensors |= {GATES + name: rows for name, rows in candidates.expert_gates.items()}
    return _contiguous(tensors | {WEIGHTS_OF_MODALITIES: candidates.modality_weights, PRESENT: model.present})


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
