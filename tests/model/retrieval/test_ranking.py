"""Rankings as columns are what a list of rankings would be."""

from __future__ import annotations

import numpy as np
import pytest

from momok.model.retrieval.ranking import Ranking, Rankings


def some(*counts: int, seed: int = 0) -> Rankings:
    random, total = np.random.default_rng(seed), sum(counts)
    scores = [np.sort(random.normal(size=count))[::-1] for count in counts]
    return Rankings(
        np.cumsum([0, *counts]).tolist(),
        random.permutation(1000)[:total],
        np.concatenate([*scores, np.empty(0)]),
        random.normal(size=(total, 3)),
        [row % 2 == 0 for row in range(len(counts))],
        [f"engine{row}" for row in range(len(counts))],
    )


def plain(rankings: Rankings | list[Ranking]) -> list[tuple[object, ...]]:
    return [
        (r.entities.tolist(), r.scores.tolist(), r.branch_values.tolist(), r.exact, r.engine)
        for r in rankings
    ]


def test_each_has_what_lies_between_its_bounds() -> None:
    rankings = some(2, 0, 3)
    assert (len(rankings), rankings.counts) == (3, [2, 0, 3])
    assert rankings[2].entities.tolist() == rankings.entities[2:].tolist()
    assert rankings[-1].engine == "engine2"
    assert [(r.exact, len(r.scores)) for r in rankings] == [(True, 2), (False, 0), (True, 3)]
    assert rankings[1].branch_values.shape == (0, 3)
    with pytest.raises(IndexError):
        rankings[3]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 0], [1], [2, 2, 1], [], [1, 2, 3, 0], [0, 1]])
def test_some_are_taken_in_any_order(rows: list[int]) -> None:
    rankings = some(2, 0, 3, 1)
    assert plain(rankings.taken(rows)) == [plain(rankings)[row] for row in rows]


def test_parts_are_joined() -> None:
    parts = [some(2, 0), some(0), some(1, 4, seed=3)]
    assert plain(Rankings.joined(parts)) == [row for part in parts for row in plain(part)]


def test_those_that_score_enough() -> None:
    rankings = some(5, 0, 4, 3, 2)
    least = [float(rankings[0].scores[2]), 0.0, None, 1e9, -1e9]
    enough = rankings.at_least(least)
    assert enough.counts == [3, 0, 4, 0, 2], "as much is enough"
    for row, found in enumerate(enough):
        (expected,) = plain(rankings.taken([row]))
        kept = enough.counts[row]
        assert found.entities.tolist() == rankings[row].entities[:kept].tolist()
        assert found.branch_values.tolist() == rankings[row].branch_values[:kept].tolist()
        assert (found.exact, found.engine) == expected[3:]
    assert rankings.at_least([None] * 5) is rankings
