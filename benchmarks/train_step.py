"""One training step of ours beside the plain code of ``plain_momok.py``: same weights, batch and loss (BCE).

    python benchmarks/train_step.py [--shape mkg-y|db15k|db15k-uniform] [--rounds 5] [--json]

``speedup_*`` are ratios of median step times; ``loss_difference`` is that of the losses with dropout and
noise off. ``peak_memory_ratio`` is ours over plain in float32, without what the imports take, in processes
whose allocator gives each large tensor a mapping of its own, so that resident memory is what is in use;
``peak_resident_ratio`` is that of the processes that were timed, holes between tensors included.

The roof is what the step cannot do without: its products at the rate of one large product, and each
parameter's traffic in the optimiser at the speed of a copy, both measured in turn with the steps.
``over_roof_*`` is the step over it.
"""

from __future__ import annotations

import json
import os
import sys
import timeit
from collections.abc import Callable
from typing import Any

import torch
from models import NAMES, NUM_EXPERTS, WIDTH, momok
from side_by_side import Side, parser_of, peak_bytes, show, take_turns

SHAPES = {"mkg-y": (15_000, 28), "db15k": (12_842, 279), "db15k-uniform": (12_842, 279)}
SKEW = {"db15k": 1.2}
"""Relations are drawn with weights rank^-skew. 1,024 of DB15K's train queries hold 198 to 212 distinct
relations, so drawn 201; drawn evenly it would be 470."""
BATCH = 1024
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="mkg-y")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        return _side(arguments.side, arguments.shape)
    options = ("--shape", arguments.shape, "--threads", str(arguments.threads))
    names = ("plain", *PRECISIONS, *(f"roof-{precision}" for precision in PRECISIONS))
    sides = {name: Side(__file__, name, *options) for name in names}
    for _ in range(arguments.rounds):
        for side in sides.values():
            side.turn()
    ends = {name: side.end() for name, side in sides.items()}
    for name in ("plain", "float32"):
        side = Side(__file__, name, *options, MALLOC_MMAP_THRESHOLD_="1000000", KEEP_MEMORY="no")
        side.turn()
        ends[f"{name} in use"] = side.end()
    result = _compare(sides, ends)
    result = {"shape": arguments.shape, "threads": arguments.threads, **result}
    return show(result, arguments.json)


def _compare(sides: dict[str, Side], ends: dict[str, dict[str, Any]]) -> dict[str, Any]:
    plain = sides["plain"]
    result: dict[str, Any] = {"plain_s": plain.median()}
    for precision in PRECISIONS:
        ours, roof = sides[precision], sides[f"roof-{precision}"]
        result |= {
            f"{precision}_s": ours.median(),
            f"speedup_{precision}": plain.median() / ours.median(),
            f"roof_{precision}_s": roof.median(),
            f"over_roof_{precision}": ours.median() / roof.median(),
        }
    quiet = {name: side.facts["quiet_loss"] for name, side in sides.items() if "quiet_loss" in side.facts}
    return result | {
        "over_roof": result["over_roof_float32"],
        "peak_memory_ratio": ends["float32 in use"]["peak_bytes"] / ends["plain in use"]["peak_bytes"],
        "peak_resident_ratio": ends["float32"]["peak_bytes"] / ends["plain"]["peak_bytes"],
        "plain_peak_gb": ends["plain in use"]["peak_bytes"] / 1e9,
        "loss_difference": abs(quiet["float32"] - quiet["plain"]),
        "loss_difference_bfloat16": abs(quiet["bfloat16"] - quiet["plain"]),
        "necessary_gflop": sides["roof-float32"].facts["gflop"],
    }


