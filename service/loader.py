"""Loader: opens bundles, all in the same thread."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from momok.service.answerer import Answerer
from momok.service.one_thread import OneThread


class Loader:
    def __init__(self, load: Callable[[Path], Answerer]) -> None:
        self._load = load
        self._thread = OneThread("loader")

    def load(self, path: Path) -> Answerer:
        """Whatever loading raises."""
        return self._thread.submit(partial(self._loaded, path)).result()

    def close(self) -> None:
        self._thread.close()

    def _loaded(self, path: Path) -> Answerer:
        try:
            return self._load(path)
        except BaseException as error:
            _forget_loaded(error)
            raise


def _forget_loaded(error: BaseException | None) -> None:
    """Empty the frames that an error came through: an error that is kept would keep whole tables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
