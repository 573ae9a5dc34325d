"""Where settings come from: flags > environment (``MOMOK_…``) > a TOML file > defaults.

An own few lines rather than a library: they name the flag, variable or key of the file that is wrong, refuse
misspelt names with the nearest right one, and let ``Settings`` stay a plain model.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from momok.model.bundle.names import closest, shorten
from momok.model.errors import UserError
from momok.service.settings import Settings, flag, variable

CONFIG = "MOMOK_CONFIG"
MISSPELT = 0.85
"""How alike a variable and a setting must be to be a mistake; other programs may have ``MOMOK_…`` too."""


@dataclass(frozen=True)
class Configured:
    """Settings, and for each that is no default the words of its source."""

    settings: Settings
    sources: Mapping[str, str]

    def line(self) -> str:
        """All settings in one line, secrets hidden."""
        shown = []
        for name in Settings.model_fields:
            value = getattr(self.settings, name)
            text = json.dumps("***" if isinstance(value, SecretStr) else value, default=str)
            source = f" ({self.sources[name]})" if name in self.sources else ""
            shown.append(f"{name}={text}{source}")
        return f"settings: {', '.join(shown)}"


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None
) -> Configured:
    """Settings from all sources; ``flags`` holds those that were given, ``config`` defaults to MOMOK_CONFIG.

    Raises ``UserError`` naming the source of everything that is wrong.
    """
    if config is None and CONFIG in environment:
        config = Path(environment[CONFIG])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    layers = [] if config is None else [_from_file(config)]
    layers += [_from_environment(environment), {name: (flags[name], _flag(name)) for name in flags}]
    for layer in layers:
        for name, (value, source) in layer.items():
            values[name], sources[name] = value, source
    if "bundle" not in values:
        raise UserError("no bundle to serve: momok serve BUNDLE, or MOMOK_BUNDLE, or bundle = … in the file")
    try:
        return Configured(Settings(**values), sources)
    except ValidationError as error:
        raise UserError("; ".join(_told(item, sources) for item in error.errors())) from None


Layer = dict[str, tuple[Any, str]]
"""Name -> value and the words of its source."""


def _from_file(path: Path) -> Layer:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML ({error})") from None
    if unknown := [name for name in given if name not in Settings.model_fields]:
        raise UserError("; ".join(f"{path}: {_unknown(name)}" for name in unknown))
    return {name: (_beside(path, name, value), f"{path}: {name}") for name, value in given.items()}


def _beside(path: Path, name: str, value: Any) -> Any:
    """Paths in a file are meant from where it lies."""
    is_path = Path in (Settings.model_fields[name].annotation, *_options(name))
    return path.parent / value if is_path and isinstance(value, str) else value


def _options(name: str) -> tuple[Any, ...]:
    return getattr(Settings.model_fields[name].annotation, "__args__", ())


def _from_environment(environment: Mapping[str, str]) -> Layer:
    by_variable = {variable(name): name for name in Settings.model_fields}
    found: Layer = {}
    for name, value in environment.items():
        if name in by_variable:
            # Kubernetes tells a pod of a service called momok its address in a variable of this very name.
            if not (name == variable("port") and value.startswith("tcp://")):
                found[by_variable[name]] = (value, name)
        elif near := closest(name, list(by_variable), 1, likeness=MISSPELT):
            # One letter off in MOMOK_API_KEYS must not leave a server open.
            raise UserError(f"{shorten(name)} is no setting; {near[0]} is: rename it or take it away")
    return found


def _flag(name: str) -> str:
    return "BUNDLE" if Settings.model_fields[name].is_required() else flag(name)


def _unknown(name: str) -> str:
    near = closest(name, list(Settings.model_fields), 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Settings.model_fields)}"
    return f"{shorten(name)!r} is no setting; {hint}"


def _told(item: ErrorDetails, sources: Mapping[str, str]) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    return f"{sources.get(name, name)}: {message}"
