"""Does multi-modality help on the demo graph? Test metrics of three seeds, by the modalities in use.

    python benchmarks/world.py [--seeds 3] [--json]

The demo's own recipe; the best epoch is chosen on valid, test is looked at once a run. The split is the
demo's, the same for all; seeds are those of training. ``weights`` are the mean modality weights of queries
by relation and missing end, over the runs with all modalities.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from momok.training.data.dataset import Dataset
from momok.training.export.export import evaluate_run
from momok.training.fit.run import Run
from momok.training.fit.start import start_training
from momok.training.world.demo import RECIPE, SEED
from momok.training.world.world import build_world

USES = {
    "structure alone": ("structure",),
    "structure + image": ("structure", "image"),
    "structure + text": ("structure", "text"),
    "structure + numeric": ("structure", "numeric"),
    "all": None,
}
METRICS = ("mrr", "hits@1", "hits@3", "hits@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # As the demo does.
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        build_world(SEED).write(place / "dataset")
        dataset = Dataset.open(place / "dataset")
        reports = {
            name: [_report(dataset, place, use, seed) for seed in range(1, arguments.seeds + 1)]
            for name, use in USES.items()
        }
    result = {
        "metrics": {name: _summary(found) for name, found in reports.items()},
        "weights": _weights(reports["all"]),
    }
    print(json.dumps(result) if arguments.json else _table(result))


def _report(dataset: Dataset, place: Path, use: tuple[str, ...] | None, seed: int) -> dict[str, Any]:
    training = RECIPE.training.model_copy(update={"seed": seed})
    recipe = RECIPE.model_copy(update={"use": use, "training": training})
    path, cpu = place / f"{'-'.join(use or ['all'])}-{seed}", torch.device("cpu")
    start_training(path, dataset, place / "dataset", recipe, cpu).train()
    return evaluate_run(Run.open(path), dataset, "test", cpu)


def _summary(reports: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over the seeds, overall and of the facts with an unseen entity."""
    values = {name: [report["metrics"][name] for report in reports] for name in METRICS}
    values["mrr, unseen"] = [report["by_entities"]["unseen"]["mrr"] for report in reports]
    return {name: (mean(found), stdev(found) if len(found) > 1 else 0.0) for name, found in values.items()}


def _weights(reports: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    weights: dict[str, dict[str, float]] = {}
    for key, row in reports[0]["by_relation"].items():
        for end in ("tail", "head"):
            found = [report["by_relation"][key]["modality_weights"][end] for report in reports]
            if all(found):
                weights[f"{row['label']}, {end} missing"] = {
                    name: mean(one[name] for one in found) for name in found[0]
                }
    return weights


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'':24}" + "".join(f"{name:>18}" for name in (*METRICS, "mrr, unseen"))]
    for name, row in result["metrics"].items():
        lines.append(f"{name:24}" + "".join(f"{m:>10.3f} ± {s:.3f}" for m, s in row.values()))
    names = list(next(iter(result["weights"].values())))
    lines.append(f"\n{'':36}" + "".join(f"{name:>12}" for name in names))
    for name, row in result["weights"].items():
        lines.append(f"{name:36}" + "".join(f"{row[modality]:>12.3f}" for modality in names))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
