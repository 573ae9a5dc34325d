"""Explanations: the part of an answer after its candidates, written for a whole batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from momok.model.answer import Answers
from momok.model.arrays import Float64
from momok.model.explanation import DECIMALS, Explanations
from momok.service.scorer.json_numbers import texts

_NUMBER = orjson.Fragment(b"\0")
"""Where one belongs; JSON has no such byte elsewhere."""


class ExplanationWriter:
    """Writes the fields from ``modality_weights`` on, with the bracket that ends an answer.

    Answers of the same modalities differ in their numbers only. So the rest is written once and kept, and
    the numbers of a batch become text together.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self._modalities = modalities
        self._templates: dict[object, tuple[bytes, int]] = {}

    def write(self, answers: Answers, explain: bool) -> Iterator[bytes]:
        explanations, rankings = answers.explanations, answers.rankings
        present = [explanations.present[name] for name in explanations.expert_gates] if explain else []
        numbers = iter(texts(_numbers(explanations)) if explain else ())
        for alike in zip(rankings.exact, rankings.engines, *present, strict=True):
            if (explain, *alike) not in self._templates:
                self._templates[explain, *alike] = _template(self._shape(explanations, explain, *alike))
            template, count = self._templates[explain, *alike]
            yield template % tuple(islice(numbers, count))

    def _shape(
        self, explanations: Explanations, explain: bool, exact: bool, engine: str, *present: bool
    ) -> Any:
        heat, gates = explanations.relation_temperatures, explanations.expert_gates.items()
        told = {
            name: [_NUMBER] * rows_BK.shape[1] if there else None
            for (name, rows_BK), there in zip(gates if explain else (), present, strict=True)
        }
        return {
            "modality_weights": dict.fromkeys(self._modalities, _NUMBER) if explain else None,
            "expert_gates": told or None,
            "relation_temperature": _NUMBER if explain and heat is not None else None,
            "exact": exact,
            "engine": engine,
        }


def _numbers(explanations: Explanations) -> Float64:
    """All that is told, answer by answer, in the order of the fields."""
    parts = [explanations.modality_weights, *explanations.expert_gates.values()]
    # In float64 rounding is exact, as they are float32: times ten to the power of DECIMALS they still fit.
    columns = [np.concatenate(parts, axis=1).astype(np.float64).round(DECIMALS)]
    told = [np.ones(explanations.modality_weights.shape, dtype=bool)]
    for name, rows_BK in explanations.expert_gates.items():
        told.append(np.broadcast_to(np.array(explanations.present[name])[:, None], rows_BK.shape))
    if explanations.relation_temperatures is not None:
        columns.append(np.array(explanations.relation_temperatures)[:, None])
        told.append(np.ones((len(explanations), 1), dtype=bool))
    numbers: Float64 = np.concatenate(columns, axis=1)[np.concatenate(told, axis=1)]
    return numbers


def _template(shape: Any) -> tuple[bytes, int]:
    """For ``%`` with so many numbers."""
    text = orjson.dumps(shape)
    return text[1:].replace(b"%", b"%%").replace(b"\0", b"%b"), text.count(b"\0")
