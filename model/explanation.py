"""Explanation: the weights and gates with which queries were encoded.

Axes: B queries, M modalities, K experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from momok.model.arrays import Float32

DECIMALS = 6
"""Of weights and gates in answers: float32 holds no more, and a shorter body is a faster one."""


class Explanation(NamedTuple):
    """Of one query: ``modality_weights`` float32[M]; ``expert_gates`` gated modality -> float32[K], None
    where the entity lacks the modality; ``relation_temperature`` in [0, 1] or None."""

    modality_weights: Float32
    expert_gates: Mapping[str, Float32 | None]
    relation_temperature: float | None


@dataclass(frozen=True, eq=False)
class Explanations:
    """Of a batch, as columns; ``explanations[row]`` is that of one query.

    ``modality_weights`` float32[B, M]; ``expert_gates`` gated modality -> float32[B, K], which count where
    ``present`` (modality -> B flags) holds; ``relation_temperatures``: B floats, or None.
    """

    modality_weights: Float32
    expert_gates: Mapping[str, Float32]
    present: Mapping[str, list[bool]]
    relation_temperatures: list[float] | None

    def __len__(self) -> int:
        return len(self.modality_weights)

    def __getitem__(self, row: int) -> Explanation:
        gates = {
            name: rows[row] if self.present[name][row] else None for name, rows in self.expert_gates.items()
        }
        temperatures = self.relation_temperatures
        temperature = None if temperatures is None else temperatures[row]
        return Explanation(self.modality_weights[row], gates, temperature)

    def __iter__(self) -> Iterator[Explanation]:
        return map(self.__getitem__, range(len(self)))

    def taken(self, rows: Sequence[int]) -> Explanations:
        """The explanations of some rows, in their order."""
        place_B, temperatures = list(rows), self.relation_temperatures
        return Explanations(
            self.modality_weights[place_B],
            {name: gates[place_B] for name, gates in self.expert_gates.items()},
            {name: [there[row] for row in place_B] for name, there in self.present.items()},
            None if temperatures is None else [temperatures[row] for row in place_B],
        )


def explanation_out(modalities: Sequence[str], explanation: Explanation) -> dict[str, Any]:
    """The fields that explain a query; a gate is None where the entity lacks the modality, the whole table
    of gates where the model has none."""
    weights_M, gates, temperature = explanation
    return {
        "modality_weights": dict(zip(modalities, rounded(weights_M), strict=True)),
        "expert_gates": {name: None if values is None else rounded(values) for name, values in gates.items()}
        or None,
        "relation_temperature": temperature,
    }


def rounded(values_M: Float32) -> list[float]:
    """A few numbers; one by one takes half the time of an array's way."""
    return [round(value, DECIMALS) for value in values_M.tolist()]
