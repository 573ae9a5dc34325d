"""Results of trials as tables: one line a run, and the mean and deviation over the seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from momok.training.experiments.trials import Outcome, replace_text

SHOWN = ("mrr", "hits@1", "hits@3", "hits@10")
"""Metrics of the tables; the reports beside the runs hold more."""


def summarise_outcomes(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For each set of labels, in order: ``labels``, ``seeds`` that ended well, ``failed`` ones, and by split
    and metric the ``mean`` and the sample deviation ``std``, None for fewer than two seeds."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(json.dumps(dict(outcome.trial.labels)), []).append(outcome)
    summaries = []
    for group in groups.values():
        done = [outcome for outcome in group if outcome.failed is None]
        splits = done[0].metrics if done else {}
        summaries.append(
            {
                "labels": dict(group[0].trial.labels),
                "seeds": [outcome.trial.seed for outcome in done],
                "failed": [outcome.trial.seed for outcome in group if outcome.failed is not None],
                "metrics": {
                    split: {name: _spread([one.metrics[split][name] for one in done]) for name in SHOWN}
                    for split in splits
                },
            }
        )
    return summaries


def write_results(folder: Path, outcomes: Sequence[Outcome], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``results.tsv`` and ``results.json`` and return what the latter holds: ``about``, ``runs`` and
    ``summary``."""
    runs = [_row(outcome) for outcome in outcomes]
    results = {**about, "runs": runs, "summary": summarise_outcomes(outcomes)}
    replace_text(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
    columns = list(dict.fromkeys(column for run in runs for column in _cells(run)))
    rows = [columns, *([_cell(_cells(run).get(column)) for column in columns] for run in runs)]
    replace_text(folder / "results.tsv", "".join("\t".join(row) + "\n" for row in rows))
    return results


def results_lines(results: Mapping[str, Any]) -> list[str]:
    """The summary as a table for people: mean ± deviation over seeds."""
    summary = results["summary"]
    labels = list(dict.fromkeys(label for row in summary for label in row["labels"]))
    splits = list(dict.fromkeys(split for row in summary for split in row["metrics"]))
    names = [label.rpartition(".")[2] for label in labels]
    rows = [[*names, "seeds", *(f"{split} {name}" for split in splits for name in SHOWN)]]
    for row in summary:
        cells = [_cell(row["labels"].get(label)) for label in labels]
        cells.append(f"{len(row['seeds'])}" + (f" ({len(row['failed'])} failed)" if row["failed"] else ""))
        cells += [
            _mean_and_deviation(row["metrics"][split][name]) if split in row["metrics"] else "-"
            for split in splits
            for name in SHOWN
        ]
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _row(outcome: Outcome) -> dict[str, Any]:
    trial = outcome.trial
    return {
        "name": trial.name,
        "labels": dict(trial.labels),
        "seed": trial.seed,
        "failed": outcome.failed,
        **outcome.facts,
        "metrics": outcome.metrics,
    }


def _cells(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as columns."""
    flat = {"name": run["name"], **run["labels"], "seed": run["seed"], "failed": run["failed"]}
    flat |= {key: value for key, value in run.items() if key not in (*flat, "labels", "metrics")}
    for split, metrics in run["metrics"].items():
        flat |= {f"{split} {name}": metrics[name] for name in SHOWN}
    return flat


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value.replace("\t", " ").replace("\n", " ")
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else None}


def _mean_and_deviation(spread: Mapping[str, float | None]) -> str:
    deviation = spread["std"]
    return f"{spread['mean']:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
