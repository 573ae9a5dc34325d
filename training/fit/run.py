"""Run: the directory of one training run, which explains itself.

``run.json`` (recipe, model configuration, dataset, versions, command) · ``events.jsonl`` (one line an epoch
and a validation) · ``last.safetensors`` (everything needed to go on) · ``best.safetensors`` (weights of the
best valid MRR).
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import momok
from momok.model.errors import UserError
from momok.model.networks.base import LinkPredictor, ModelConfig, build_model, parse_config
from momok.model.runtime.directory import explained, replace_file
from momok.training.data.dataset import Dataset, DatasetError
from momok.training.fit.checkpoint import Checkpoint, fitting
from momok.training.fit.recipe import Recipe


class RunError(UserError):
    """A run directory that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Run:
    """A run on disk.

    ``features``: modality in use -> digest of its features (``Dataset.feature_digests``); None for runs of
    versions that did not keep it.
    """

    path: Path
    recipe: Recipe
    config: ModelConfig
    dataset_path: Path
    dataset_name: str
    fingerprint: str
    provenance: dict[str, Any]
    features: dict[str, str] | None = None

    @classmethod
    def describe(
        cls,
        path: Path,
        dataset: Dataset,
        dataset_path: Path,
        recipe: Recipe,
        config: ModelConfig,
        *,
        imported_from: str | None = None,
    ) -> Run:
        """A run that is about to start, or the model of other code; nothing is on disk yet."""
        provenance: dict[str, Any] = {
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
            "versions": {
                "momok": momok.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "git": _git_commit(),
        }
        if imported_from is not None:
            provenance["imported_from"] = imported_from
        return cls(
            path,
            recipe,
            config,
            dataset_path.resolve(),
            dataset.name,
            dataset.fingerprint,
            provenance,
            dataset.feature_digests([shape.name for shape in config.modalities]),
        )

    def write(self) -> None:
        """Write ``run.json``, the old one replaced as a whole. Raises ``RunError``."""
        facts = {
            "recipe": self.recipe.model_dump(),
            "config": self.config.model_dump(),
            "dataset": {
                "path": str(self.dataset_path),
                "name": self.dataset_name,
                "fingerprint": self.fingerprint,
                "features": self.features,
            },
            "provenance": self.provenance,
        }
        self._replace(self.path / "run.json", json.dumps(facts, indent=2) + "\n")

    def log(self, event: dict[str, Any]) -> None:
        """Add a line to ``events.jsonl``. Raises ``RunError``."""
        with explained(self.events, RunError), self.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def forget_events(self, *, after_step: int) -> None:
        """Drop the lines that tell of later steps, and those that a crash damaged. Raises ``RunError``."""
        if self.events.exists():
            lines = self.events.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if (step := _step_of(line)) is not None and step <= after_step]
            self._replace(self.events, "".join(line + "\n" for line in kept))

    def _replace(self, path: Path, text: str) -> None:
        with replace_file(path, RunError) as partial:
            partial.write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read ``run.json``. Raises ``RunError`` naming what is missing or damaged."""
        file = path / "run.json"
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            features = facts["dataset"].get("features")
            return cls(
                path,
                Recipe.model_validate(facts["recipe"]),
                parse_config(facts["config"]),
                Path(facts["dataset"]["path"]),
                facts["dataset"]["name"],
                facts["dataset"]["fingerprint"],
                facts["provenance"],
                None if features is None else dict(features),
            )
        except FileNotFoundError:
            raise RunError(f"{path} is not a run: it has no run.json; `momok train` makes one") from None
        except OSError as error:
            raise RunError(f"{file}: cannot be read ({error.strerror}); is {path} a run directory?") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{file}: damaged ({error}); train again") from None

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    def dataset(self, path: Path | None = None) -> Dataset:
        """The dataset the run was trained on, from where it was or from ``path``.

        Raises ``RunError`` when it is gone or is another one.
        """
        source = path or self.dataset_path
        try:
            dataset = Dataset.open(source)
        except DatasetError as error:
            if path is None and not source.exists():
                raise RunError(f"{source}: the run's dataset is gone; name where it is now") from None
            raise RunError(str(error)) from None
        if dataset.fingerprint != self.fingerprint:
            raise RunError(
                f"{source} is not the dataset that {self.path} was trained on: fingerprints differ"
            )
        return dataset

    def save_best(self, model: LinkPredictor, facts: dict[str, Any]) -> None:
        """Write ``best.safetensors``: weights, and the epoch, step and valid metrics they had."""
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        Checkpoint(tensors, facts).write(self.best)

    def num_parameters(self) -> int:
        """How many numbers the model learns."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build_model(self.config).parameters())

    def best_model(self) -> tuple[LinkPredictor, dict[str, Any]]:
        """The model of the best valid MRR, in evaluation mode, and the facts stored with it.

        Raises ``CheckpointError`` before the first validation, and for a damaged file.
        """
        checkpoint = Checkpoint.read(self.best)
        predictor = build_model(self.config)
        with fitting(self.best):
            predictor.load_state_dict(checkpoint.under("model"))
        return predictor.eval(), checkpoint.facts


def _step_of(line: str) -> int | None:
    """The step of a line of the event log; None for a damaged line."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _git_commit() -> str | None:
    """The commit of the code that runs; None where git does not track it, even if it lies in a checkout."""
    here = Path(__file__).resolve()  # Past the link: git tracks what it leads to.
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
