"""Libraries that only encoders need: imported on use, kept off the network, named by errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from momok.model.errors import UserError

_OFFLINE = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_PROGRESS_BARS",
)
_ON_TORCHVISION = ("open_clip", "sentence_transformers", "timm", "transformers")


def need(module: str, what: str, extra: str = "features") -> None:
    """Raises ``UserError`` with the remedy where ``module`` is not installed."""
    if find_spec(module) is None:
        raise UserError(f"{what} needs {module}, which is not installed: pip install 'momok[{extra}]'")


@contextmanager
def importing(module: str, what: str, extra: str) -> Iterator[None]:
    """For the imports from ``module``: offline, and failures of an installation become a ``UserError``."""
    need(module, what, extra)
    for name in _OFFLINE:
        os.environ[name] = "1"  # Read when the libraries are imported.
    try:
        if module in _ON_TORCHVISION and find_spec("torchvision") is not None:
            _import_torchvision()
        yield
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{what} needs {module}, which does not start here ({reason}): reinstall it"
        ) from error


def _import_torchvision() -> None:
    """Import torchvision even where its compiled part does not fit torch.

    The libraries that ask for it use its Python part. The wheels of the usual index are compiled for torch
    with CUDA; beside a CPU build of torch their operators cannot be loaded, and torchvision stops at the
    first that it wants to describe to torch. Declared, without an implementation, they do no harm.
    """
    while True:
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            lacking = re.fullmatch(r"operator (torchvision::\w+) does not exist", str(error))
            if lacking is None:
                raise
            torch.library.define(lacking[1], "(Tensor unused) -> Tensor")
        else:
            return
