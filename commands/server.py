"""serve, keys, demo: a server, and keys for it."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from momok.commands.console import add_json, checked, interrupted, print_lines_or_json, stop_on_interrupt

if TYPE_CHECKING:
    from momok.service.answering.answerer import Answerer


def add_serve(parser: ArgumentParser) -> None:
    """Arguments of `serve`: one for each setting."""
    from momok.service.settings import Settings, flag, is_secret, variable

    parser.allow_abbrev = False  # --api-keys would mean --api-keys-file.
    parser.epilog = (
        "Each setting may also stand in the environment (MOMOK_PORT, …) or in a TOML file (port = 8000). "
        "Flags win over the environment, that over the file. Secrets have no flag: "
        + ", ".join(variable(name) for name, field in Settings.model_fields.items() if is_secret(field))
    )
    parser.add_argument("--config", type=Path, help="TOML file of settings (MOMOK_CONFIG)")
    for name, field in Settings.model_fields.items():
        if field.is_required():
            parser.add_argument(name, type=Path, nargs="?", help=field.description)
        elif not is_secret(field):
            kind: dict[str, Any] = {"choices": get_args(field.annotation)}
            if field.annotation is bool:
                kind = {"action": BooleanOptionalAction}
            elif Path in kind["choices"] or not kind["choices"]:
                kind = {"metavar": name.rpartition("_")[2].upper()}
            # Left out where not given, so that other sources count; Settings checks what it holds.
            parser.add_argument(
                flag(name), default=SUPPRESS, **kind,
                help=f"{field.description} (default {'none' if field.default is None else field.default})",
            )  # fmt: skip


def run_serve(arguments: Namespace) -> None:
    """Serve a bundle over HTTP."""
    from momok.service.edge.server import serve
    from momok.service.http.access import exposure
    from momok.service.settings import Settings
    from momok.service.sources import load_settings

    given = vars(arguments)
    flags = {name: given[name] for name in Settings.model_fields if given.get(name) is not None}
    configured = load_settings(flags, os.environ, arguments.config)

    def announce(url: str) -> None:
        log = logging.getLogger("momok.service")  # In the form that was asked for, as all that follows.
        log.info(configured.line())
        for note in exposure(configured.settings):
            log.warning(note)
        _announce(url)

    serve(configured.settings, announce)


def add_keys(parser: ArgumentParser) -> None:
    """Arguments of `keys`."""
    parser.add_argument("name", help="client or purpose; the server's logs show this name")
    add_json(parser)


def run_keys(arguments: Namespace) -> None:
    """Make a bearer key: printed once, with the line of its hash for a file of keys."""
    from momok.service.http.keys import hash_line, new_key

    key = new_key()
    line = hash_line(arguments.name, key)
    lines = [f"key (shown only now): {key}", f"line for the server: {line}"]
    print_lines_or_json(lines, {"key": key, "line": line}, arguments.json)


def add_demo(parser: ArgumentParser) -> None:
    """Arguments of `demo`."""
    parser.add_argument("--directory", type=Path, default=Path("build/demo"), help="default %(default)s")
    parser.add_argument("--rebuild", action="store_true", help="start over instead of serving what was built")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default %(default)s)")


def run_demo(arguments: Namespace) -> int:
    """Build a small graph, train on it, serve it and ask it."""
    from momok.service.edge.server import serve
    from momok.service.settings import Settings
    from momok.training.world.demo import build_demo

    directory = arguments.directory
    built = (directory / "bundle").exists() and not arguments.rebuild
    fields = {"bundle": directory / "bundle", "host": arguments.host, "port": arguments.port, "device": "cpu"}
    settings = checked(Settings, fields)
    if not built:
        with stop_on_interrupt() as stop:
            built = build_demo(directory, stop=stop, show=print)
    if not built:
        return interrupted("`momok demo` starts over")
    serve(settings, _announce, first_call=_ask_demo)
    return 0


def _announce(url: str) -> None:
    print(f"serving at {url} (Ctrl-C stops); every route, with a form to try it: {url}/docs", flush=True)


def _ask_demo(url: str, answerer: Answerer) -> None:
    """Ask the running server for a held-out fact over HTTP, and print how it answered."""
    from momok.commands.text import answer_lines
    from momok.service.contract.schemas import PredictResponse
    from momok.training.world.demo import question_of

    body, truth = question_of(answerer.bundle.known, answerer.bundle.vocabulary)
    request = urllib.request.Request(
        f"{url}/v1/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    # Straight to the port, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as reply:
        response = PredictResponse.model_validate_json(reply.read())
    offers = response.answers[0].candidates
    right = next(offer for offer in offers if offer.entity.key == truth)
    new = 1 + sum(not offer.known for offer in offers[: right.rank - 1])
    print("", *answer_lines(response, limit=5), sep="\n")
    print(
        f"held out of training, and right: {right.entity.label}, rank {right.rank} of {len(offers)}, "
        f"or {new} among those that the graph does not hold"
    )
    shown = json.dumps(body | {"k": 5}, ensure_ascii=False)
    print(f"\ntry it: curl -s {url}/v1/predict -H 'Content-Type: application/json' -d '{shown}'", flush=True)
