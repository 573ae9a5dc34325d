"""`momok discover` beside the queries that it asks, one at a time and in batches, in turn, in one process.

    python benchmarks/discover.py BUNDLE [--rounds 3] [--json]

``discover_queries_s``: a whole discovery with its options as they are by default, written as JSON lines, as
its summary counts it. ``single_queries_s``: the queries of the same work, asked of a warmed scorer one after
the other; ``batched_queries_s``: in batches of 256 of all relations, nothing written. Of each the median of
the rounds; ``discover_over_single`` and ``discover_over_batched`` are made of those.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.scorer import Scorer
from momok.training.discovery.discover import discover
from momok.training.discovery.output import DiscoveryFile
from momok.training.discovery.work import DiscoveryOptions, Work
from momok.training.memory import keep_freed_memory

BATCH, ALONE, BATCHES = 256, 512, 32
"""Queries of a batch, and how many queries and batches are asked in a turn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    bundle = Bundle.open(arguments.bundle)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    scorer.warm()
    asked = _queries(bundle)
    rates: dict[str, list[float]] = {"discover": [], "single": [], "batched": []}
    for _ in range(arguments.rounds):
        rates["single"].append(_rate(scorer, _some(asked, ALONE), 1))
        rates["batched"].append(_rate(scorer, _some(asked, BATCHES * BATCH), BATCH))
        rates["discover"].append(_discovered(bundle))
    found = {name: median(rate) for name, rate in rates.items()}
    result: dict[str, object] = {"entities": bundle.known.num_entities, "threads": torch.get_num_threads()}
    result |= {"queries": len(asked)} | {f"{name}_queries_s": round(rate) for name, rate in found.items()}
    for name in ("single", "batched"):
        result[f"discover_over_{name}"] = round(found["discover"] / found[name], 2)
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def _queries(bundle: Bundle) -> list[Query]:
    """All queries of a discovery, in a random order of fixed seed."""
    options = DiscoveryOptions()
    asked_Q2 = np.concatenate(list(Work(bundle, options).pieces()))
    order = np.random.default_rng(0).permutation(len(asked_Q2))
    return [Query(entity, relation, options.k) for entity, relation in asked_Q2[order].tolist()]


def _some(asked: list[Query], number: int) -> list[Query]:
    """The first ``number`` queries, repeated from the start where there are fewer."""
    return [asked[place % len(asked)] for place in range(number)]


def _rate(scorer: Scorer, queries: list[Query], size: int) -> float:
    """Queries a second in batches of ``size``, with an ``Answer`` for each query."""
    started = perf_counter()
    for start in range(0, len(queries), size):
        list(scorer.answer(queries[start : start + size]))
    return len(queries) / (perf_counter() - started)


def _discovered(bundle: Bundle) -> float:
    """Queries a second of a whole discovery."""
    with TemporaryDirectory() as folder:
        summary = discover(bundle, DiscoveryOptions(), DiscoveryFile(Path(folder) / "facts.jsonl"))
    assert summary is not None
    return float(summary["queries_per_s"])


if __name__ == "__main__":
    main()
