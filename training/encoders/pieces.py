"""Pieces: finished parts of an encoding in a directory beside the dataset, which a later run goes on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from momok.model.arrays import Float32
from momok.model.runtime.directory import explained, new_directory, replace_file
from momok.training.data.files import DatasetError, check_begun, read_bytes

_RECORD = "encoding.json"

LeftOut = list[tuple[str, str]]
"""Unreadable items, each with the reason."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Features float32[n, F] of the entities ``rows`` int64[n], and the items that were left out."""

    rows: npt.NDArray[np.int64]
    features: Float32
    left_out: LeftOut = field(default_factory=list)


class Pieces:
    """The directory ``path``. Raises ``DatasetError`` where another encoding was begun in it."""

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        if resume:
            self._compare(identity)
        elif path.exists():
            message = "of an encoding that did not end; --resume it, or remove this directory"
            raise DatasetError(message, file=path)
        else:
            text = json.dumps(dict(identity), indent=2, ensure_ascii=False)
            with new_directory(path, DatasetError) as directory:
                (directory / _RECORD).write_text(text, encoding="utf-8")

    def read(self, number: int) -> Piece | None:
        """A finished piece; None where it is still to be made."""
        file = self._file(number)
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="np") as opened:
                left_out = [(one, why) for one, why in json.loads(opened.metadata()["left_out"])]
                return Piece(opened.get_tensor("rows"), opened.get_tensor("features"), left_out)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            message = f"damaged ({error}); remove this file, and --resume makes it again"
            raise DatasetError(message, file=file) from None

    def write(self, number: int, piece: Piece) -> None:
        """Keep a finished piece."""
        rows, features = map(np.ascontiguousarray, (piece.rows, piece.features))
        data = save({"rows": rows, "features": features}, {"left_out": json.dumps(piece.left_out)})
        with replace_file(self._file(number), DatasetError) as partial:
            partial.write_bytes(data)

    def remove(self) -> None:
        """Remove the directory."""
        with explained(self.path, DatasetError):
            shutil.rmtree(self.path)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06d}.safetensors"

    def _compare(self, identity: Mapping[str, Any]) -> None:
        record = self.path / _RECORD
        try:
            begun = json.loads(read_bytes(record, "there is nothing to resume here; leave --resume out"))
        except ValueError as error:
            raise DatasetError(f"damaged ({error}); remove {self.path} to start over", file=record) from None
        now = json.loads(json.dumps(dict(identity)))
        check_begun(record, begun, now, f"or remove {self.path} to start over", DatasetError)
