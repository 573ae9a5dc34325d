"""Deployment: the bundle being served, and how another takes its place without a request being dropped.

A new bundle is verified, loaded, warmed and asked its golden queries beside the old one, in a thread of its
own; then the two are exchanged at once. Requests keep the answerer that they began with, and when the last of
them is done the old bundle's memory is free. Whatever goes wrong, the old one stays. Where the process that
scores ends unasked, the same bundle is loaded again; meanwhile there are no answers.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

from momok.model.errors import UserError
from momok.model.runtime.device import GpuMemory
from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import (
    RETRY_AFTER_S,
    BundleRefused,
    Draining,
    NotAlive,
    ReloadBusy,
    Starting,
)
from momok.service.contract.schemas import ModelRef
from momok.service.deployment.memory import give_back
from momok.service.deployment.opening import Open, open_here
from momok.service.settings import Settings

PAUSES_S = (0.0, 1.0, 5.0)
"""Before each attempt to replace a scoring process that has ended."""
MOST_REVIVALS, REVIVALS_S = 5, 300.0
"""So many in such a time, and something is wrong that another process does not mend."""
WATCH_S = 1.0
"""Between two looks at where the bundle's path leads."""

logger = logging.getLogger("momok.service")


class Deployment:
    """``open_bundle`` opens what is served (``opening.py``). ``on_swap(answerer)`` is called when a
    bundle begins to be served, ``on_reload(result)`` after each attempt to exchange it: ``swapped``,
    ``refused``, ``failed`` or ``busy``; or ``revived``, when the same one is served again.
    ``on_trouble(trouble)`` is called when nothing can be served any more."""

    def __init__(
        self,
        settings: Settings,
        open_bundle: Open = open_here,
        on_swap: Callable[[Answerer], object] = lambda answerer: None,
        on_reload: Callable[[str], object] = lambda result: None,
    ) -> None:
        self.draining = False
        self.trouble: str | None = None
        self.on_trouble: Callable[[str], object] = lambda trouble: None
        self._ended: set[int] = set()
        self._revivals = _Revivals()
        self._settings, self._open = settings, open_bundle
        self._on_swap, self._on_reload = on_swap, on_reload
        self._answerer: Answerer | None = None
        self._path: Path | None = None
        self._previous: Path | None = None
        self._seen: tuple[Path, int] | None = None
        self._loading = Lock()
        self._closed = Event()

    @property
    def answerer(self) -> Answerer:
        """What answers now. Raises ``Starting``."""
        answerer = self._answerer
        if answerer is None or self._has_ended:
            raise Starting("ask again when /readyz says 200", retry_after_s=RETRY_AFTER_S)
        return answerer

    @property
    def is_ready(self) -> bool:
        return self._answerer is not None and not self._has_ended and not self.draining

    @property
    def gpu_memory(self) -> GpuMemory:
        """Of the process that scores."""
        return GpuMemory() if self._answerer is None else self._answerer.gpu_memory

    @property
    def scorer_pids(self) -> tuple[int, ...]:
        """The processes that score; none at first."""
        return () if self._answerer is None else self._answerer.scorer_pids

    @property
    def _has_ended(self) -> bool:
        return self._ended.issuperset(self.scorer_pids)

    def check_ready(self, trouble: str | None) -> None:
        """Raises ``Draining``, ``Starting``, or ``NotAlive`` for the scorer's ``trouble``."""
        if self.draining:
            raise Draining("requests in work are finished, no others should come")
        self.check_started()
        if trouble is not None:
            raise NotAlive(trouble)

    def check_started(self) -> None:
        """Raises ``Starting``."""
        assert self.answerer is not None

    def start(self, answerer: Answerer | None = None) -> None:
        """Serve ``answerer``, or what is at the settings' bundle. Raises ``UserError``."""
        self._seen = _target(self._settings.bundle)
        path = self._settings.bundle.resolve()
        with self._loading:
            self._serve(answerer or self._load(path), path)

    def reload(self) -> ModelRef:
        """Serve what is at the settings' bundle now. Raises ``ReloadBusy``, ``BundleRefused``."""
        return self._exchange(self._wanted)

    def rollback(self) -> ModelRef:
        """Serve what was served before. Raises ``ReloadBusy``, ``BundleRefused``."""
        return self._exchange(self._before)

    def reload_soon(self) -> None:
        """As ``reload``, in a while and without a word but in the log: for a signal."""
        Thread(target=self._try_reload, daemon=True).start()

    def watch(self) -> None:
        """Reload whenever the bundle's path leads elsewhere, until ``close``: for a thread of its own."""
        while not self._closed.wait(WATCH_S):
            if _target(self._settings.bundle) not in (None, self._seen):
                self._try_reload()

    def close(self) -> None:
        self._closed.set()

    def _wanted(self) -> Path:
        # Before it is read: what turns meanwhile is seen to have turned.
        self._seen = _target(self._settings.bundle)
        return self._settings.bundle

    def _before(self) -> Path:
        if self._previous is None:
            raise BundleRefused("no other bundle was served before this one")
        return self._previous

    def _exchange(self, where: Callable[[], Path]) -> ModelRef:
        if not self._loading.acquire(blocking=False):
            self._on_reload("busy")
            raise ReloadBusy("wait until it is served or refused")
        result = "failed"
        try:
            path = where().resolve()
            reference = self._serve(self._load(path), path)
            result = "swapped"
        except UserError as error:
            result = "refused"
            logger.error("the old bundle still serves: %s", error)
            raise error if isinstance(error, BundleRefused) else BundleRefused(str(error)) from None
        except Exception:
            logger.exception("the old bundle still serves: the new one could not be loaded")
            raise
        finally:
            self._loading.release()
            self._on_reload(result)
            give_back()
        return reference

    def _load(self, path: Path) -> Answerer:
        try:
            return self._warmed(path)
        except BaseException as error:
            _forget_loaded(error)
            raise

    def _warmed(self, path: Path) -> Answerer:
        """Golden queries are asked again after warming, which chooses what answers."""
        answerer = self._open(self._settings, path, self._revive)
        answerer.warm()
        answerer.verify()
        return answerer

    def _revive(self, pid: int, how: str) -> None:
        """Serve again what this process, which has ended, has scored for."""
        self._ended.add(pid)
        with self._loading:  # It may be of a bundle that is about to be served.
            if pid not in self.scorer_pids or self._closed.is_set():
                return
            logger.error("the scoring process %d has ended %s; starting another", pid, how)
            if self._revivals.too_many():
                self._give_up(f"the scoring process has ended again, {how}")
                return
            for pause_s in PAUSES_S:
                if self._closed.wait(pause_s):
                    return
                try:
                    path = self._path or self._settings.bundle.resolve()
                    self._serve(self._load(path), path)
                except Exception as error:
                    logger.exception("no other scoring process can be started")
                    told = f"the scoring process has ended, and no other can be started: {error}"
                else:
                    self._on_reload("revived")
                    give_back()
                    return
            self._give_up(told)

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        self.on_trouble(trouble)

    def _serve(self, answerer: Answerer, path: Path) -> ModelRef:
        self._on_swap(answerer)
        self._answerer, self.trouble = answerer, None
        self._ended.clear()
        if path != self._path:
            self._path, self._previous = path, self._path
        reference = answerer.reference()
        logger.info("serving %s, version %s", reference.name, reference.version)
        return reference

    def _try_reload(self) -> None:
        with suppress(Exception):  # Logged where it was raised.
            self.reload()


class _Revivals:
    """When the last were."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST_REVIVALS)

    def too_many(self) -> bool:
        """Whether one more now would be; counts it."""
        now, full = monotonic(), len(self._times) == MOST_REVIVALS
        refused = full and now - self._times[0] < REVIVALS_S
        self._times.append(now)
        return refused


def _forget_loaded(error: BaseException | None) -> None:
    """Empty the frames that an error came through: an error that is kept would keep whole tables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _target(path: Path) -> tuple[Path, int] | None:
    """Where a path leads and which directory that is, None while it leads nowhere."""
    try:
        resolved = path.resolve(strict=True)
        return resolved, resolved.stat().st_ino
    except OSError:
        return None
