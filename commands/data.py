"""import, check, encode: datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from momok.commands.console import checked, interrupted, print_lines_or_json, print_report, stop_on_interrupt
from momok.model.errors import UserError


def run_import(arguments: argparse.Namespace) -> None:
    from momok.training.data.report import report
    from momok.training.importers import import_dataset

    dataset = import_dataset(
        arguments.source,
        arguments.layout,
        name=arguments.name,
        labels=arguments.labels,
        relation_labels=arguments.relation_labels,
        features=_by_name(arguments.features, "--features"),
        rows=_by_name(arguments.rows, "--rows"),
        holdout=arguments.holdout,
        seed=arguments.seed,
    )
    dataset.write(arguments.dataset)
    print_report(report(dataset), arguments.json)


def run_check(arguments: argparse.Namespace) -> None:
    from momok.model.bundle.bundle import is_bundle
    from momok.service.answerer import Answerer
    from momok.training.data.dataset import Dataset
    from momok.training.data.report import report

    if is_bundle(arguments.path):
        manifest = Answerer.open(arguments.path, "cpu").bundle.manifest
        print_lines_or_json(manifest.lines(), manifest.model_dump(mode="json"), arguments.json)
    else:
        print_report(report(Dataset.open(arguments.path)), arguments.json)


def run_encode(arguments: argparse.Namespace) -> int:
    from momok.training.encoders.base import Options
    from momok.training.encoders.encode import encode

    options = checked(Options, {name: getattr(arguments, name) for name in Options.model_fields})
    with stop_on_interrupt() as stop:
        encoded = encode(
            arguments.dataset,
            arguments.modality,
            arguments.source,
            arguments.encoder,
            options,
            replace=arguments.replace,
            resume=arguments.resume,
            stop=stop,
            show_progress=True,
        )
    if encoded is None:
        return interrupted("the same command with --resume goes on")
    for item, reason in encoded.left_out:
        print(f"left out {item}: {reason}", file=sys.stderr)
    assert encoded.modality.features is not None
    num_present, width = encoded.modality.features.shape
    print(
        f"{arguments.dataset}: {arguments.modality}, {width} features of {num_present} of "
        f"{encoded.dataset.num_entities} entities"
    )
    return 0


def _by_name(pairs: Sequence[tuple[str, Path]], flag: str) -> dict[str, Path]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{flag} is given twice for {', '.join(sorted(twice))}; a modality has one file")
    return dict(pairs)
