"""One query through the Retriever beside a bare scan of the same tables, in turn, in one process.

    python benchmarks/retrieval.py [--entities 15000] [--json]

The bare scan is one float32 product with every candidate and numpy's argpartition: no proof, no ties, no
float64. ``ratio`` is the median over rounds of (Retriever / scan).
"""

from __future__ import annotations

import argparse
import json
import statistics
from time import perf_counter

import numpy as np

from model.predictor import Branch
from model.retrieval import Retriever, Selection

BRANCHES = [Branch(name, 256) for name in ("structure", "text", "image", "joint")]
K = 10
NOBODY = np.empty(0, dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=15000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    table = {b.name: _normal(random, arguments.entities, b.width) for b in BRANCHES}
    joined = np.concatenate(list(table.values()), axis=1)
    retriever = Retriever(BRANCHES, table, "sum")
    times: dict[str, list[float]] = {"retriever": [], "scan": []}
    engines = set()
    for _ in range(arguments.rounds):
        query = {b.name: _normal(random, 1, b.width) for b in BRANCHES}
        started = perf_counter()
        (ranking,) = retriever.top_k(query, [Selection(K, NOBODY)])
        between = perf_counter()
        score_N = joined @ np.concatenate(list(query.values()), axis=1)[0]
        best = np.argpartition(-score_N, K)[:K]
        ended = perf_counter()
        assert set(best.tolist()) == set(ranking.entities.tolist())
        engines.add(ranking.engine)
        times["retriever"].append(between - started)
        times["scan"].append(ended - between)
    ratios = [ours / bare for ours, bare in zip(times["retriever"], times["scan"], strict=True)]
    result = {
        "entities": arguments.entities,
        "width": joined.shape[1],
        "engine": "+".join(sorted(engines)),
        "retriever_ms": 1e3 * statistics.median(times["retriever"]),
        "scan_ms": 1e3 * statistics.median(times["scan"]),
        "ratio": statistics.median(ratios),
    }
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def _normal(random: np.random.Generator, rows: int, width: int) -> np.ndarray:
    return random.standard_normal((rows, width), dtype=np.float32)


if __name__ == "__main__":
    main()
