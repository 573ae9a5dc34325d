"""Trainer: epochs, validation, early stop, and a run that goes on bit-equal wherever it was interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Adagrad, Adam, Optimizer
from tqdm import tqdm

from momok.model.errors import UserError
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.runtime.directory import new_directory
from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import rank_facts, summarise
from momok.training.fit.checkpoint import Checkpoint, fitting, pack, unpack
from momok.training.fit.precision import products_in
from momok.training.fit.preparation import objective_of
from momok.training.fit.run import Run, RunError
from momok.training.objectives.base import Objective
from momok.training.objectives.batches import Batch
from momok.training.objectives.kinds import build_objective


class TrainingError(UserError):
    """Training cannot go on; the message says why, where, and what to try."""


@dataclass
class Progress:
    """Where a run stands; all of it travels in the checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_mrr: float = -1.0
    best_epoch: int = 0
    stale_validations: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    finished: str | None = None


class Trainer:
    """Trains one model on one dataset into one run directory."""

    def __init__(self, run: Run, dataset: Dataset, model: LinkPredictor) -> None:
        self.run = run
        self.model = model
        self.schedule = run.recipe.training
        self.progress = Progress()
        self.device = model.present.device
        train_only = FilterIndex.from_facts(
            {"train": dataset.facts["train"]},
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
        )
        self.known = dataset.known()
        self.valid = np.unique(dataset.facts["valid"], axis=0)
        objective: Objective = build_objective(model, objective_of(run.recipe), train_only)
        self.objective = objective.to(self.device)
        self.batches = self.objective.batches(train_only, self.schedule.batch_size)
        self.optimizer = self._make_optimizer()

    def train(self, *, stop: Callable[[], bool] = lambda: False, show_progress: bool = False) -> Progress:
        """Train until the schedule ends or ``stop()`` is true after a step; always leaves a checkpoint.

        Raises ``TrainingError`` on a loss, a weight or a score that is not finite, and leaves the checkpoints
        from before.
        """
        while self.progress.finished is None:
            complete = self._train_epoch(stop, show_progress)
            self._refuse_ruined_weights()
            if complete:
                self._end_epoch()
            self.save()
            if stop() and self.progress.finished is None:
                self._log("interrupted")
                break
        return self.progress

    def create(self) -> None:
        """Put the run's directory on disk with a checkpoint of step 0, whole or not at all."""
        with new_directory(self.run.path, RunError) as directory:
            run = replace(self.run, path=directory)
            run.write()
            self._checkpoint().write(run.last)

    def save(self) -> None:
        """Write ``last.safetensors``."""
        self._checkpoint().write(self.run.last)

    def restore(self) -> None:
        """Go back to ``last.safetensors``; later lines of the event log are dropped."""
        checkpoint = Checkpoint.read(self.run.last)
        with fitting(self.run.last):
            unpack(checkpoint, self._modules, self._optimizers)
            self.progress = Progress(**checkpoint.facts["progress"])
        if self.progress.finished and self._end_reason() is None:
            self.progress.finished = None
        self.run.forget_events(after_step=self.progress.step)
        self._log("resumed")

    def _make_optimizer(self) -> Optimizer:
        parameters, rate = self.model.parameters(), self.schedule.learning_rate
        if self.schedule.optimizer == "adagrad":  # torch fuses it on CPUs alone.
            return Adagrad(parameters, lr=rate, fused=self.device.type == "cpu")
        return Adam(parameters, lr=rate, fused=True)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(pack(self._modules, self._optimizers), {"progress": asdict(self.progress)})

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "objective": self.objective}

    @property
    def _optimizers(self) -> dict[str, Optimizer]:
        return {"model": self.optimizer} | self.objective.optimizers()

    def _train_epoch(self, stop: Callable[[], bool], show_progress: bool) -> bool:
        """True once the epoch is complete, False where ``stop`` ended it before."""
        progress, total = self.progress, self.batches.num_batches
        bar = tqdm(
            total=total,
            initial=progress.batch,
            desc=f"epoch {progress.epoch + 1}/{self.schedule.max_epochs}",
            unit="batch",
            disable=not show_progress,
        )
        self.model.train()
        with bar:
            order = self.batches.epoch(self.schedule.seed, progress.epoch, start=progress.batch)
            for batch in order:
                progress.batch += 1
                progress.step += 1
                started = perf_counter()
                self._step(batch.to(self.device))
                progress.seconds += perf_counter() - started
                bar.update()
                loss = progress.loss_sums["loss"] / progress.batch
                best = f"{progress.best_mrr:.4f}@{progress.best_epoch}" if progress.best_mrr >= 0 else "-"
                bar.set_postfix(loss=f"{loss:.4f}", best=best)
                if progress.batch < total and stop():
                    return False
        progress.batch = 0
        progress.epoch += 1
        return True

    def _step(self, batch: Batch) -> None:
        with products_in(self.schedule.precision, self.device):
            loss = self.objective.loss(self.model, batch)
        total, parts = loss.read()
        if not math.isfinite(total):
            listed = ", ".join(f"{name} {part:.4g}" for name, part in parts.items())
            raise self._diverged(f"the loss became {total} ({listed})")
        loss.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()  # Now, so that the next step has their memory.
        helped = self.objective.after_step(self.model)
        sums = self.progress.loss_sums
        for name, part in {"loss": total, **parts, **helped}.items():
            sums[name] = sums.get(name, 0.0) + part

    def _refuse_ruined_weights(self) -> None:
        """A step may ruin the weights although its loss was finite; such weights must not be saved."""
        for module in self._modules.values():
            for name, value in module.state_dict().items():
                if not bool(value.isfinite().all()):
                    raise self._diverged(f"{name} is not finite")

    def _diverged(self, what: str) -> TrainingError:
        progress = self.progress
        return TrainingError(
            f"{what} at epoch {progress.epoch + (progress.batch > 0)}, step {progress.step}; try a smaller "
            f"training.learning_rate than {self.schedule.learning_rate:g}; {self.run.last} is from before"
        )

    def _end_epoch(self) -> None:
        progress = self.progress
        self._log("epoch", **{k: v / self.batches.num_batches for k, v in progress.loss_sums.items()})
        progress.loss_sums = {}
        reason = self._end_reason()
        if progress.epoch % self.schedule.validate_every == 0 or reason:
            self._validate()
            reason = reason or self._end_reason()
        if reason:
            progress.finished = reason
            self._log("finished", reason=reason, best_mrr=progress.best_mrr, best_epoch=progress.best_epoch)

    def _validate(self) -> None:
        progress = self.progress
        if not len(self.valid):  # Nothing to choose by: the newest weights are the best known.
            progress.best_epoch = progress.epoch
            self._save_best({})
            return
        started = perf_counter()
        try:
            metrics = summarise(rank_facts(self.model, self.valid, self.known).both())
        except ValueError as error:
            raise self._diverged(str(error)) from None
        self._log("valid", **metrics, evaluation_seconds=perf_counter() - started)
        if metrics["mrr"] > progress.best_mrr:
            progress.best_mrr, progress.best_epoch = metrics["mrr"], progress.epoch
            progress.stale_validations = 0
            self._save_best(metrics)
        else:
            progress.stale_validations += 1

    def _save_best(self, metrics: dict[str, float]) -> None:
        facts = {"epoch": self.progress.epoch, "step": self.progress.step, "valid": metrics}
        self.run.save_best(self.model, facts)

    def _end_reason(self) -> str | None:
        if self.progress.epoch >= self.schedule.max_epochs:
            return "max_epochs"
        if self.schedule.max_minutes and self.progress.seconds >= 60 * self.schedule.max_minutes:
            return "max_minutes"
        if self.progress.stale_validations >= self.schedule.patience:
            return "patience"
        return None

    def _log(self, event: str, **values: Any) -> None:
        line = {
            "event": event,
            "epoch": self.progress.epoch,
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
        }
        self.run.log(line | values)
