"""Ahead: makes the next of a sequence in a thread of its own, while the one before is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_END: Any = object()


class Ahead:
    """For what lets go of Python's lock while it is made, and a processor that has nothing else to do.

    One thread for all sequences. Where it has not begun with the next when that is wanted, whoever wants it
    makes it: a processor that is needed elsewhere after all holds nobody up.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ahead", initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, items: Iterator[T]) -> Iterator[T]:
        """The same, in order; what making one raises comes in its place."""
        item = next(items, _END)
        while item is not _END:
            following = self._thread.submit(_next, items)
            try:
                yield item
            finally:
                untouched = following.cancel()
            item = next(items, _END) if untouched else following.result()


@torch.inference_mode()
def _next(items: Iterator[T]) -> T:
    """The next one, or ``_END``. Threads do not share torch's modes."""
    return next(items, _END)
