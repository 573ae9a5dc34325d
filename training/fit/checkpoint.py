"""Checkpoint: the whole state of a training run in one safetensors file, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from momok.model.errors import UserError
from momok.model.runtime.directory import replace_file


class CheckpointError(UserError):
    """A checkpoint that cannot be read or written; the message names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named tensors and the JSON-able facts beside them."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @classmethod
    def read_facts(cls, path: Path) -> dict[str, Any]:
        """The facts alone, without loading any tensor. Raises ``CheckpointError``."""
        return cls.read(path, tensors=False).facts

    @classmethod
    def read(cls, path: Path, *, tensors: bool = True) -> Checkpoint:
        try:
            with safe_open(path, "pt") as file:
                names = file.keys() if tensors else ()
                read = {name: file.get_tensor(name) for name in names}
                return cls(read, json.loads((file.metadata() or {})["facts"]))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such checkpoint; has the run trained an epoch yet?") from None
        except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
            raise CheckpointError(f"{path}: not a readable checkpoint ({error}); train again") from None

    def write(self, path: Path) -> None:
        """Replace ``path`` as a whole: a crash leaves the old file or the new one, never half of one."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        with replace_file(path, CheckpointError) as partial:
            try:
                save_file(tensors, partial, metadata={"facts": json.dumps(self.facts)})
            except SafetensorError as error:
                raise CheckpointError(f"{path}: cannot be written ({error}); is there room?") from None

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with ``prefix.``, without it."""
        start = prefix + "."
        return {name[len(start) :]: value for name, value in self.tensors.items() if name.startswith(start)}


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Explain a checkpoint that reads well but does not go with its run, as ``CheckpointError``."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError):
        raise CheckpointError(
            f"{path}: does not fit the run.json beside it; was either changed or copied from another run?"
        ) from None


def pack(modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Weights as ``name.key``, moments as ``optimizer.name.parameter.key``, and the random state."""
    tensors: dict[str, Tensor] = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": value for key, value in state.items()}
    return tensors


def unpack(
    checkpoint: Checkpoint, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> None:
    """Put everything that ``pack`` took back where it was. Use it in ``fitting``."""
    for name, module in modules.items():
        module.load_state_dict(checkpoint.under(name))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in checkpoint.under(f"optimizer.{name}").items():
            index, _, field = key.partition(".")
            state.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(checkpoint.tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in checkpoint.tensors:
        torch.cuda.set_rng_state(checkpoint.tensors["random.cuda"])
