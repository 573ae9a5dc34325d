"""Libraries that only encoders need, and how to get them."""

from __future__ import annotations

from importlib.util import find_spec

from model.errors import UserError


def need(module: str, what: str) -> None:
    """Raises ``UserError`` with the remedy where ``module`` is not installed."""
    if find_spec(module) is None:
        raise UserError(f"{what} needs {module}, which is not installed: pip install 'momok[features]'")
