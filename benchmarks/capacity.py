"""What a server answers and holds, by the size of its bundle, its processors and its scoring processes.

    python benchmarks/capacity.py [--entities 1000 15000 150000] [--cores 1 2] [--scorers 1] [--seconds 5]

Bundles are MoMoK with untrained weights: four branches of 256, 28 relations, three facts an entity. For each,
``queries_s`` at saturation (64 connections, eight queries a request, ten candidates), ``p50_ms`` and
``p99_ms`` of requests of one query, as many a second as those of eight at saturation, and ``memory_mb``:
proportional resident memory of the server and its scoring processes together, after all that. Clients run on
the same processors. With ``--json``, one object at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from load import lua, open_loop, percentile, wrk
from models import momok
from serve import questions, started

from momok.model.answer import Query
from momok.model.bundle.bundle import read_catalogue
from momok.model.bundle.manifest import BranchShape, GoldenQuery, IndexInfo, Manifest
from momok.model.bundle.names import Names
from momok.model.bundle.vocabulary import write_vocabulary
from momok.model.bundle.writer import save_bundle
from momok.model.filter_index import FilterIndex
from momok.model.scorer import Scorer

RELATIONS, QUERIES = 28, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, nargs="+", default=[1_000, 15_000, 150_000])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scorers", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in arguments.entities:
            bundle, bodies = make_bundle(Path(folder) / str(number), number)
            for cores in arguments.cores:
                for scorers in arguments.scorers:
                    found = measured(bundle, bodies, cores, scorers, arguments.seconds)
                    rows.append({"entities": number, "cores": cores, "scorers": scorers, **found})
                    if not arguments.json:
                        print(" ".join(f"{name}={value:g}" for name, value in rows[-1].items()), flush=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))


def measured(
    bundle: Path, bodies: tuple[list[bytes], list[bytes]], cores: int, scorers: int, seconds: float
) -> dict[str, float]:
    several, single = bodies
    script = bundle.with_suffix(".lua")
    script.write_text(lua(several), encoding="utf-8")
    command = ["-m", "momok", "serve", bundle, "--port", 0, "--device", "cpu", "--log-level", "warning"]
    within = ["taskset", "--cpu-list", f"0-{cores - 1}"]
    with started(*command, "--scorers", scorers, within=within) as (url, pid):
        wrk(f"{url}/v1/predict", script, min(seconds, 3))  # Relations are folded and cached.
        rate = wrk(f"{url}/v1/predict", script, seconds)
        replies = open_loop(url, single, rate, seconds)
        memory = sum(map(proportional_bytes, [pid, *children_of(pid)]))
    return {
        "queries_s": round(rate * QUERIES),
        "p50_ms": round(percentile(replies, 50), 1),
        "p99_ms": round(percentile(replies, 99), 1),
        "memory_mb": round(memory / 1e6),
    }


def children_of(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for threads in lists for child in threads.read_text().split()]


def proportional_bytes(pid: int) -> int:
    """A page that several processes hold counts in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise AssertionError(f"process {pid} has no Pss")


def make_bundle(path: Path, number: int) -> tuple[Path, tuple[list[bytes], list[bytes]]]:
    """The bundle, and bodies of eight queries and of one."""
    torch.manual_seed(0)
    model = momok(number, RELATIONS).eval()
    with torch.inference_mode():
        candidates = model.candidates()
    known = FilterIndex.from_facts(facts(number), num_entities=number, num_relations=RELATIONS)
    answers = Scorer(model, candidates, known).answer([Query(1, 0, 5, False)])
    manifest = Manifest(
        created_at="2026-01-01T00:00:00+00:00",
        name=f"untrained-{number}",
        model=model.config.model_dump(mode="json"),
        branches=[BranchShape.of(branch) for branch in model.branches],
        decision=model.config.decision,
        counts={"entities": number, "relations": RELATIONS},
        fingerprint="0" * 64,
        index=IndexInfo(),
        metrics={},
        golden=[golden(answer) for answer in answers],
        provenance={"command": "benchmarks/capacity.py"},
        files={},
    )
    save_bundle(
        path, model=model, candidates=candidates, known=known, manifest=manifest, pictures={},
        write_names=lambda file: write_names(file, number), check=lambda bundle: None,
    )  # fmt: skip
    catalogue = read_catalogue(path)
    return path, (questions(catalogue, QUERIES), questions(catalogue, 1))


def facts(number: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    ends = random.integers(number, size=(3 * number, 2))
    train = np.column_stack([ends[:, 0], random.integers(RELATIONS, size=3 * number), ends[:, 1]])
    return {"train": train, "valid": train[:10], "test": train[10:20]}


def golden(answer: Any) -> GoldenQuery:
    return GoldenQuery(
        entity=answer.query.entity, relation=answer.query.relation,
        entities=answer.ranking.entities.tolist(), scores=answer.ranking.scores.tolist(),
    )  # fmt: skip


def write_names(file: Path, number: int) -> None:
    keys = [f"e{index}" for index in range(number)]
    relations = [f"r{index}" for index in range(RELATIONS)]
    write_vocabulary(
        file,
        entities=Names("entity", keys, [f"Entity {index}" for index in range(number)]),
        relations=Names("relation", relations, relations),
        descriptions=[""] * number,
        degrees=[3] * number,
        relation_counts=[3] * RELATIONS,
    )


if __name__ == "__main__":
    main()
