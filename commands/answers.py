"""predict, discover, serve, keys, demo: answers from a bundle."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

from momok.commands.console import checked, interrupted, print_lines_or_json, stop_on_interrupt
from momok.model.errors import UserError

if TYPE_CHECKING:
    from momok.service.answerer import Answerer
    from momok.service.settings import Settings


def run_predict(arguments: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from momok.model.errors import describe
    from momok.service.answerer import Answerer
    from momok.service.schemas import PredictRequest
    from momok.service.text import answer_lines

    try:
        request = PredictRequest.model_validate(
            {
                "queries": [{"head": arguments.head, "relation": arguments.relation, "tail": arguments.tail}],
                "k": arguments.k,
                "exclude_known": not arguments.include_known,
            }
        )
    except ValidationError as error:
        raise UserError(describe(error)) from None
    response = Answerer.open(arguments.bundle, arguments.device).predict(request)
    if arguments.json:
        print(response.model_dump_json(indent=2))
    else:
        print("\n".join(answer_lines(response)))


def run_discover(arguments: argparse.Namespace) -> int:
    from momok.model.bundle.bundle import Bundle
    from momok.model.runtime.device import choose_device
    from momok.training.discovery.discover import discover, summary_line
    from momok.training.discovery.output import DiscoveryFile
    from momok.training.discovery.work import DiscoveryOptions
    from momok.training.memory import keep_freed_memory

    options = DiscoveryOptions.of(
        **{name: getattr(arguments, name) for name in DiscoveryOptions.model_fields}
    )
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


def run_serve(arguments: argparse.Namespace) -> None:
    from momok.service.security import exposure
    from momok.service.server import serve
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


def run_keys(arguments: argparse.Namespace) -> None:
    from momok.service.keys import hash_line, new_key

    key = new_key()
    line = hash_line(arguments.name, key)
    told = [f"key (shown only now): {key}", f"line for the server: {line}"]
    print_lines_or_json(told, {"key": key, "line": line}, arguments.json)


def run_demo(arguments: argparse.Namespace) -> int:
    from momok.service.server import serve
    from momok.training.world.demo import build_demo

    directory = arguments.directory
    built = (directory / "bundle").exists() and not arguments.rebuild
    settings = _settings(bundle=directory / "bundle", host=arguments.host, port=arguments.port, device="cpu")
    if not built:
        with stop_on_interrupt() as stop:
            built = build_demo(directory, stop=stop, show=print)
    if not built:
        return interrupted("`momok demo` starts over")
    serve(settings, _announce, first_call=_ask_demo)
    return 0


def _settings(**fields: Any) -> Settings:
    """Settings from flags. Raises ``UserError`` for values out of range."""
    from momok.service.settings import Settings

    return checked(Settings, fields)


def _announce(url: str) -> None:
    print(f"serving at {url} (Ctrl-C stops); every route, with a form to try it: {url}/docs", flush=True)


def _ask_demo(url: str, answerer: Answerer) -> None:
    """Ask the running server for a held-out fact over HTTP, and print how it answered."""
    from momok.service.schemas import PredictResponse
    from momok.service.text import answer_lines
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
