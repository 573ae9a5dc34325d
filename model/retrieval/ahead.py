"""Ahead: makes the next of a sequence in a thread of its own, while the one before is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_END: Any = object()


class Ahead:
    """For what lets go of Python's lock while it is made, in a process that computes with one thread (torch
    gives as many to all that begin later) and may use a processor that has little else to do.

    One thread for all sequences. Where it has not begun with the next when that is wanted, as its processor
    is needed elsewhere, whoever wants it makes it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ahead")
        # Begins now: where there may be no more threads, opening fails and not an answer.
        self._thread.submit(torch.set_num_threads, 1).result()

    def __call__(self, items: Iterator[T]) -> Generator[T, None, None]:
        """The same, in order; what making one raises comes in its place."""
        item = next(items, _END)
        while item is not _END:
            following = self._thread.submit(_next, items)
            try:
                yield item
            finally:
                untouched = following.cancel()
            try:
                item = next(items, _END) if untouched else following.result()
            finally:
                del following  # It keeps what it raised, and that this frame, and who called it.


@torch.inference_mode()
def _next(items: Iterator[T]) -> T:
    """The next one, or ``_END``. Threads do not share torch's modes."""
    return next(items, _END)
