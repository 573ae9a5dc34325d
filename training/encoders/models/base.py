"""Model directories: a local one, checked, hashed and loaded; nothing is ever fetched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from momok.model.bundle.manifest import digest_of
from momok.model.bundle.names import shorten
from momok.model.errors import UserError


class ModelError(UserError):
    """A model directory that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class ModelDirectory:
    """A directory of config files and safetensors weights. Raises ``ModelError`` where it is none."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            message = "no such directory; --model takes a model's local directory, and fetches none by name"
            raise ModelError(f"{self.path}: {message}")
        if not any(self.path.glob("*.safetensors")):
            found = (
                "weights in another format; save it" if self._other_weights() else "no weights; save a model"
            )
            raise ModelError(f"{self.path}: holds {found} with safetensors")

    @cached_property
    def sha256(self) -> str:
        """Of the names and contents of all files in it, hidden ones left out."""
        digest = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            inside = file.relative_to(self.path)
            if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                digest.update(f"{inside.as_posix()}\0{digest_of(file).sha256}\n".encode())
        return digest.hexdigest()

    def json(self, name: str) -> dict[str, Any]:
        """A config file; empty where there is none. Raises ``ModelError`` for other JSON."""
        try:
            found = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.path / name}: not readable as JSON ({error}); save it again") from None
        if not isinstance(found, dict):
            raise ModelError(f"{self.path / name}: not a JSON object; save the model again")
        return found

    @contextmanager
    def loading(self, what: str) -> Iterator[None]:
        """Any error of a library on a damaged directory becomes a ``ModelError``."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = shorten(" ".join(str(error).split()), 200)
            raise ModelError(
                f"{self.path}: not loadable as {what} ({type(error).__name__}: {reason})"
            ) from error

    def _other_weights(self) -> bool:
        return any(file.suffix in (".bin", ".pth", ".pt", ".h5", ".msgpack") for file in self.path.iterdir())


@contextmanager
def computing() -> Iterator[None]:
    """Deterministic inference in full float32, on a GPU too."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), cudnn:
        yield
