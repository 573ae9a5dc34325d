"""The command line, `momok …`: its commands, how one is chosen, and how it ends.

Nothing heavy is imported before a command is chosen, so that `momok --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from momok import __version__
from momok.commands import answers, comparisons, data, demo, models, serving
from momok.model.errors import UserError


class Command(NamedTuple):
    """One command: how it adds its flags, and its work, which returns an exit code (None for 0)."""

    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]


COMMANDS = {
    "import": Command(data.import_flags, data.run_import),
    "check": Command(data.check_flags, data.run_check),
    "encode": Command(data.encode_flags, data.run_encode),
    "train": Command(models.train_flags, models.run_train),
    "sweep": Command(comparisons.sweep_flags, comparisons.run_sweep),
    "robustness": Command(comparisons.robustness_flags, comparisons.run_robustness),
    "import-checkpoint": Command(models.import_checkpoint_flags, models.run_import_checkpoint),
    "evaluate": Command(models.evaluate_flags, models.run_evaluate),
    "export": Command(models.export_flags, models.run_export),
    "predict": Command(answers.predict_flags, answers.run_predict),
    "discover": Command(answers.discover_flags, answers.run_discover),
    "serve": Command(serving.serve_flags, serving.run_serve),
    "keys": Command(serving.keys_flags, serving.run_keys),
    "demo": Command(demo.demo_flags, demo.run_demo),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a user's mistake, 130 for an interrupt."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    from momok.model.runtime.cpus import follow_cpu_limit

    follow_cpu_limit()
    try:
        return COMMANDS[arguments.command].run(arguments) or 0
    except UserError as error:
        print(f"momok: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command that ``words`` name. Ends the program as argparse does, with 0 or 2."""
    parser = argparse.ArgumentParser(
        prog="momok", description="Link prediction on multi-modal knowledge graphs."
    )
    parser.add_argument("--version", action="version", version=f"momok {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        text = command.run.__doc__
        own = commands.add_parser(name, help=text, description=text)
        if name in words:  # Only then: flags take their choices from modules that take a second to import.
            command.add_flags(own)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
