"""Connections: those that are open, and those that are too many."""

from __future__ import annotations

from typing import Any


class Connections:
    """``most`` are served; those beyond are surplus. A peer is its host and port."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Any] = set()
        self._surplus: set[Any] = set()

    def __len__(self) -> int:
        return len(self._open)

    def is_surplus(self, peer: Any) -> bool:
        return peer in self._surplus

    def opened(self, peer: Any) -> None:
        self._open.add(peer)
        if len(self._open) > self._most:
            self._surplus.add(peer)

    def closed(self, peer: Any) -> None:
        self._open.discard(peer)
        self._surplus.discard(peer)
