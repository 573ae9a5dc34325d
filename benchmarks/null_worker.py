"""A scoring process that takes no time: what it has been asked once it answers from memory (``serve.py``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from model.scorer import Answer, Query, Scorer
from service import scorer_worker

_answer = Scorer.answer
_kept: dict[tuple[int, int], Answer] = {}


def ready(self: Scorer, queries: Sequence[Query]) -> list[Answer]:
    asked = [(query.entity, query.relation) for query in queries]
    for key, query in zip(asked, queries, strict=True):
        if key not in _kept or _kept[key].query.k != query.k:
            (_kept[key],) = _answer(self, [query])
    return [_kept[key] for key in asked]


if __name__ == "__main__":
    Scorer.answer = ready  # type: ignore[method-assign]
    scorer_worker.main(*sys.argv[1:])
