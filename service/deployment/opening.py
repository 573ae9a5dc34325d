"""Opening a bundle for a server: to be scored in this process, or in some of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from momok.model.bundle.bundle import read_catalogue
from momok.service.answering.answerer import Answerer
from momok.service.scorer.pool import ScorerPool
from momok.service.scorer.process import OnEnd, ScorerSpec
from momok.service.settings import Settings

Open = Callable[[Settings, Path, OnEnd], Answerer]
"""Raises ``UserError`` for a bundle that cannot be served, ``ScorerEnded``."""


def open_here(settings: Settings, path: Path, on_end: OnEnd) -> Answerer:
    return Answerer.open(path, settings.device, settings.engine, settings.min_recall)


def open_apart(settings: Settings, path: Path, on_end: OnEnd) -> Answerer:
    """The processes verify and load; here is only what names and describes."""
    number = settings.scorers
    spec = ScorerSpec(
        path, settings.device, settings.engine, settings.min_recall, settings.stuck_s, 0, number
    )
    scorer = ScorerPool([replace(spec, place=place) for place in range(number)], on_end)
    answerer = Answerer(read_catalogue(path), scorer)
    answerer.verify()
    return answerer
