"""Training on a GPU: step time, share of peak and memory at MKG-Y's and DB15K's shapes.

    python benchmarks/gpu.py [--device cuda] [--batch 1024] [--peak-tflops 989] [--json]

``share_of_peak`` is the necessary FLOPs of a step (see ``train_step.py``) over its time and the peak of
bfloat16 products: 989 TFLOP/s is an H200's without sparsity. ``benchmarks/gpu.sh`` runs this and then the
paper's schedule on three graphs.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.optim import Adam
from train_step import SHAPES, make_batch, make_model, necessary_flop, no_facts

from momok.training.fit.precision import PrecisionName, products_in
from momok.training.objectives.kinds import build_objective, parse_objective


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    results = [
        _measure(shape, precision, device, arguments)
        for shape in SHAPES
        for precision in ("float32", "bfloat16")
    ]
    for result in results:
        print(json.dumps(result) if arguments.json else ", ".join(f"{k} {v}" for k, v in result.items()))


def _measure(
    shape: str, precision: PrecisionName, device: torch.device, arguments: argparse.Namespace
) -> dict[str, Any]:
    model, batch = make_model(shape).to(device).train(), make_batch(shape, arguments.batch).to(device)
    objective = build_objective(model, parse_objective("momok", {}), no_facts(model)).to(device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()

    def step() -> float:
        started = perf_counter()
        with products_in(precision, device):
            loss = objective.loss(model, batch).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        objective.after_step(model)
        loss.item()
        if on_gpu:
            torch.cuda.synchronize()
        return perf_counter() - started

    seconds = median([step() for _ in range(arguments.steps + 3)][3:])
    peak = arguments.peak_tflops * 1e12
    return {
        "shape": shape,
        "precision": precision,
        "device": torch.cuda.get_device_name(device) if on_gpu else str(device),
        "batch": arguments.batch,
        "step_ms": round(1e3 * seconds, 3),
        "share_of_peak": round(necessary_flop(model, batch) / seconds / peak, 4),
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
    }


if __name__ == "__main__":
    main()
