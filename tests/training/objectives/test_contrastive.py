"""Learning is the same to the last bit every time, with as many threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import ModalityShape, build_model, parse_config
from momok.training.objectives.base import build_objective, parse_objective

NUM_ENTITIES, NUM_RELATIONS, NUM_FACTS = 700, 3, 2000


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def slopes(name: str, facts: np.ndarray) -> dict[str, Tensor]:
    """Of one loss on a large batch, everything made anew."""
    torch.manual_seed(0)
    shapes = (
        ModalityShape(name="structure", input_width=64, width=64, learned=True),
        ModalityShape(name="text", input_width=64, width=64),
    )
    counts = {"num_entities": NUM_ENTITIES, "num_relations": NUM_RELATIONS}
    objective = parse_objective(name, {})
    fields = {"model": name, "modalities": shapes, "decision": objective.paired_decision(), **counts}
    model = build_model(parse_config(fields | ({} if name == "momok" else {"dim": 128})))
    known = FilterIndex.from_facts({"train": facts}, **counts)
    learner = build_objective(model, objective, known)
    batch = next(iter(learner.batches(known, 512).epoch(0, 0)))
    learner.loss(batch).total.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["momok", "adamf", "adamf-mat", "mocme"])
def test_slopes_are_the_same_every_time(name: str) -> None:
    """Threads must not add in any order: a run that goes on would end elsewhere."""
    random = np.random.default_rng(0)
    limits = (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)
    facts = np.unique(np.stack([random.integers(n, size=NUM_FACTS) for n in limits], axis=1), axis=0)
    first = slopes(name, facts)
    assert first
    for _ in range(3):
        again = slopes(name, facts)
        assert again.keys() == first.keys()
        for parameter, slope in first.items():
            assert torch.equal(again[parameter], slope), parameter
