"""A scoring process that sleeps for ever where it is asked about entity 13."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import sleep

from momok.service.scorer import worker
from momok.service.scorer.local import LocalScorer
from momok.service.scorer.question import Question, Written

if __name__ == "__main__":
    write = LocalScorer.write

    def sleepily(scorer: LocalScorer, questions: Sequence[Question]) -> list[Written]:
        while any(question.query.entity == 13 for question in questions):
            sleep(3600)
        return write(scorer, questions)

    LocalScorer.write = sleepily  # type: ignore[method-assign,assignment]
    worker.main(*sys.argv[1:])
