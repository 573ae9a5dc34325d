"""The command line, `momok …`: which command does what, and how it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from momok.commands import answers, data, models
from momok.commands.arguments import build_parser
from momok.model.errors import UserError
from momok.model.runtime.cpus import follow_cpu_limit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for what the user got wrong, 130 for what the user interrupted."""
    arguments = build_parser().parse_args(argv)
    follow_cpu_limit()
    try:
        return int(COMMANDS[arguments.command](arguments) or 0)
    except UserError as error:
        print(f"momok: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "import": data.run_import,
    "check": data.run_check,
    "encode": data.run_encode,
    "train": models.run_train,
    "sweep": models.run_sweep,
    "robustness": models.run_robustness,
    "import-checkpoint": models.run_import_checkpoint,
    "evaluate": models.run_evaluate,
    "export": models.run_export,
    "predict": answers.run_predict,
    "discover": answers.run_discover,
    "serve": answers.run_serve,
    "keys": answers.run_keys,
    "demo": answers.run_demo,
}


if __name__ == "__main__":
    sys.exit(main())
