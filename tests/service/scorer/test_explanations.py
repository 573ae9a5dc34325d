"""What answers say of themselves is what would be told of each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from momok.model.answer import Answers, Query
from momok.model.explanation import Explanations, explanation_out
from momok.model.retrieval.ranking import Rankings
from momok.service.scorer.explanations import ExplanationWriter

NAMES = ("structure", 'say "%b" %% \\', "東京")
GATED = {"structure": 2, "東京": 5}


def answers(size: int, *, gated: bool = True, heat: bool = True, seed: int = 0) -> Answers:
    random = np.random.default_rng(seed)
    explanations = Explanations(
        (10.0 ** random.uniform(-9, 0, (size, len(NAMES)))).astype(np.float32),
        {name: random.random((size, width), np.float32) for name, width in GATED.items() if gated},
        {name: random.choice([True, False], size).tolist() for name in NAMES},
        random.random(size, np.float32).tolist() if heat else None,
    )
    nothing = np.empty(0)
    exact, engines = random.choice([True, False], size).tolist(), random.choice(["scan", "faiss-ivf"], size)
    rankings = Rankings(
        [0] * (size + 1), nothing.astype(int), nothing, nothing[:, None], exact, engines.tolist()
    )
    return Answers([Query(0, 0, 1)] * size, rankings, explanations, [0] * size, {})


def one_by_one(given: Answers, explain: bool) -> list[bytes]:
    found = []
    for row, ranking in enumerate(given.rankings):
        told = explanation_out(NAMES, given.explanations[row])
        fields = told if explain else dict.fromkeys(told)
        found.append(orjson.dumps({**fields, "exact": ranking.exact, "engine": ranking.engine})[1:])
    return found


@pytest.mark.parametrize("explain", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("heat", [True, False])
def test_a_batch_is_written_as_one_by_one(explain: bool, gated: bool, heat: bool) -> None:
    writer = ExplanationWriter(NAMES)
    for seed, size in enumerate((40, 1, 200)):  # What is kept of one batch serves the next.
        given = answers(size, gated=gated, heat=heat, seed=seed)
        assert list(writer.write(given, explain)) == one_by_one(given, explain)


def test_explained_or_not_by_turns() -> None:
    writer, given = ExplanationWriter(NAMES), answers(3)
    for explain in (True, False, True):
        assert list(writer.write(given, explain)) == one_by_one(given, explain)


@pytest.mark.parametrize("rows", [[2, 0], [1], [0, 1, 2, 3]])
def test_trust_of_some_rows(rows: Sequence[int]) -> None:
    explanations = answers(4).explanations
    for place, row in enumerate(rows):
        assert explanation_out(NAMES, explanations.taken(rows)[place]) == explanation_out(
            NAMES, explanations[row]
        )
