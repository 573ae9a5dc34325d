"""Connections: those that are open, and those that are too many."""

from __future__ import annotations

from itertools import count
from typing import Any


class Connections:
    """``most`` are served; those beyond are surplus. A peer is its host and port.

    Each connection has a number of its own: a peer may come again before the end of its last one is known.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = count()
        self._open: dict[int, Any] = {}
        self._surplus: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def is_surplus(self, peer: Any) -> bool:
        return any(self._open[number] == peer for number in self._surplus)

    def opened(self, peer: Any) -> int:
        """The number of a new connection."""
        number = next(self._numbers)
        self._open[number] = peer
        if len(self._open) > self._most:
            self._surplus.add(number)
        return number

    def closed(self, number: int) -> None:
        """Once or more often."""
        self._open.pop(number, None)
        self._surplus.discard(number)
