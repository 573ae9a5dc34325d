"""KeyRoute: what belongs to an entity, where the entity's key may hold slashes."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


class KeyRoute(APIRoute):
    """Leaves ``…%2Fpicture`` to the details: there the slash belongs to a key that ends in ``/picture``.

    Paths are decoded before they are matched, so only the raw one still tells the two apart.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        name = self.path.rsplit("/", 1)[1]
        if scope.get("raw_path", b"").lower().endswith(b"%2f" + name.encode()):
            return Match.NONE, {}
        return super().matches(scope)
