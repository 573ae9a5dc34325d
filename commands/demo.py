"""demo: from nothing to an answer over HTTP. The only file that makes a request."""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from momok.commands.console import interrupted, stop_on_interrupt
from momok.commands.serving import announce_url

if TYPE_CHECKING:
    from momok.service.answerer import Answerer


def demo_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``momok demo``."""
    parser.add_argument("--directory", type=Path, default=Path("build/demo"), help="default %(default)s")
    parser.add_argument("--rebuild", action="store_true", help="start over instead of serving what was built")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default %(default)s)")


def run_demo(arguments: argparse.Namespace) -> int:
    """Build a small graph, train on it, serve it and ask it."""
    from momok.service.server import serve
    from momok.service.sources import load_settings
    from momok.training.world.demo import build_demo

    bundle = arguments.directory / "bundle"
    built = bundle.exists() and not arguments.rebuild
    flags = {"bundle": bundle, "host": arguments.host, "port": arguments.port, "device": "cpu"}
    settings = load_settings(flags, {}).settings
    if not built:
        with stop_on_interrupt() as stop:
            built = build_demo(arguments.directory, stop=stop, show=print)
    if not built:
        return interrupted("`momok demo` starts over")
    serve(settings, announce_url, first_call=_ask)
    return 0


def _ask(url: str, answerer: Answerer) -> None:
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
