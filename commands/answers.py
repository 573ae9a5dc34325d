"""predict, discover: answers from a bundle."""

from __future__ import annotations

import gc
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from momok.commands.console import (
    add_device,
    add_json,
    checked,
    interrupted,
    print_lines_or_json,
    stop_on_interrupt,
)


def add_predict(parser: ArgumentParser) -> None:
    """Arguments of `predict`."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--head", help="key or label; the tail is asked for")
    parser.add_argument("--relation", required=True, help="key or label")
    parser.add_argument("--tail", help="key or label; the head is asked for")
    parser.add_argument("-k", type=int, default=10, help="candidates wanted (default %(default)s)")
    parser.add_argument("--include-known", action="store_true", help="offer what the graph already holds too")
    add_device(parser)
    add_json(parser)


def run_predict(arguments: Namespace) -> None:
    """Answer one query from a bundle, without a server."""
    from momok.commands.text import answer_lines
    from momok.service.answering.answerer import Answerer
    from momok.service.contract.schemas import PredictRequest

    query = {"head": arguments.head, "relation": arguments.relation, "tail": arguments.tail}
    fields = {"queries": [query], "k": arguments.k, "exclude_known": not arguments.include_known}
    request = checked(PredictRequest, fields)
    response = Answerer.open(arguments.bundle, arguments.device).predict(request)
    if arguments.json:
        print(response.model_dump_json(indent=2))
    else:
        print("\n".join(answer_lines(response)))


def add_discover(parser: ArgumentParser) -> None:
    """Arguments of `discover`."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new file: .jsonl, .tsv or .parquet")
    parser.add_argument(
        "--relation", dest="relations", action="append", metavar="NAME",
        help="key or label; may be repeated (default all relations)",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=("tail", "head", "both"), default="both", help="the end asked for"
    )
    parser.add_argument(
        "--entities", choices=("observed", "all"), default="observed",
        help="entities to ask about: those seen at the relation's given end, or all (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", choices=("all", "observed"), default="all",
        help="entities to offer: all, or those seen at the missing end of the relation (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=10, help="candidates of a query (default %(default)s)")
    parser.add_argument("--limit", type=int, help="keep so many facts of each relation and end, the best")
    parser.add_argument("--min-score", type=float, help="keep facts that score at least this")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N",
        help="do the I-th of N parts, which together find what one run finds (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished --out")
    add_device(parser)
    add_json(parser)


def run_discover(arguments: Namespace) -> int:
    """Write the best missing facts of the whole graph to a file; Ctrl-C leaves what --resume continues."""
    from momok.model.bundle.bundle import Bundle
    from momok.model.runtime.device import choose_device
    from momok.training.discovery.discover import discover, summary_line
    from momok.training.discovery.output import DiscoveryFile
    from momok.training.discovery.work import DiscoveryOptions
    from momok.training.memory import keep_freed_memory

    fields = {name: getattr(arguments, name) for name in DiscoveryOptions.model_fields}
    options = checked(DiscoveryOptions, fields)
    output = DiscoveryFile(arguments.out, resume=arguments.resume)
    keep_freed_memory()
    bundle = Bundle.open(arguments.bundle, choose_device(arguments.device))
    gc.freeze()  # What imports have made is no garbage: looking it all through takes as long as 800 queries.
    show = partial(print, file=sys.stderr)
    with stop_on_interrupt() as stop:
        summary = discover(bundle, options, output, stop=stop, show=show, show_progress=True)
    if summary is None:
        return interrupted("the same command with --resume goes on")
    print_lines_or_json([summary_line(summary)], summary, arguments.json)
    return 0
