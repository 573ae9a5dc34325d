"""The command line, `momok …`: it runs one command and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from momok.commands.arguments import COMMANDS, build_parser
from momok.model.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for errors that the user can mend, 130 for an interruption."""
    arguments = build_parser().parse_args(argv)
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


if __name__ == "__main__":
    sys.exit(main())
