"""Lines of discovered facts, as JSON or as a row of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from model.bundle import Bundle
from model.names import Names
from model.scorer import Answer
from model.trust import DECIMALS, trust_out

Format = Literal["jsonl", "tsv"]

COLUMNS = (
    "head", "relation", "tail", "head_label", "relation_label", "tail_label", "missing", "rank", "score",
    "exact", "modality_weights", "expert_gates", "relation_temperature",
)  # fmt: skip


class Found(NamedTuple):
    """A candidate that an answer offers; ``rank`` counts from 1."""

    answer: Answer
    entity: int
    rank: int
    score: float


class Lines:
    """Renders facts. Names are encoded once a run, explanations once a query, scores once a fact."""

    def __init__(self, bundle: Bundle, line_format: Format) -> None:
        self._json = line_format == "jsonl"
        self._num_relations = bundle.model.config.num_relations
        self.modality_names = bundle.model.modality_names
        self.gated_modalities = bundle.model.gated_modalities
        vocabulary = bundle.vocabulary
        self._key, self._label = self._encoded(vocabulary.entities)
        self._relation_key, self._relation_label = self._encoded(vocabulary.relations)

    @property
    def header(self) -> str:
        return "" if self._json else "\t".join(COLUMNS) + "\n"

    def render(self, found: Sequence[Found]) -> str:
        explained: dict[int, str] = {}
        lines = []
        for fact in found:
            explanation = explained.get(id(fact.answer))
            if explanation is None:
                explanation = explained[id(fact.answer)] = self._explain(fact.answer)
            lines.append(self._line(fact, explanation))
        return "".join(lines)

    def _encoded(self, names: Names) -> tuple[Sequence[str], Sequence[str]]:
        # Names hold no tab and no line end (training.checks), so a table takes them as they are.
        if not self._json:
            return names.keys, names.labels
        return [compact(key) for key in names.keys], [compact(label) for label in names.labels]

    def _line(self, fact: Found, explanation: str) -> str:
        relation, asks_head = fact.answer.query.relation, fact.answer.query.relation >= self._num_relations
        relation -= self._num_relations * asks_head
        given, key, label = fact.answer.query.entity, self._key, self._label
        head, tail = (fact.entity, given) if asks_head else (given, fact.entity)
        missing = "head" if asks_head else "tail"
        if not self._json:
            return (
                f"{key[head]}\t{self._relation_key[relation]}\t{key[tail]}\t"
                f"{label[head]}\t{self._relation_label[relation]}\t{label[tail]}\t"
                f"{missing}\t{fact.rank}\t{fact.score!r}\t{explanation}\n"
            )
        return (
            f'{{"head":{key[head]},"relation":{self._relation_key[relation]},"tail":{key[tail]},'
            f'"head_label":{label[head]},"relation_label":{self._relation_label[relation]},'
            f'"tail_label":{label[tail]},"missing":"{missing}","rank":{fact.rank},"score":{fact.score!r},'
            f"{explanation}}}\n"
        )

    def _explain(self, answer: Answer) -> str:
        """What is the same for all candidates of a query, the last four columns."""
        heat = answer.relation_temperature
        trusted = trust_out(
            self.modality_names,
            answer.modality_weights,
            answer.expert_gates,
            None if heat is None else round(heat, DECIMALS),
        )
        values = {"exact": answer.ranking.exact, **trusted}
        if self._json:
            return compact(values)[1:-1]
        return "\t".join("" if value is None else compact(value) for value in values.values())


def compact(value: Any) -> str:
    """JSON without blanks; letters of any script stay as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
