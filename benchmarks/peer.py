"""PyKEEN's own way to answer a query, on a model of equal size: what a user of it has today.

    python benchmarks/peer.py [--entities 15000] [--relations 28] [--width 1024] [--seconds 5] [--json]

Needs the extra ``bench``. The model is DistMult with random weights: its embeddings are as wide as all our
branches together, so that both compare a query with as many numbers, and its training would change no time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from importlib.util import find_spec
from time import perf_counter

import numpy as np
import torch

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=15_000)
    parser.add_argument("--relations", type=int, default=28)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if find_spec("pykeen") is None:
        sys.exit("needs PyKEEN: pip install -c constraints.txt -e '.[bench]'")
    taken_ms = single_ms(arguments.entities, arguments.relations, arguments.width, arguments.seconds)
    print(json.dumps({"pykeen_single_ms": taken_ms}) if arguments.json else f"pykeen_single_ms: {taken_ms}")


def single_ms(num_entities: int, num_relations: int, width: int, seconds: float) -> float:
    """The median time of ``predict_target``, one query at a time, with its ten best."""
    # Its compiled part is of CUDA beside our CPU build of torch; PyKEEN does without it where it is missing.
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from pykeen.models import DistMult
    from pykeen.predict import predict_target
    from pykeen.triples import TriplesFactory

    random = np.random.default_rng(0)
    sizes = (num_entities, num_relations, num_entities)
    facts_F3 = torch.from_numpy(np.stack([random.integers(0, size, 10 * num_entities) for size in sizes], 1))
    entities = {f"e{number}": number for number in range(num_entities)}
    relations = {f"r{number}": number for number in range(num_relations)}
    facts = TriplesFactory(facts_F3, entities, relations)
    model = DistMult(triples_factory=facts, embedding_dim=width, random_seed=0).eval()
    times: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(times) < 5:
        head, relation = f"e{random.integers(num_entities)}", f"r{random.integers(num_relations)}"
        began = perf_counter()
        predict_target(model, head=head, relation=relation, triples_factory=facts).df.head(K)
        times.append(perf_counter() - began)
    return 1e3 * statistics.median(times[1:])


if __name__ == "__main__":
    main()
