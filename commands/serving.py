"""serve, keys: a bundle over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any, get_args

from momok.commands.console import print_lines_or_json
from momok.commands.flags import add_json


def serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``momok serve``: one a setting, but for secrets."""
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
                kind = {"action": argparse.BooleanOptionalAction}
            elif Path in kind["choices"] or not kind["choices"]:
                kind = {"metavar": name.rpartition("_")[2].upper()}
            # Left out where not given, so that other sources count; Settings checks what it holds.
            parser.add_argument(
                flag(name), default=argparse.SUPPRESS, **kind,
                help=f"{field.description} (default {'none' if field.default is None else field.default})",
            )  # fmt: skip


def run_serve(arguments: argparse.Namespace) -> None:
    """Serve a bundle over HTTP."""
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
        announce_url(url)

    serve(configured.settings, announce)


def announce_url(url: str) -> None:
    """Print where the server listens."""
    print(f"serving at {url} (Ctrl-C stops); every route, with a form to try it: {url}/docs", flush=True)


def keys_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``momok keys``."""
    parser.add_argument("name", help="client or purpose of the key; the server's logs show this name")
    add_json(parser)


def run_keys(arguments: argparse.Namespace) -> None:
    """Make a bearer key: printed once, with the line of its hash for a file of keys."""
    from momok.service.keys import hash_line, new_key

    key = new_key()
    line = hash_line(arguments.name, key)
    told = [f"key (shown only now): {key}", f"line for the server: {line}"]
    print_lines_or_json(told, {"key": key, "line": line}, arguments.json)
