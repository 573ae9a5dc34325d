"""The parser of the command line, and the table of commands.

The arguments of a command are added when the command is chosen, so that `momok --help` imports little:
choices come from the modules that own them.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

import momok
from momok.commands import answers, data, experiments, runs, server

Add = Callable[[ArgumentParser], None]
Run = Callable[[Namespace], int | None]

COMMANDS: dict[str, tuple[Add, Run]] = {
    "import": (data.add_import, data.run_import),
    "check": (data.add_check, data.run_check),
    "encode": (data.add_encode, data.run_encode),
    "train": (runs.add_train, runs.run_train),
    "sweep": (experiments.add_sweep, experiments.run_sweep),
    "robustness": (experiments.add_robustness, experiments.run_robustness),
    "import-checkpoint": (runs.add_import_checkpoint, runs.run_import_checkpoint),
    "evaluate": (runs.add_evaluate, runs.run_evaluate),
    "export": (runs.add_export, runs.run_export),
    "predict": (answers.add_predict, answers.run_predict),
    "discover": (answers.add_discover, answers.run_discover),
    "serve": (server.add_serve, server.run_serve),
    "keys": (server.add_keys, server.run_keys),
    "demo": (server.add_demo, server.run_demo),
}
"""The functions that add the arguments of a command and that run it, whose docstring is its help."""


def build_parser() -> ArgumentParser:
    """The parser of every command; its ``command`` names the chosen one."""
    parser = ArgumentParser(prog="momok", description="Link prediction on multi-modal knowledge graphs.")
    parser.add_argument("--version", action="version", version=f"momok {momok.__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, (add, run) in COMMANDS.items():
        commands.add_parser(name, help=run.__doc__, description=run.__doc__, add=add)
    return parser


class _CommandParser(ArgumentParser):
    """Adds its arguments when it is first asked to parse."""

    def __init__(self, *, add: Add, **options: Any) -> None:
        super().__init__(**options)
        self._add: Add | None = add

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        if self._add is not None:
            add, self._add = self._add, None
            add(self)
        return super().parse_known_args(args, namespace)
