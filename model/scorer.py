"""Scorer: answers queries with ids; one thread at a time may use one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from model.decision import Decision
from model.engine import EngineName, Engines
from model.folding import FoldedRelations
from model.known import Int64, KnownAnswers
from model.predictor import Candidates, Encoding, LinkPredictor, QueryEncoder
from model.retrieval import Ranking, Retriever
from model.rotation_scan import table_of
from model.selection import Selection

Float32 = npt.NDArray[np.float32]

WARMING = 256
"""Queries by which the engines are timed."""
WARM_S = 2.0
"""Time for folding relations in ``Scorer.warm``, and the time of one fold more."""


@dataclass(frozen=True)
class Query:
    """``entity`` and ``relation`` in [0, 2R) ask for the best ``k`` tails.

    ``candidates``: all entities (None), those known to answer any query of the relation (``"observed"``), or
    these ids (int64).
    """

    entity: int
    relation: int
    k: int
    exclude_known: bool = True
    candidates: Literal["observed"] | Int64 | None = None


@dataclass(frozen=True)
class Answer:
    """A ranking, and what was trusted in encoding its query.

    ``modality_weights`` float32[M]; ``expert_gates`` gated modality -> float32[K], None where the entity
    lacks the modality; ``relation_temperature`` in [0, 1] or None.
    """

    query: Query
    ranking: Ranking
    modality_weights: Float32
    expert_gates: dict[str, Float32 | None]
    relation_temperature: float | None


class Scorer:
    """Encodes queries with a model and retrieves from its table of candidates.

    Both are taken as they are now: a model whose weights change needs a new scorer. ``fold_bytes`` bounds the
    memory for what queries of the same relation share (``model/folding.py``).
    """

    def __init__(
        self,
        model: LinkPredictor,
        candidates: Candidates,
        known: KnownAnswers,
        *,
        engine: EngineName = "auto",
        fold_bytes: int = 1 << 30,
    ) -> None:
        self._model = model.eval()
        side = model.query_side()
        self._folded = None if side is None else FoldedRelations(side, fold_bytes)
        self._encoder: QueryEncoder = self._model if self._folded is None else self._folded
        self._known = known
        self._present_NM = model.present.cpu().numpy()
        vectors = {name: rows.detach().cpu().numpy() for name, rows in candidates.vectors.items()}
        table = table_of(model.branches, vectors)
        self.engines = Engines(table, model.decision, device=model.present.device, engine=engine)
        self._retriever = Retriever(table, model.decision, self.engines)

    @property
    def decision(self) -> Decision:
        return self._model.decision

    def warm(self) -> None:
        """Fold the relations that are asked most, and choose the engine for each size of batch."""
        self._fold_frequent()
        known = self._known.queries
        if len(known):
            asked = known[np.linspace(0, len(known) - 1, WARMING).astype(int)]
            relation_B, entity_B = np.divmod(asked, self._known.num_entities)
            # Past what is kept of relations: these queries would take the places of more frequent ones.
            self._retriever.measure(self._encode(self._model, entity_B, relation_B)[0])

    @torch.inference_mode()
    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer a query, in order. Raises ``ValueError`` where the model gives values not finite."""
        asked = np.array([(query.entity, query.relation) for query in queries], dtype=np.int64)
        vectors, encoding = self._encode(self._encoder, asked[:, 0], asked[:, 1])
        rankings = self._retriever.top_k(vectors, self._selections(queries))
        weights_BM = encoding.modality_weights.cpu().numpy()
        gates = {name: rows.cpu().numpy() for name, rows in encoding.expert_gates.items()}
        temperature = encoding.relation_temperature
        temperatures = [None] * len(queries) if temperature is None else temperature.tolist()
        return [
            Answer(query, rankings[row], weights_BM[row], self._gates(gates, query.entity, row), heat)
            for row, (query, heat) in enumerate(zip(queries, temperatures, strict=True))
        ]

    @torch.inference_mode()
    def _encode(
        self, encoder: QueryEncoder, entity_B: Int64, relation_B: Int64
    ) -> tuple[dict[str, Float32], Encoding]:
        """The query vectors, branch -> float32[B, D], and the encoding that they are of."""
        device = self._model.present.device
        entities, relations = (torch.tensor(ids, device=device) for ids in (entity_B, relation_B))
        encoding = encoder.encode(entities, relations)
        return {name: rows.cpu().numpy() for name, rows in encoding.query.items()}, encoding

    @torch.inference_mode()
    def _fold_frequent(self) -> None:
        """Fold the relations with the most known answers, as far as memory and ``WARM_S`` allow."""
        if self._folded is not None:
            counts_R = self._known.answers_of_relations()
            order = np.argsort(-counts_R, kind="stable")
            self._folded.warm(order[counts_R[order] > 0].tolist(), within_s=WARM_S)

    def _selections(self, queries: Sequence[Query]) -> list[Selection]:
        """Candidates that queries share are looked up and sorted once."""
        offered: dict[object, Int64] = {}
        selections = []
        for query in queries:
            known, _ = self._known.of(query.entity, query.relation)
            candidates = self._offered(query, offered)
            selections.append(Selection(query.k, known if query.exclude_known else known[:0], candidates))
        return selections

    def _offered(self, query: Query, offered: dict[object, Int64]) -> Int64 | None:
        """The candidates of a query, int64, sorted, distinct; kept in ``offered`` for all that share it."""
        given = query.candidates
        if given is None:
            return None
        shared = ("observed", query.relation) if isinstance(given, str) else ("given", id(given))
        if shared not in offered:
            offered[shared] = (
                self._known.observed(query.relation) if isinstance(given, str) else np.unique(given)
            )
        return offered[shared]

    def _gates(self, gates: dict[str, Float32], entity: int, row: int) -> dict[str, Float32 | None]:
        present_M = self._present_NM[entity]
        return {
            name: gates[name][row] if present else None
            for name, present in zip(self._model.modality_names, present_M, strict=True)
            if name in gates
        }
