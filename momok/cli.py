"""The command line, `momok …`: its commands, how one is chosen, and how it ends.

The flags of a command are added when it is chosen, so that `momok --help` imports little: their choices come
from the modules that own them.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from momok import __version__
from momok.commands import answers, data, experiments, runs, server
from momok.model.errors import UserError

COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int | None]]] = {
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
"""Of each command the function that adds its flags, and the one that runs it, whose docstring is its help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for errors that the user can mend, 130 for an interruption."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    # Imported here, as torch comes with it and `momok --help` needs none.
    from momok.model.runtime.cpus import follow_cpu_limit

    follow_cpu_limit()
    try:
        _, run = COMMANDS[arguments.command]
        return run(arguments) or 0
    except UserError as error:
        print(f"momok: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return 0


def parse(words: Sequence[str]) -> Namespace:
    """The arguments of one command, and its name as ``command``. Exits as argparse does, with 0 or 2."""
    parser = ArgumentParser(prog="momok", description="Link prediction on multi-modal knowledge graphs.")
    parser.add_argument("--version", action="version", version=f"momok {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, (add_flags, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        if name in words:
            add_flags(command)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
