"""Queries through the Retriever beside a bare scan of the same table, in turn, in one process.

    python benchmarks/retrieval.py [--entities 15000] [--decision sum] [--table gaussian|clustered] [--json]

The bare scan is one float32 product with every candidate and torch's topk: no proof, no ties, no float64, and
for ``mean_sigmoid`` no sigmoids either. Batch 1 stands beside a matrix-vector product, larger ones beside a
matrix product. ``<engine>_<batch>`` is the median time of a batch over that of the bare scan;
``scan_bandwidth`` is the share of the speed of a read of the same table at which one query is scanned.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch

from model.engine import EngineName, Engines
from model.predictor import Branch
from model.retrieval import Retriever
from model.selection import Selection
from model.table import EntityTable

BRANCHES = [Branch(name, 256) for name in ("structure", "text", "image", "joint")]
ENGINES: tuple[EngineName, ...] = ("scan", "faiss")
BATCHES = (1, 32, 256)
K = 10
NOBODY = np.empty(0, dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=15000)
    parser.add_argument("--decision", choices=("mean_sigmoid", "sum"), default="sum")
    parser.add_argument("--table", choices=("gaussian", "clustered"), default="clustered")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    vectors = _vectors(random, arguments.entities, clustered=arguments.table == "clustered")
    table = EntityTable(BRANCHES, vectors)
    retrievers = {
        name: Retriever(table, arguments.decision, Engines(table, arguments.decision, engine=name))
        for name in arguments.engines
    }
    joined = torch.from_numpy(table.joined_NX)
    result: dict[str, object] = {"entities": len(table), "width": joined.shape[1], "table": arguments.table}
    result |= {"decision": arguments.decision, "threads": torch.get_num_threads()}
    for retriever in retrievers.values():
        retriever.engines.scan.warm()
    for size in BATCHES:
        query = _queries(random, vectors, size)
        works = {"bare": _bare(joined, torch.from_numpy(table.join(query)))}
        works |= {name: _answers(retriever, query, size) for name, retriever in retrievers.items()}
        if size == 1:
            works["read"] = lambda: joined.sum()
        seconds = _take_turns(works, arguments.rounds if size < 256 else max(arguments.rounds // 4, 2))
        result[f"bare_ms_{size}"] = 1e3 * seconds["bare"]
        result |= {f"{name}_{size}": seconds[name] / seconds["bare"] for name in retrievers}
        rankings = [retriever.top_k(query, _wanted(size)) for retriever in retrievers.values()]
        assert all(_ids(found) == _ids(rankings[0]) for found in rankings[1:]), "engines disagree"
        if "faiss" in retrievers:
            searched = [ranking.depth for ranking in rankings[-1] if ranking.depth]
            result[f"certified_{size}"] = len(searched) / size
            result[f"depth_{size}"] = statistics.median(searched) if searched else None
        if size == 1 and "scan" in seconds:
            result["scan_bandwidth"] = seconds["read"] / seconds["scan"]
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def _bare(joined_NX: torch.Tensor, query_BX: torch.Tensor) -> Callable[[], object]:
    def scan() -> object:
        if len(query_BX) == 1:
            return torch.mv(joined_NX, query_BX[0]).topk(K)
        return (query_BX @ joined_NX.T).topk(K, dim=1)

    return scan


def _answers(retriever: Retriever, query: dict[str, np.ndarray], size: int) -> Callable[[], object]:
    return lambda: retriever.top_k(query, _wanted(size))


def _wanted(size: int) -> list[Selection]:
    return [Selection(K, NOBODY)] * size


def _ids(rankings: list) -> list[list[int]]:
    return [ranking.entities.tolist() for ranking in rankings]


def _take_turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, run one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            started = perf_counter()
            work()
            seconds[name].append(perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _vectors(random: np.random.Generator, number: int, *, clustered: bool) -> dict[str, np.ndarray]:
    """Unit-length rows; clustered ones lie about centres that all branches share."""
    if not clustered:
        return {branch.name: _normal(random, number, branch.width) / 16 for branch in BRANCHES}
    centre_N = random.integers(0, max(number // 50, 1), size=number)
    return {
        branch.name: (
            0.8 * _normal(random, int(centre_N.max()) + 1, branch.width)[centre_N]
            + 0.6 * _normal(random, number, branch.width)
        )
        / 16
        for branch in BRANCHES
    }


def _queries(random: np.random.Generator, vectors: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Near somebody, as queries are that have an answer."""
    chosen = random.integers(0, len(next(iter(vectors.values()))), size=size)
    return {
        name: 4 * rows[chosen] + _normal(random, size, rows.shape[1]) / 16 for name, rows in vectors.items()
    }


def _normal(random: np.random.Generator, rows: int, width: int) -> np.ndarray:
    return random.standard_normal((rows, width), dtype=np.float32)


if __name__ == "__main__":
    main()
