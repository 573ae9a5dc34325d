"""Lines of discovered facts, as JSON or as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any, Literal

import numpy as np

from momok.model.answer import Answer
from momok.model.bundle.bundle import Bundle
from momok.model.bundle.names import Names
from momok.model.explanation import DECIMALS
from momok.model.json_numbers import texts
from momok.training.discovery.facts import Facts

Format = Literal["jsonl", "tsv"]

COLUMNS = (
    "head", "relation", "tail", "head_label", "relation_label", "tail_label", "missing", "rank", "score",
    "exact", "modality_weights", "expert_gates", "relation_temperature",
)  # fmt: skip

PARTS = 12
"""Texts that a line is joined from."""


class Lines:
    """Renders facts, all of a batch at once: names are encoded once a run, explanations once a query."""

    def __init__(self, bundle: Bundle, line_format: Format) -> None:
        self._json = line_format == "jsonl"
        self._num_relations = bundle.model.config.num_relations
        self.modality_names = bundle.model.modality_names
        self.gated_modalities = bundle.model.gated_modalities
        vocabulary = bundle.vocabulary
        self._key, self._label = self._encoded(vocabulary.entities)
        leads = [
            (f'{"," if place else "{"}"{name}":' if self._json else "\t" * (place > 0)).encode()
            for place, name in enumerate(COLUMNS)
        ]
        self._head, relation, tail, self._head_label, relation_label, tail_label, *others = leads
        missing, rank, self._score, *_ = others
        # What stands between two names of entities, by relation in [0, 2R).
        keys, labels = self._encoded(vocabulary.relations)
        self._between_keys = 2 * [relation + key + tail for key in keys]
        self._between_labels = 2 * [relation_label + label + tail_label for label in labels]
        self._missing = [
            missing + self._text(end) + rank for end in ("tail", "head") for _ in range(len(keys))
        ]
        self._explanations: dict[object, bytes] = {}

    @property
    def header(self) -> bytes:
        return b"" if self._json else "\t".join(COLUMNS).encode() + b"\n"

    def render(self, facts: Facts) -> bytes:
        if not len(facts):
            return b""
        asked = np.array([(answer.query.entity, answer.query.relation) for answer in facts.answers])
        given_P, relation_P = asked[facts.rows].T
        asks_head_P = relation_P >= self._num_relations
        heads = np.where(asks_head_P, facts.entities, given_P).tolist()
        tails = np.where(asks_head_P, given_P, facts.entities).tolist()
        relations = relation_P.tolist()
        ranks = [b"%d" % rank + self._score for rank in range(int(facts.ranks.max()) + 1)]
        explanations = self._explained(facts.answers)
        # Column after column, which takes a third of the time of line after line.
        parts = [self._head] * (PARTS * len(facts))
        parts[1::PARTS] = [self._key[head] for head in heads]
        parts[2::PARTS] = [self._between_keys[relation] for relation in relations]
        parts[3::PARTS] = [self._key[tail] for tail in tails]
        parts[4::PARTS] = [self._head_label] * len(facts)
        parts[5::PARTS] = [self._label[head] for head in heads]
        parts[6::PARTS] = [self._between_labels[relation] for relation in relations]
        parts[7::PARTS] = [self._label[tail] for tail in tails]
        parts[8::PARTS] = [self._missing[relation] for relation in relations]
        parts[9::PARTS] = [ranks[rank] for rank in facts.ranks.tolist()]
        parts[10::PARTS] = texts(facts.scores)
        parts[11::PARTS] = [explanations[row] for row in facts.rows.tolist()]
        return b"".join(parts)

    def _text(self, text: str) -> bytes:
        # Names hold no tab and no line end (training.checks), so a table takes them as they are.
        return (compact(text) if self._json else text).encode()

    def _encoded(self, names: Names) -> tuple[list[bytes], list[bytes]]:
        return [self._text(key) for key in names.keys], [self._text(label) for label in names.labels]

    def _explained(self, answers: Sequence[Answer]) -> list[bytes]:
        """The last four columns of each answer, which are the same for all its candidates."""
        given = [_numbers_of(answer) for answer in answers]
        numbers = iter(texts(np.concatenate(list(chain(*given)), dtype=np.float64).round(DECIMALS)))
        return [
            self._explanation(answer) % tuple(islice(numbers, sum(map(len, arrays))))
            for answer, arrays in zip(answers, given, strict=True)
        ]

    def _explanation(self, answer: Answer) -> bytes:
        """Those columns with a place for each number of ``_numbers_of``; made once for answers alike."""
        exact, gates, heat = answer.ranking.exact, answer.expert_gates, answer.relation_temperature
        alike = exact, heat is None, *[values is None for values in gates.values()]
        if alike not in self._explanations:
            number = "%b"
            shape = {
                "exact": exact,
                "modality_weights": dict.fromkeys(self.modality_names, number),
                "expert_gates": {
                    name: None if values is None else [number] * len(values) for name, values in gates.items()
                }
                or None,
                "relation_temperature": None if heat is None else number,
            }
            texts = ["" if value is None else compact(value) for value in shape.values()]
            text = f",{compact(shape)[1:]}\n" if self._json else "\t".join(["", *texts]) + "\n"
            self._explanations[alike] = text.replace(compact(number), number).encode()
        return self._explanations[alike]


def _numbers_of(answer: Answer) -> list[Any]:
    """The numbers of an explanation, in order. Rounding them as float64 is exact, as they are float32:
    multiplied by ten to the power of ``DECIMALS`` they still fit."""
    heat = answer.relation_temperature
    gates: Iterable[Any] = (values for values in answer.expert_gates.values() if values is not None)
    return [answer.modality_weights, *gates, *([] if heat is None else [[heat]])]


def compact(value: Any) -> str:
    """JSON without blanks; letters of any script stay as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
