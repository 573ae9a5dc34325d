"""Discovery: the best missing facts of a whole graph, asked of a bundle relation by relation.

The work is cut into *pieces* of so many queries. Pieces are always the same ones, asked in the same batches,
and what queries of a relation share is made for the same relations together, whatever shard or interruption
comes between: encoding rounds by the batch, so this is what makes two runs agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, starmap
from time import perf_counter
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from tqdm import tqdm

import model as model_package
from model.bundle import Bundle
from model.decision import SCORE_KINDS
from model.known import Int64, KnownAnswers
from model.predictor import describe
from model.scorer import Answer, Query, Scorer
from training.discovered import Facts
from training.discovery_file import DiscoveryError, DiscoveryFile
from training.discovery_lines import Lines

QUERIES_AT_ONCE = 512
"""Queries that are encoded and searched together, and a piece where there is no limit."""

FOLDED_AT_ONCE = 16
"""Relations and ends that are folded together (``Scorer.fold``), and asked in one batch at the most."""

WORTH_CHOOSING = 10_000
"""For so many queries the engines are timed first, which takes seconds; they answer alike."""

WARM_UP = 32
"""Queries asked before the clock starts; FAISS searches fewer than twenty by other means."""


class DiscoveryOptions(BaseModel):
    """Which facts to look for, and which of them to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    relations: tuple[str, ...] | None = None
    """Keys or labels; None asks all relations."""
    missing: Literal["tail", "head", "both"] = "both"
    """Which end is asked for."""
    entities: Literal["observed", "all"] = "observed"
    """``observed`` asks the entities that the graph holds at the given end of the relation."""
    candidates: Literal["all", "observed"] = "all"
    """``observed`` offers the entities that the graph holds at the missing end of the relation."""
    k: int = Field(default=10, ge=1)
    """Candidates of each query."""
    limit: int | None = Field(default=None, ge=1)
    """Keep this many of the best-scored facts of each relation and end; a piece is then all their queries."""
    min_score: float | None = None
    """Keep facts that score at least this, in the unit of the bundle's decision."""
    shard: str = Field(default="1/1", pattern=r"^[0-9]{1,9}/[0-9]{1,9}$")
    """``i/n`` does every n-th piece, beginning with the i-th."""

    @field_validator("shard")
    @classmethod
    def _within(cls, shard: str) -> str:
        index, count = map(int, shard.split("/"))
        if not 1 <= index <= count:
            raise ValueError(f"{shard} is not one of {count} shards; the first of two is 1/2")
        return shard

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Raises ``DiscoveryError`` that names every field in the wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise DiscoveryError(describe(error)) from None


