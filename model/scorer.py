"""Scorer: answers queries with ids; one thread at a time may use one, but for ``answer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from momok.model.answer import Answers, Query
from momok.model.arrays import Float32, Float64, Int64
from momok.model.explanation import Explanation, Explanations
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import Candidates, Encoding, LinkPredictor, QueryEncoder
from momok.model.networks.relation_cache import RelationCache
from momok.model.retrieval.ahead import Ahead
from momok.model.retrieval.distances import table_of
from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.ranks import FactRanker, RankResult
from momok.model.retrieval.retriever import Retriever, Stopwatch
from momok.model.retrieval.selection import Selection
from momok.model.runtime.device import GpuMemory, gpu_memory

WARMING = 256
"""Queries by which the engines are timed."""
WARM_S = 2.0
"""Time for folding relations in ``Scorer.warm``, and the time of one fold more."""


@dataclass(frozen=True)
class RankedFact:
    """A fact seen from one of its queries, and what was trusted in encoding that."""

    placement: RankResult
    explanation: Explanation


class Scorer:
    """Encodes queries with a model and retrieves from its table of candidates.

    Both are taken as they are now: a model whose weights change needs a new scorer. ``fold_bytes`` bounds the
    memory for what queries of the same relation share (``networks/relation_cache.py``). ``ahead``: as for
    ``Scan``.
    """

    def __init__(
        self,
        model: LinkPredictor,
        candidates: Candidates,
        known: FilterIndex,
        *,
        engine: EngineName = "auto",
        indexes: Mapping[str, EntityIndex] | None = None,
        fold_bytes: int = 1 << 30,
        ahead: Ahead | None = None,
    ) -> None:
        self._model = model.eval()
        side = model.inference_encoder()
        self._folded = None if side is None else RelationCache(side, fold_bytes)
        self._encoder: QueryEncoder = self._model if self._folded is None else self._folded
        self._known = known
        self._present_NM = model.present.cpu().numpy()
        vectors = {name: rows.detach().cpu().numpy() for name, rows in candidates.vectors.items()}
        table = table_of(model.branches, vectors)
        self.engines = Engines(
            table,
            model.decision,
            device=model.present.device,
            engine=engine,
            indexes=indexes,
            ahead=ahead,
        )
        self._retriever = Retriever(table, model.decision, self.engines)
        self._table = table
        self._facts = FactRanker(table, model.decision, self.engines.scan.layout, known)

    @property
    def device(self) -> str:
        """Where queries are encoded."""
        return str(self._model.present.device)

    @property
    def engine_choices(self) -> Mapping[int, str]:
        """Batch size -> the engine that answers from there on."""
        return self.engines.choices

    @property
    def gpu_memory(self) -> GpuMemory:
        return gpu_memory()

    def warm(self) -> None:
        """Fold the relations that are asked most, and choose the engine for each size of batch."""
        self._fold_frequent()
        self.choose_engines()

    def choose_engines(self) -> None:
        """Choose the engine for each size of batch, which takes seconds; exact ones answer alike."""
        known = self._known.queries
        if len(known):
            asked = known[np.linspace(0, len(known) - 1, WARMING).astype(int)]
            relation_B, entity_B = np.divmod(asked, self._known.num_entities)
            # Past what is kept of relations: these queries would take the places of more frequent ones.
            self._retriever.measure(self._encode(self._model.encode, entity_B, relation_B)[0])

    @torch.inference_mode()
    def answer(self, queries: Sequence[Query], together: Sequence[int] = ()) -> Answers:
        """One answer a query, in order. Raises ``ValueError`` where the model gives values not finite.

        Several threads may ask at a time, once the engines have been chosen. What queries of the same
        relation share is made for all of ``together``, where it is given, relations in [0, 2R): once for many
        costs a third of one after the other, and the same queries are the same again to the last bit, where
        no relation has been asked in other company.
        """
        started, watch = perf_counter(), Stopwatch()
        asked = np.array([(query.entity, query.relation) for query in queries], dtype=np.int64)
        encode = self._encoder.encode
        if together and self._folded is not None:
            encode = partial(self._folded.encode, together=together)
        vectors, encoding = self._encode(encode, asked[:, 0], asked[:, 1])
        encoded = perf_counter()
        selections = self._selections(queries, asked)
        rankings = self._retriever.top_k(vectors, selections, watch)
        search_s = perf_counter() - encoded - watch.seconds
        seconds = {"encode": encoded - started, "search": search_s, "rescore": watch.seconds}
        excluded = [len(selection.excluded) for selection in selections]
        return Answers(queries, rankings, self._explanations(encoding, asked[:, 0]), excluded, seconds)

    def place(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        """Where one answer to each query stands among all entities; relations in [0, 2R)."""
        vectors, encoding = self._encode(self._encoder.encode, entity_B, relation_B)
        asked = list(zip(entity_B.tolist(), relation_B.tolist(), strict=True))
        placed = self._facts.place(self._table.join(vectors), asked, answer_B)
        explanations = self._explanations(encoding, entity_B)
        return [RankedFact(where, explanations[row]) for row, where in enumerate(placed)]

    def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        """The score float64[B] of one answer to each query, and the branches' values float64[B, branches]."""
        vectors, _ = self._encode(self._encoder.encode, entity_B, relation_B)
        return self._facts.score(self._table.join(vectors), answer_B)

    @torch.inference_mode()
    def _encode(
        self, encode: Callable[[Tensor, Tensor], Encoding], entity_B: Int64, relation_B: Int64
    ) -> tuple[dict[str, Float32], Encoding]:
        """The query vectors, branch -> float32[B, D], and the encoding that they are of."""
        device = self._model.present.device
        entities, relations = (torch.tensor(ids, device=device) for ids in (entity_B, relation_B))
        encoding = encode(entities, relations)
        return {name: rows.cpu().numpy() for name, rows in encoding.query.items()}, encoding

    @torch.inference_mode()
    def _fold_frequent(self) -> None:
        """Fold the relations with the most known answers, as far as memory and ``WARM_S`` allow."""
        if self._folded is not None:
            counts_R = self._known.answers_of_relations()
            order = np.argsort(-counts_R, kind="stable")
            self._folded.warm(order[counts_R[order] > 0].tolist(), within_s=WARM_S)

    def _selections(self, queries: Sequence[Query], asked_B2: Int64) -> list[Selection]:
        """``asked_B2``: the entities and relations of the queries. Candidates that they share are looked up
        and sorted once."""
        offered: dict[object, Int64] = {}
        known = self._known.of_each(asked_B2[:, 0], asked_B2[:, 1])
        return [
            Selection(query.k, answers if query.exclude_known else answers[:0], self._offered(query, offered))
            for query, answers in zip(queries, known, strict=True)
        ]

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

    def _explanations(self, encoding: Encoding, entity_B: Int64) -> Explanations:
        names, present_BM = self._model.modality_names, self._present_NM[entity_B]
        temperature = encoding.relation_temperature
        return Explanations(
            encoding.modality_weights.cpu().numpy(),
            {
                name: encoding.expert_gates[name].cpu().numpy()
                for name in names
                if name in encoding.expert_gates
            },
            {name: present_BM[:, place].tolist() for place, name in enumerate(names)},
            None if temperature is None else temperature.tolist(),
        )
