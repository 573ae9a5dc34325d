"""Discovery: the best missing facts of a whole graph, by asking a bundle relation by relation.

Axes: Q queries of a piece, B queries of a batch, each (entity, relation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from threading import Event, Lock
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from momok.model.answer import Answers, Query
from momok.model.arrays import Int64
from momok.model.bundle.bundle import Bundle
from momok.model.scorer import Scorer
from momok.model.scores import FUSIONS
from momok.training.discovery.in_order import in_order
from momok.training.discovery.lines import Facts, Lines
from momok.training.discovery.output import DiscoveryFile
from momok.training.discovery.work import DiscoveryOptions, Work, batches

WORTH_CHOOSING = 10_000
"""From this many queries on, engines are timed first, which takes seconds; they answer alike."""

MOST_THREADS = 4
"""Threads that ask: a quarter of their work is Python's, which one of them does at a time."""

WARM_UP = 32
"""Queries asked before the clock starts; FAISS searches fewer than twenty another way."""


def discover(
    bundle: Bundle,
    options: DiscoveryOptions,
    output: DiscoveryFile,
    *,
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[str], None] = lambda line: None,
    show_progress: bool = False,
) -> dict[str, Any] | None:
    """Write the facts to ``output`` and return a summary; None where ``stop`` ended it before.

    ``show`` gets the cost. Raises ``UnresolvedName`` for an unknown relation, ``DiscoveryError`` where the
    output cannot be written, or was begun with another bundle or other options.
    """
    work = Work(bundle, options)
    lines = Lines(bundle, output.format)
    with output.writing(work.identity, lines.header), _threads(bundle) as (num_threads, begin):
        asked_before = output.progress.queries
        show(work.cost(asked_before))
        scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
        _warm_up(scorer, work)
        meter, ended = _Meter(work.num_queries, asked_before, num_threads, show, show_progress), Event()

        def found_of(asked_Q2: Int64) -> tuple[bytes, int] | None:
            facts = _found(scorer, work, meter, lambda: stop() or ended.is_set(), asked_Q2)
            return None if facts is None else (lines.render(facts), len(facts))

        results = in_order(found_of, work.pieces(output.progress.pieces), num_threads, begin)
        with closing(meter), closing(results):
            try:
                for piece, found in results:
                    if found is None:
                        return None
                    output.add(found[0], queries=len(piece), facts=found[1])
            finally:
                ended.set()
    output.finish(lines.modality_names, lines.gated_modalities)
    asked = output.progress.queries - asked_before
    return {
        "file": str(output.path),
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "score_kind": FUSIONS[bundle.model.decision].score_kind,
        "facts": output.progress.facts,
        "queries": output.progress.queries,
        "seconds": round(meter.seconds, 3),
        "queries_per_s": round(asked / meter.seconds, 1) if asked else None,
    }


def summary_line(summary: dict[str, Any]) -> str:
    """The summary for people."""
    rate = "" if summary["queries_per_s"] is None else f", {summary['queries_per_s']:.0f} queries/s"
    return f"{summary['file']}: {summary['facts']} facts of {summary['queries']} queries{rate}"


def _warm_up(scorer: Scorer, work: Work) -> None:
    """The estimate of time leaves out the costs of the first call."""
    if work.num_queries >= WORTH_CHOOSING:
        scorer.choose_engines()
    for asked_Q2 in islice(work.pieces(), 1):
        _ask(scorer, work, asked_Q2[:WARM_UP])


def _ask(scorer: Scorer, work: Work, asked_B2: Int64) -> Answers:
    """The answers to queries (entity, relation), int64[B, 2], in one batch."""
    k, candidates = work.options.k, None if work.options.candidates == "all" else work.options.candidates
    queries = [Query(entity, relation, k, candidates=candidates) for entity, relation in asked_B2.tolist()]
    return scorer.answer(queries, work.prepared_with(queries[0].relation))


@contextmanager
def _threads(bundle: Bundle) -> Iterator[tuple[int, Callable[[], object]]]:
    """The number of threads that ask, and the first call of each; meanwhile this thread computes as they do,
    since the last bits of prepared relations depend on it.

    On a CPU they share the processors that torch would use for one: its operations are many and short, and
    processors that share an operation wait for one another.
    """
    usable = torch.get_num_threads()
    if bundle.model.present.is_cuda:
        yield 1, lambda: None
        return
    num_threads = min(usable, MOST_THREADS)
    begin = partial(torch.set_num_threads, usable // num_threads)
    begin()
    try:
        yield num_threads, begin
    finally:
        torch.set_num_threads(usable)


def _found(
    scorer: Scorer, work: Work, meter: _Meter, stop: Callable[[], bool], asked_Q2: Int64
) -> Facts | None:
    """The facts of a piece that the options want, None where it was stopped; called in several threads.

    Query by query, best first; with a limit the best of the piece.
    """
    options, found = work.options, None
    for asked_B2 in batches(asked_Q2):
        if stop():
            return None
        answers = _ask(scorer, work, asked_B2)
        meter.add(len(answers))
        more = Facts.of(answers)
        if options.min_score is not None:
            more = more.least(options.min_score)
        found = more if found is None else found + more
        if options.limit is not None:
            found = found.best(options.limit)
    return found


class _Meter:
    """The progress bar, and an estimate of the time it will take once a batch of each thread is done."""

    def __init__(
        self, total: int, asked: int, num_threads: int, show: Callable[[str], None], show_progress: bool
    ) -> None:
        self._left, self._show, self._asked = total - asked, show, 0
        self._batches_until_told = num_threads
        self._bar = tqdm(total=total, initial=asked, desc="discover", unit="query", disable=not show_progress)
        self._started, self._lock = perf_counter(), Lock()

    def close(self) -> None:
        """Stop the clock."""
        self.seconds = perf_counter() - self._started
        self._bar.close()

    def add(self, num_queries: int) -> None:
        """Count the queries of one more batch."""
        with self._lock:
            self._left -= num_queries
            self._asked += num_queries
            self._batches_until_told -= 1
            if self._batches_until_told == 0 and self._left:
                rate = self._asked / (perf_counter() - self._started)
                self._bar.clear()
                self._show(f"{rate:.0f} queries/s at first; about {_duration(self._left / rate)} to go")
            self._bar.update(num_queries)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
