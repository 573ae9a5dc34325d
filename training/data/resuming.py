"""check_begun: unfinished work goes on only as it was begun."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from momok.model.bundle.names import shorten
from momok.model.errors import UserError


def check_begun(
    record: Path, begun: Mapping[str, Any], now: Mapping[str, Any], remedy: str, error_class: type[UserError]
) -> None:
    """Raises ``error_class`` where ``now`` is other work than ``record`` says was ``begun``.

    ``remedy``: what would be right, besides resuming as it was begun.
    """
    for name in [*now, *begun]:
        if begun.get(name) != now.get(name):
            one, other = (shorten(json.dumps(facts.get(name), ensure_ascii=False)) for facts in (begun, now))
            raise error_class(
                f"{record}: begun with {name} {one}, now it is {other}; resume as it was begun, {remedy}"
            )