def _side(name: str, shape: str) -> None:
    from plain_momok import PlainMoMoK, loss
    from torch.optim import Adam

    from momok.training.fit.precision import products_in
    from momok.training.memory import keep_freed_memory
    from momok.training.objectives.kinds import build_objective, parse_objective

    before = peak_bytes()
    model, batch = make_model(shape), make_batch(shape)
    if name.startswith("roof"):
        return _roof(model, batch, name.removeprefix("roof-"), before)
    if name == "plain":
        plain = PlainMoMoK(model)
        optimizer = Adam(model.parameters(), lr=1e-4)

        def value() -> torch.Tensor:
            return loss(plain(batch.entity, batch.relation), batch)
    else:
        if os.environ.get("KEEP_MEMORY") != "no":
            keep_freed_memory()
        config = parse_objective("momok", {"loss": "bce", "club_weight": 0})
        objective = build_objective(model, config, no_facts(model))
        optimizer = Adam(model.parameters(), lr=1e-4, fused=True)

        def value() -> torch.Tensor:
            with products_in("bfloat16" if name == "bfloat16" else "float32", torch.device("cpu")):
                return objective.loss(model, batch).total

    model.eval()
    with torch.no_grad():
        quiet_loss = value().item()
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        total = value()
        total.item()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    take_turns(step, {"quiet_loss": quiet_loss}, before)
    return None


def _roof(model: Any, batch: Any, precision: str, before: int) -> None:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    flop = necessary_flop(model, batch)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_entities = model.config.num_entities
    query = torch.randn(BATCH, WIDTH).to(dtype)
    table, out = torch.randn(WIDTH, num_entities).to(dtype), torch.empty(BATCH, num_entities, dtype=dtype)
    source, target = torch.zeros(1 << 26), torch.zeros(1 << 26)
    product_flop = 2 * BATCH * WIDTH * num_entities
    # Adam reads weight, gradient and two moments and writes all but the gradient, which was written before.
    traffic_bytes = 8 * 4 * num_parameters

    def product() -> None:
        torch.mm(query, table, out=out)

    def copy() -> None:
        target.copy_(source)

    def best(work: Callable[[], object]) -> float:
        return min(timeit.repeat(work, number=1, repeat=10))

    print(json.dumps({"gflop": flop / 1e9}), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(json.dumps({"peak_bytes": peak_bytes() - before}), flush=True)
            return
        seconds = best(product) * flop / product_flop + best(copy) * traffic_bytes / (8 * source.numel())
        print(json.dumps({"seconds": seconds}), flush=True)


def necessary_flop(model: Any, batch: Any) -> int:
    """Of forward and twice as much backward: scores, both sides' experts and fusion, and Tucker cores."""
    num_entities, num_used = model.config.num_entities, len(batch.relation.unique())
    size = len(batch.relation)
    modalities, branches = len(NAMES), len(NAMES) + 1
    relation_width = model.config.relation_width
    attentions = model.config.num_attentions
    square = 2 * WIDTH * WIDTH
    forward = 2 * size * num_entities * WIDTH * branches
    forward += (num_entities + size) * square * modalities * (NUM_EXPERTS + attentions)
    forward += num_used * relation_width * square * branches + size * square * branches
    return int(3 * forward)


def no_facts(model: Any) -> Any:
    """A filter index without an answer: 1-to-N losses read none."""
    from momok.model.filter_index import FilterIndex

    counts = {"num_entities": model.config.num_entities, "num_relations": model.config.num_relations}
    return FilterIndex.from_facts({}, **counts)


def make_model(shape: str) -> Any:
    return momok(*SHAPES[shape])


def make_batch(shape: str, size: int = BATCH) -> Any:
    from momok.training.objectives.batches import Batch

    generator = torch.Generator().manual_seed(1)
    num_entities, num_relations = SHAPES[shape]

    def ids(limit: int) -> torch.Tensor:
        return torch.randint(limit, (size,), generator=generator)

    weights = torch.arange(1, 2 * num_relations + 1, dtype=torch.float64) ** -SKEW.get(shape, 0)
    relation_B = torch.multinomial(weights, size, replacement=True, generator=generator)
    return Batch(ids(num_entities), relation_B, torch.arange(size), ids(num_entities))


if __name__ == "__main__":
    main()
