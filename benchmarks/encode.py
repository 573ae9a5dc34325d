"""Encoding queries of relations that were asked before, beside scans of the candidates, in one process.

    python benchmarks/encode.py [--entities 15000] [--threads 2] [--json]

MoMoK of three modalities and ``joint``, all 256 wide, 3 experts. The bare scan is one float32 product of the
query vectors with every candidate's, the engine's (``Scan``) finds in float32 every candidate that may be
among the best ten. They take turns; ``ratio`` is the median over rounds of (encode / bare scan),
``ratio_of_engine`` of (encode / engine's scan). ``plain_ms`` is the model's own ``encode``, which folds
nothing, in a few rounds of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from models import momok

from momok.model.networks.momok import MoMoK
from momok.model.networks.relation_cache import RelationCache
from momok.model.retrieval.kernel import Float32Kernel
from momok.model.retrieval.scan import Scan
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS

NUM_RELATIONS, K = 28, 10
BATCHES = (1, 32, 256)
PLAIN_ROUNDS = 5
WARM_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=15000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=200, help="of one query; larger batches take fewer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = momok(arguments.entities, NUM_RELATIONS).eval()
    side = model.inference_encoder()
    folded = RelationCache(side, budget_bytes=1 << 30)
    folded.warm(range(2 * NUM_RELATIONS))
    rows = {b.name: torch.randn(arguments.entities, b.width).numpy() for b in model.branches}
    table = EntityTable.of(model.branches, rows)
    scan = Scan(Float32Kernel(table, FUSIONS["sum"]))
    table_NX = torch.from_numpy(table.joined_NX)
    results: dict[str, object] = {"entities": arguments.entities, "threads": arguments.threads}
    with torch.inference_mode():
        for size in BATCHES:
            rounds = max(PLAIN_ROUNDS, arguments.rounds // size**0.5)
            results[f"batch_{size}"] = _compare(model, folded, table_NX, scan, size, int(rounds))
    assert not folded.misses
    print(json.dumps(results) if arguments.json else "\n".join(f"{k}: {v}" for k, v in results.items()))


def _compare(
    model: MoMoK, folded: RelationCache, table_NX: torch.Tensor, scan: Scan, size: int, rounds: int
) -> dict[str, float]:
    times: dict[str, list[float]] = {"encode": [], "scan": [], "engine": []}
    wanted = [Selection(K, np.empty(0, dtype=np.int64))] * size
    for _ in range(WARM_ROUNDS + rounds):
        entity_B = torch.randint(model.config.num_entities, (size,))
        relation_B = torch.randint(2 * NUM_RELATIONS, (size,))
        started = perf_counter()
        encoding = folded.encode(entity_B, relation_B)
        between = perf_counter()
        joined_BX = torch.cat(list(encoding.query.values()), dim=1)
        _ = table_NX @ joined_BX[0] if size == 1 else joined_BX @ table_NX.T
        scanned = perf_counter()
        folded.encode(entity_B, relation_B)  # Finds caches as the first did.
        again = perf_counter()
        scan.propose(joined_BX.numpy(), wanted)
        times["engine"].append(perf_counter() - again)
        times["encode"].append(between - started)
        times["scan"].append(scanned - between)
    taken = list(zip(*times.values(), strict=True))[WARM_ROUNDS:]
    plain = [_seconds(lambda: model.encode(entity_B, relation_B)) for _ in range(PLAIN_ROUNDS)]
    return {
        "encode_ms": 1e3 * statistics.median(encode for encode, _, _ in taken),
        "scan_ms": 1e3 * statistics.median(bare for _, bare, _ in taken),
        "engine_ms": 1e3 * statistics.median(engine for _, _, engine in taken),
        "ratio": statistics.median(encode / bare for encode, bare, _ in taken),
        "ratio_of_engine": statistics.median(encode / engine for encode, _, engine in taken),
        "plain_ms": 1e3 * statistics.median(plain),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main()
