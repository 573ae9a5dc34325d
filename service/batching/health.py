"""Health: whether what scores still does, told by the batches that it fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from momok.model.errors import UserError
from momok.service.contract.failures import ScorerEnded

logger = logging.getLogger("momok.scorer")


class Health:
    """In doubt after ``max_failures`` batches in a row without one answer, until one has an answer.

    ``check`` asks a question whose answer is known.
    """

    def __init__(self, max_failures: int, check: Callable[[], Awaitable[object]] | None) -> None:
        self._max_failures, self._check = max_failures, check
        self._failures = 0
        self.examining = False

    @property
    def trouble(self) -> str | None:
        return f"the last {self._failures} batches failed" if self._in_doubt else None

    def doubts(self, outcomes: Sequence[Any]) -> bool:
        """Whether a batch, by an answer or an exception of each query, makes it doubtful."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if len(errors) < len(outcomes) or any(isinstance(error, UserError) for error in errors):
            self._failures = 0
        elif not any(isinstance(error, ScorerEnded) for error in errors):  # That is seen to elsewhere.
            self._failures += 1
            return self._in_doubt
        return False

    async def examine(self, alone: Callable[[], Awaitable[object]]) -> None:
        """Are the queries to blame, or what scores? It is asked after ``alone``, when nothing else is."""
        if self._check is None or self.examining:
            return
        self.examining = True
        try:
            await alone()
            await self._check()
        except Exception:
            logger.exception("the scorer does not answer what it should know either")
        else:
            self._failures = 0
        finally:
            self.examining = False

    @property
    def _in_doubt(self) -> bool:
        return self._failures >= self._max_failures
