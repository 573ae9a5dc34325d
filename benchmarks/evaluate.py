"""Filtered ranking of ours beside the plain evaluator of ``plain_momok.py``: same model, same queries.

    python benchmarks/evaluate.py [--queries 5326] [--rounds 5] [--json]

At MKG-Y's shapes, as many queries as its test, ``mean_sigmoid``. ``speedup`` is the ratio of the median times
a query; ``over_gemm`` is ours over nothing but the products of the queries with the branches' tables, in the
same run. ``same_ranks`` is the share of queries that both rank alike: the plain evaluator breaks ties as its
sort leaves them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from models import momok
from side_by_side import Side, parser_of, peak_bytes, show, take_turns

NUM_ENTITIES, NUM_RELATIONS, NUM_FACTS = 15_000, 28, 26_638
NUM_TEST, PLAIN_QUERIES = 4096, 1024
TAIL_SKEW = 0.94
SIDES = ("plain", "ours", "gemm")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--queries", type=int, default=5326, help="of ours; the plain side takes 1024")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        return _side(arguments.side, arguments.queries)
    options = ("--queries", str(arguments.queries), "--threads", str(arguments.threads))
    sides = {name: Side(__file__, name, *options) for name in SIDES}
    for _ in range(arguments.rounds):
        for side in sides.values():
            side.turn()
    per_query = {name: side.median() / side.facts["queries"] for name, side in sides.items()}
    ranks = {name: np.array(sides[name].facts["ranks"]) for name in ("plain", "ours")}
    for side in sides.values():
        side.end()
    result = {
        "threads": arguments.threads,
        **{f"{name}_ms_per_query": 1e3 * seconds for name, seconds in per_query.items()},
        "speedup": per_query["plain"] / per_query["ours"],
        "over_gemm": per_query["ours"] / per_query["gemm"],
        "same_ranks": float((ranks["plain"] == ranks["ours"][: len(ranks["plain"])]).mean()),
    }
    return show(result, arguments.json)


def _side(name: str, num_queries: int) -> None:
    from plain_momok import PlainMoMoK, ranks

    from momok.model.filter_index import FilterIndex
    from momok.training.evaluation.gate_statistics import GateStatistics
    from momok.training.evaluation.ranking import rank_facts
    from momok.training.memory import keep_freed_memory

    before = peak_bytes()
    model, facts = momok(NUM_ENTITIES, NUM_RELATIONS, decision="mean_sigmoid").eval(), _facts()
    known = FilterIndex.from_facts(facts, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)
    asked = facts["test"][: num_queries // 2]
    if name == "gemm":
        keep_freed_memory()
        query = torch.randn(num_queries, 256)
        tables = [torch.randn(NUM_ENTITIES, 256).T for _ in model.branches]

        def products() -> None:
            for part in torch.split(query, 256):
                for table in tables:
                    part @ table

        return take_turns(products, {"queries": num_queries}, before)
    if name == "plain":
        plain = PlainMoMoK(model)
        head, relation, tail = asked[:PLAIN_QUERIES].T

        def rank() -> np.ndarray:
            return ranks(plain, head, relation, tail, known)

        return take_turns(rank, {"queries": len(head), "ranks": rank().tolist()}, before)
    keep_freed_memory()
    with torch.no_grad():
        table = model.entity_table()

    def ours() -> Any:
        return rank_facts(model, asked, known, table=table, statistics=GateStatistics(model))

    return take_turns(ours, {"queries": 2 * len(asked), "ranks": ours().tail.tolist()}, before)


def _facts() -> dict[str, np.ndarray]:
    """As uneven as MKG-Y's: 88 % of the queries of its test are distinct."""
    random = np.random.default_rng(0)
    relation = random.choice(NUM_RELATIONS, size=NUM_FACTS, p=_weights(NUM_RELATIONS, 1.0))
    head = random.integers(0, NUM_ENTITIES, size=NUM_FACTS)
    tail = random.choice(NUM_ENTITIES, size=NUM_FACTS, p=_weights(NUM_ENTITIES, TAIL_SKEW))
    facts = np.unique(np.stack([head, relation, tail], axis=1), axis=0)
    random.shuffle(facts)
    return {"train": facts[:-NUM_TEST], "test": facts[-NUM_TEST:]}


def _weights(number: int, skew: float) -> np.ndarray:
    weights = np.arange(1, number + 1) ** -skew
    shares: np.ndarray = weights / weights.sum()
    return shares


if __name__ == "__main__":
    main()
