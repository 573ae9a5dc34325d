"""Queries through the Retriever beside a bare scan of the same table, in turn, in one process.

    python benchmarks/retrieval.py [--entities 15000 | --bundle DIR] [--decision sum] [--table clustered]
                                   [--index ivf] [--device cuda] [--json]

The bare scan is one float32 product with every candidate and torch's topk: no proof, no ties, no float64, and
for ``mean_sigmoid`` no sigmoids either. Batch 1 stands beside a matrix-vector product, larger ones beside a
matrix product. ``<engine>_<batch>`` is the median time of a batch over that of the bare scan.
``bandwidth_<engine>`` is the share of the speed at which the same bytes are read by one sum, with one query;
``sgemm_<engine>`` the share of the rate of one large product, with 256. ``proven_<batch>`` is the share of
queries that the exact index proves.

``--index`` builds an approximate index as `momok export` would, tuned on queries of its own: ``recall``,
``build_s``, ``memory`` (table and index over the table), and ``<scan>_over_index_<batch>``, how many times as
fast it is as the scans. ``--bundle`` takes tables and held-out queries of a bundle that was trained. Where
its scores are distances of rotations, the bare scan makes those, and only the scan in float32 stands beside
it.

Tables: ``gaussian``; ``clustered`` about centres that the branches share; ``correlated``, clustered and the
branches nearly copies of one another; ``adversarial``, where the branches' orders are opposed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from momok.model.bundle.bundle import Bundle
from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.ranking import Rankings
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.rotation import distance
from momok.model.scorer import table_of
from momok.model.scores import FUSIONS, Branch, Decision
from momok.training.export.indexing import build_index

BRANCHES = [Branch(name, 256) for name in ("structure", "text", "image", "joint")]
ENGINES: tuple[EngineName, ...] = ("scan", "scan-bfloat16", "scan-int8", "faiss")
TABLES = ("gaussian", "clustered", "correlated", "adversarial")
BATCHES = (1, 32, 256)
K = 10
NONE = np.empty(0, dtype=np.int64)
Vectors = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=15000)
    parser.add_argument(
        "--bundle", type=Path, help="instead of made-up tables; decision and queries are its own"
    )
    parser.add_argument("--decision", choices=("sum", "mean_sigmoid"), default="sum")
    parser.add_argument("--table", choices=TABLES, default="clustered")
    parser.add_argument("--index", help="kind and parameters, as of momok export")
    parser.add_argument("--device", default="cpu", help="where everything is timed: cpu or cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table, decision, asked = _of_bundle(arguments.bundle) if arguments.bundle else _made_up(arguments)
    result: dict[str, object] = {"table": str(arguments.bundle or arguments.table), "decision": decision}
    result |= {"entities": len(table), "width": table.joined_NX.shape[1]}
    device = torch.device(arguments.device)
    result |= {"device": str(device), "threads": torch.get_num_threads()}
    fusion, chosen = FUSIONS[decision], list(arguments.engines)
    if decision != "sum":
        chosen.remove("faiss")
    if rotates := decision == "single":
        chosen = ["scan"]
    engines = {name: Engines(table, fusion, device=device, engine=name) for name in chosen}
    retrievers = {name: Retriever(table, fusion, made) for name, made in engines.items()}
    if arguments.index:
        held = {name: rows[256:] for name, rows in asked.items()}
        spec = IndexSpec.parse(arguments.index, len(table))
        index, info = build_index(table, spec, held, show_progress=False)
        made = Engines(table, fusion, device=device, engine="faiss", index=index)
        retrievers["index"] = Retriever(table, fusion, made)
        result |= info.model_dump()
        per_entity = 4 * table.joined_NX.shape[1]
        result["memory"] = 1 + info.bytes_per_entity / per_entity
    for retriever in retrievers.values():
        retriever.measure({name: rows[:256] for name, rows in asked.items()})
    for size in BATCHES:
        result |= _compare(
            table, retrievers, {name: rows[:size] for name, rows in asked.items()}, arguments.rounds, rotates
        )
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def _compare(
    table: EntityTable,
    retrievers: dict[str, Retriever],
    query: Vectors,
    rounds: int,
    rotates: bool,
) -> dict[str, object]:
    """The ratios of one size of batch."""
    device = retrievers["scan"].engines.scan.kernel.device
    joined_NX = torch.from_numpy(table.joined_NX).to(device)
    joined_BX = torch.from_numpy(table.join(query)).to(device)
    size = len(joined_BX)
    bare = _bare_distances if rotates else _bare
    works: dict[str, Callable[[], object]] = {"bare": lambda: bare(joined_NX, joined_BX)}
    works |= {} if rotates else {"limit": lambda: _limit(joined_NX, joined_BX)}
    works |= {name: partial(retriever.top_k, query, _wanted(size)) for name, retriever in retrievers.items()}
    seconds = _take_turns(works, rounds if size < 256 else max(rounds // 4, 2))
    result: dict[str, object] = {f"bare_ms_{size}": 1e3 * seconds["bare"]}
    result |= {f"{name}_{size}": seconds[name] / seconds["bare"] for name in retrievers}
    scans = [name for name in retrievers if name.startswith("scan")]
    if size in (1, 256) and not rotates:
        limit = "bandwidth" if size == 1 else "sgemm"
        result |= {f"{limit}_{name}": seconds["limit"] / seconds[name] for name in scans}
    rankings = {name: retriever.top_k(query, _wanted(size)) for name, retriever in retrievers.items()}
    exact = [_ids(found) for name, found in rankings.items() if name != "index"]
    assert all(ids == exact[0] for ids in exact), "engines disagree"
    if "faiss" in rankings:
        proven = sum(ranking.engine.startswith("faiss") for ranking in rankings["faiss"])
        result[f"proven_{size}"] = proven / size
    if "index" in rankings:
        result |= {f"{name}_over_index_{size}": seconds[name] / seconds["index"] for name in ("bare", *scans)}
        result[f"scanned_after_all_{size}"] = sum(ranking.exact for ranking in rankings["index"]) / size
    return result


def _bare(joined_NX: torch.Tensor, query_BX: torch.Tensor) -> object:
    if len(query_BX) == 1:
        return torch.mv(joined_NX, query_BX[0]).topk(K)
    return (query_BX @ joined_NX.T).topk(K, dim=1)


def _bare_distances(joined_NX: torch.Tensor, query_BX: torch.Tensor) -> object:
    return distance(query_BX, joined_NX).topk(K, dim=1, largest=False)


def _limit(joined_NX: torch.Tensor, query_BX: torch.Tensor) -> object:
    """One read of the table, or one product of as many operations in a shape that libraries like best."""
    if len(query_BX) == 1:
        return joined_NX.sum()
    return [query_BX @ joined_NX[start : start + 4096].T for start in range(0, len(joined_NX), 4096)]


def _wanted(size: int) -> list[Selection]:
    return [Selection(K, NONE)] * size


def _ids(rankings: Rankings) -> list[list[int]]:
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
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _of_bundle(path: Path) -> tuple[EntityTable, Decision, Vectors]:
    """The table of a bundle, and queries of its test split."""
    bundle = Bundle.open(path)
    facts = bundle.known.facts("test")
    chosen = facts[np.linspace(0, len(facts) - 1, min(768, len(facts))).astype(int)]
    with torch.inference_mode():
        query = bundle.model.encode(torch.from_numpy(chosen[:, 0]), torch.from_numpy(chosen[:, 1])).query
    asked = {name: rows.numpy() for name, rows in query.items()}
    return table_of(bundle.model, bundle.candidates), bundle.model.decision, asked


def _made_up(arguments: argparse.Namespace) -> tuple[EntityTable, Decision, Vectors]:
    random = np.random.default_rng(0)
    number, width = arguments.entities, sum(branch.width for branch in BRANCHES)
    joined_NX = np.empty((number, width), dtype=np.float32)
    columns = [slice(256 * place, 256 * (place + 1)) for place in range(len(BRANCHES))]
    centre_N = random.integers(0, max(number // 50, 1), size=number)
    for place, part in enumerate(columns):
        if arguments.table == "correlated" and place:
            joined_NX[:, part] = joined_NX[:, columns[0]]
            joined_NX[:, part] += 0.2 * _normal(random, number, 256) / 16
        elif arguments.table == "gaussian":
            joined_NX[:, part] = _normal(random, number, 256) / 16
        elif arguments.table == "adversarial" and place % 2:
            joined_NX[:, part] = -joined_NX[:, columns[place - 1]] + 0.1 * _normal(random, number, 256) / 16
        else:
            joined_NX[:, part] = 0.6 * _normal(random, number, 256) / 16
            joined_NX[:, part] += 0.8 * _normal(random, int(centre_N.max()) + 1, 256)[centre_N] / 16
    # Near an entity, as queries are that have an answer.
    chosen = random.integers(0, number, size=768)
    near_QX = 4 * joined_NX[chosen] + _normal(random, 768, width) / 16
    asked = {branch.name: near_QX[:, part] for branch, part in zip(BRANCHES, columns, strict=True)}
    return EntityTable(BRANCHES, joined_NX), arguments.decision, asked


def _normal(random: np.random.Generator, rows: int, width: int) -> np.ndarray:
    return random.standard_normal((rows, width), dtype=np.float32)


if __name__ == "__main__":
    main()
