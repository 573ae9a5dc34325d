"""Trial: scoring that finds out, by halving, which queries of a batch cannot be scored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from momok.service.contract.failures import OUT_OF_MEMORY, ScorerEnded

ATTEMPTS = 32
"""Failing calls spent on finding the guilty queries of one batch; queries not cleared by then fail too."""


class Trial:
    """Of one batch; ``score`` gives one answer a query, or raises."""

    def __init__(self, score: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]) -> None:
        self._score = score
        self._left = ATTEMPTS

    async def outcomes(self, queries: Sequence[Any], *, halved: bool = False) -> list[Any]:
        """Answers, or the exception of each query that has none; ``halved``: memory was short before."""
        try:
            answers = list(await self._score(queries))
            assert len(answers) == len(queries), "one answer a query"
        except Exception as error:
            self._left -= 1
            short = isinstance(error, OUT_OF_MEMORY)
            lost = isinstance(error, ScorerEnded)  # No query is to blame.
            if len(queries) == 1 or self._left <= 0 or (short and halved) or lost:
                return [error] * len(queries)
            half = len(queries) // 2
        else:
            return answers
        # Outside of the handler, whose exception would keep what the failed attempt held.
        return [
            outcome
            for part in (queries[:half], queries[half:])
            for outcome in await self.outcomes(part, halved=halved or short)
        ]