class Work:
    """Everything to ask. Raises ``UnresolvedName`` for relations that the bundle does not name."""

    def __init__(self, bundle: Bundle, options: DiscoveryOptions) -> None:
        self.options = options
        self._known: KnownAnswers = bundle.known
        num_relations = bundle.known.num_relations
        named = options.relations
        self.relations = (
            tuple(range(num_relations))
            if named is None
            else tuple(sorted({bundle.vocabulary.resolve_relation(name) for name in named}))
        )
        shifts = {"tail": (0,), "head": (num_relations,), "both": (0, num_relations)}[options.missing]
        self._asked = [relation + shift for relation in self.relations for shift in shifts]
        starts = range(0, len(self._asked), FOLDED_AT_ONCE)
        self._groups = [self._asked[start : start + FOLDED_AT_ONCE] for start in starts]
        self._group_of = {relation: group for group in self._groups for relation in group}
        self.num_queries = sum(stop - start for _, start, stop in self._spans())

    def pieces(self, done: int = 0) -> Iterator[Int64]:
        """Those of the shard, in order, but for the first ``done``: queries that are done and recorded
        together, int64[n, 2] of (entity, relation in [0, 2R))."""
        return starmap(self._queries, islice(self._spans(), done, None))

    def folded_with(self, relation: int) -> list[int]:
        """The relations that are folded together before this one is asked, and all others of its piece."""
        return self._group_of[relation]

    def num_candidates(self) -> tuple[int, int]:
        """The fewest and the most that a query of this work chooses from, known answers included."""
        if self.options.candidates == "all":
            return self._known.num_entities, self._known.num_entities
        counts = [len(self._known.observed(relation)) for relation in self._asked] or [0]
        return min(counts), max(counts)

    def _spans(self) -> Iterator[tuple[list[int], int, int]]:
        """The pieces of the shard: relations, and which of their queries, one relation after the other.

        None goes on beyond the relations that are folded together: those of a batch should fit into memory.
        """
        index, count = map(int, self.options.shard.split("/"))
        return islice(self._all_spans(), index - 1, None, count)

    def _all_spans(self) -> Iterator[tuple[list[int], int, int]]:
        whole = self.options.limit is not None
        for relations in [[relation] for relation in self._asked] if whole else self._groups:
            total = sum(len(self._entities(relation)) for relation in relations)
            size = max(total, 1) if whole else QUERIES_AT_ONCE
            for start in range(0, total, size):
                yield relations, start, min(start + size, total)

    def _queries(self, relations: Sequence[int], start: int, stop: int) -> Int64:
        parts = []
        for relation in relations:
            entities = self._entities(relation)
            part = entities[max(start, 0) : max(stop, 0)]
            parts.append(np.stack([part, np.full_like(part, relation)], axis=1))
            start, stop = start - len(entities), stop - len(entities)
        return np.concatenate(parts)

    def _entities(self, relation: int) -> Int64:
        num_relations = self._known.num_relations
        if self.options.entities == "all":
            return np.arange(self._known.num_entities)
        return self._known.observed((relation + num_relations) % (2 * num_relations))


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

    ``show`` is told the cost. Raises ``UnresolvedName`` for an unknown relation, ``DiscoveryError`` where the
    output cannot be written, or was begun with another bundle or other options.
    """
    work = Work(bundle, options)
    lines = Lines(bundle, output.format)
    with output.writing(_identity(bundle, work), lines.header):
        asked_before = output.progress.queries
        show(_cost(work, asked_before))
        scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
        _warm_up(scorer, work)
        with _Meter(work.num_queries, asked_before, show, show_progress) as meter:
            finder = _Finder(scorer, work, stop, meter)
            for piece in work.pieces(output.progress.pieces):
                found = finder.facts(piece)
                if found is None:
                    return None
                output.add(lines.render(found), queries=len(piece), facts=len(found))
    output.finish(lines.modality_names, lines.gated_modalities)
    asked = output.progress.queries - asked_before
    return {
        "file": str(output.path),
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "score_kind": SCORE_KINDS[bundle.model.decision],
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
    """What only the first call pays must not enter the estimate of time."""
    if work.num_queries >= WORTH_CHOOSING:
        scorer.choose_engines()
    for asked_Q2 in islice(work.pieces(), 1):
        _ask(scorer, work, asked_Q2[:WARM_UP])


def _ask(scorer: Scorer, work: Work, asked_B2: Int64) -> list[Answer]:
    """The answers to queries (entity, relation), int64[B, 2], in one batch."""
    scorer.fold(work.folded_with(int(asked_B2[0, 1])))
    k, candidates = work.options.k, None if work.options.candidates == "all" else work.options.candidates
    return scorer.answer(
        [Query(entity, relation, k, candidates=candidates) for entity, relation in asked_B2.tolist()]
    )


class _Finder:
    """Asks the queries of a piece and keeps what the options want."""

    def __init__(self, scorer: Scorer, work: Work, stop: Callable[[], bool], meter: _Meter) -> None:
        self._scorer, self._work, self._stop, self._meter = scorer, work, stop, meter

    def facts(self, asked_Q2: Int64) -> Facts | None:
        """Query by query, best first; with a limit the best of the piece. None where asked to stop."""
        options = self._work.options
        found: Facts | None = None
        for start in range(0, len(asked_Q2), QUERIES_AT_ONCE):
            if self._stop():
                return None
            answers = _ask(self._scorer, self._work, asked_Q2[start : start + QUERIES_AT_ONCE])
            self._meter.add(len(answers))
            more = Facts.of(answers)
            if options.min_score is not None:
                more = more.least(options.min_score)
            found = more if found is None else found + more
            if options.limit is not None:
                found = found.best(options.limit)
        return found


class _Meter:
    """The progress bar, and an estimate of the time it will take once one batch has been timed."""

    def __init__(self, total: int, asked: int, show: Callable[[str], None], show_progress: bool) -> None:
        self._left, self._show, self._told = total - asked, show, False
        self._bar = tqdm(total=total, initial=asked, desc="discover", unit="query", disable=not show_progress)
        self._started = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = perf_counter() - self._started
        self._bar.close()

    def add(self, num_queries: int) -> None:
        self._left -= num_queries
        if not self._told and self._left:
            rate = num_queries / (perf_counter() - self._started)
            self._bar.clear()
            self._show(f"{rate:.0f} queries/s at first; about {_duration(self._left / rate)} to go")
        self._told = True
        self._bar.update(num_queries)


def _identity(bundle: Bundle, work: Work) -> dict[str, Any]:
    """What must be the same for a resumed run to end with the bytes of an uninterrupted one."""
    keys = bundle.vocabulary.relations.keys
    chosen = None if work.options.relations is None else [keys[relation] for relation in work.relations]
    return {
        "momok": model_package.__version__,
        "bundle version": bundle.manifest.version,
        "device": bundle.model.present.device.type,
        "queries of a piece": QUERIES_AT_ONCE,
        "relations folded together": FOLDED_AT_ONCE,
        **work.options.model_dump(mode="json"),
        "relations": chosen,
    }


def _cost(work: Work, asked: int) -> str:
    fewest, most = work.num_candidates()
    choice = f"{most}" if fewest == most else f"{fewest} to {most}"
    done = f", {asked} of them asked already" if asked else ""
    shard = "" if work.options.shard == "1/1" else f" (shard {work.options.shard})"
    return f"{work.num_queries} queries{shard}{done}; {choice} candidates for each"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
