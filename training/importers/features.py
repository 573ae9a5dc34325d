"""Feature files (safetensors, NumPy, PyTorch) -> a Modality, which names the entity of each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from momok.model.arrays import Int64
from momok.model.bundle.names import Names
from momok.model.networks.modality import Modality
from momok.training.data.checks import check_features, check_keys, known_id
from momok.training.data.files import DatasetError, read_lines, reading
from momok.training.importers.tensors import read_safetensors, read_torch

_ROWS_REMEDY = "name the entity of each row with --rows NAME=FILE (one key a line), or put rows in the file"


def read_modality(name: str, file: Path, entities: Names, rows_file: Path | None = None) -> Modality:
    """Features of ``file`` and the entities they belong to.

    ``.safetensors`` (``features``, optionally ``rows``; or its only matrix), ``.npy`` (a matrix), ``.pt`` and
    ``.pth`` (a matrix, a dict with ``features`` and optionally ``rows``, or a dict of vectors by entity key).
    Rows without entities must be one per entity, in id order. float16 stays; every
    other kind of number becomes float32. Raises ``DatasetError``.
    """
    readers = {".safetensors": _read_safetensors, ".npy": _read_npy, ".pt": _read_torch, ".pth": _read_torch}
    if file.suffix not in readers:
        message = (
            f"features must be one of {', '.join(readers)}, not {file.suffix or 'a file without suffix'!r}"
        )
        raise DatasetError(message, file=file)
    with reading(file, "--features NAME=FILE needs one"):
        features, owners = readers[file.suffix](file)
    if features.ndim != 2:
        message = f"features have shape {list(features.shape)}; one row of numbers an entity is needed"
        raise DatasetError(message, file=file)
    rows = _rows(file, len(features), owners, entities, rows_file)
    modality = Modality(name, _as_stored(features), rows)
    check_features(modality, entities, file)
    return modality


def _rows(
    file: Path, num_rows: int, owners: Int64 | list[str] | None, entities: Names, rows_file: Path | None
) -> Int64:
    if rows_file is not None:
        if owners is not None:
            raise DatasetError(f"says itself whose rows it holds; leave out {rows_file}", file=file)
        file, owners = rows_file, _read_rows(rows_file)
    if isinstance(owners, list):
        return _ids_of(owners, entities, file)
    if owners is not None:
        return owners
    if num_rows != len(entities):
        message = f"{num_rows} rows for {len(entities)} entities, and nothing says whose; {_ROWS_REMEDY}"
        raise DatasetError(message, file=file)
    return np.arange(num_rows)


def _read_rows(path: Path) -> Int64 | list[str]:
    if path.suffix != ".npy":
        return read_lines(path)
    with reading(path, "--rows NAME=FILE needs one"):
        return _as_ids(_read_npy(path)[0], path)


def _ids_of(keys: list[str], entities: Names, file: Path) -> Int64:
    check_keys("entity", keys, file, range(1, len(keys) + 1))
    remedy = "correct it or leave out its row"
    ids = [known_id(entities, key, remedy, file, line) for line, key in enumerate(keys, start=1)]
    return np.array(ids, dtype=np.int64)


def _read_safetensors(file: Path) -> tuple[npt.NDArray[Any], Int64 | None]:
    return _pick(read_safetensors(file), file)


def _read_npy(file: Path) -> tuple[npt.NDArray[Any], None]:
    try:
        with file.open("rb") as stored:
            return np.lib.format.read_array(stored, allow_pickle=False), None
    except ValueError as error:
        raise DatasetError(f"not a plain NumPy array ({error}); save it with numpy.save", file=file) from None


def _read_torch(file: Path) -> tuple[npt.NDArray[Any], Int64 | list[str] | None]:
    found = read_torch(file)
    if isinstance(found, Tensor):
        return _array(found), None
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        message = f"holds a {type(found).__name__}; a matrix, or a dict of tensors, is needed"
        raise DatasetError(message, file=file)
    if "features" not in found and all(tensor.ndim == 1 for tensor in found.values()):
        return _stack(found, file)
    return _pick(found, file)


def _stack(vectors: Mapping[str, Tensor], file: Path) -> tuple[npt.NDArray[Any], list[str]]:
    widths = {len(vector) for vector in vectors.values()}
    if len(widths) != 1:
        raise DatasetError(f"vectors have widths {sorted(widths)}; all must be of one", file=file)
    return _array(torch.stack(list(vectors.values()))), [str(key) for key in vectors]


def _pick(tensors: Mapping[str, Tensor], file: Path) -> tuple[npt.NDArray[Any], Int64 | None]:
    if "features" in tensors:
        rows = tensors.get("rows")
        return _array(tensors["features"]), None if rows is None else _as_ids(_array(rows), file)
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    if len(matrices) != 1:
        message = f"holds {sorted(map(str, tensors))}; a tensor 'features', or one matrix alone, is needed"
        raise DatasetError(message, file=file)
    return _array(tensors[matrices[0]]), None


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """NumPy lacks bfloat16, so that becomes float32."""
    tensor = tensor.detach()
    array: npt.NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _as_ids(rows: npt.NDArray[Any], file: Path) -> Int64:
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise DatasetError(
            f"rows are {rows.dtype}{list(rows.shape)}; int64[n] entity ids are needed", file=file
        )
    return rows.astype(np.int64)


def _as_stored(features: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    if features.dtype == np.float16:
        return np.ascontiguousarray(features)
    if features.dtype.kind not in "fiub":
        return features  # refused by check_features
    with np.errstate(over="ignore"):  # becomes infinite, which is refused with its place
        return np.ascontiguousarray(features, dtype=np.float32)
