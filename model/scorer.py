"""Scorer: answers queries given as ids.

Axes: B queries, N entities, M modalities, D width of a branch, S branches.
"""

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
from momok.model.networks.base import Candidates, Encoding, LinkPredictor
from momok.model.networks.relation_cache import RelationCache
from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.ranks import FactRanker, RankResult
from momok.model.retrieval.retriever import Retriever, Stopwatch
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.runtime.device import GpuMemory, gpu_memory
from momok.model.scores import FUSIONS

MEASURED_QUERIES = 256
"""Queries by which the engines are timed."""
WARM_S = 2.0
"""Time for preparing relations in ``Scorer.warm``; a batch of them more may begin within it."""


@dataclass(frozen=True, eq=False)
class RankedFact:
    """A fact seen from one of its queries, and the explanation of that query."""

    result: RankResult
    explanation: Explanation


class Scorer:
    """Encodes queries with a model and retrieves from its table of candidates.

    Both are taken as they are, the model in evaluation mode: changed weights need a new scorer.
    ``cache_bytes`` bounds the memory of the relation cache. One thread at a time may use a scorer, except for
    ``answer``. Raises ``ValueError`` for a model in training mode.
    """

    def __init__(
        self,
        model: LinkPredictor,
        candidates: Candidates,
        known: FilterIndex,
        *,
        engine: EngineName = "auto",
        index: EntityIndex | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        if model.training:
            raise ValueError(
                "the model is in training mode, where dropout is random: call eval() on it first"
            )
        self._model, self._known = model, known
        encoder = model.inference_encoder()
        self._cache = None if encoder is None else RelationCache(encoder, cache_bytes)
        self._encoder = self._model if self._cache is None else self._cache
        self._present_NM = model.present.cpu().numpy()
        self._table, fusion = table_of(model, candidates), FUSIONS[model.decision]
        self.engines = Engines(self._table, fusion, device=model.present.device, engine=engine, index=index)
        self._retriever = Retriever(self._table, fusion, self.engines)
        self._facts = FactRanker(self.engines.scan.kernel, known)

    @property
    def device(self) -> str:
        """The device on which queries are encoded."""
        return str(self._model.present.device)

    @property
    def engine_choices(self) -> Mapping[int, str]:
        """Batch size -> the engine that answers from there on."""
        return self.engines.choices

    @property
    def gpu_memory(self) -> GpuMemory:
        """Of this process."""
        return gpu_memory()

    @torch.inference_mode()
    def warm(self) -> None:
        """Prepare the relations with the most known answers, as far as memory and ``WARM_S`` allow, and
        choose the engine for each size of batch."""
        if self._cache is not None:
            counts_R = self._known.answers_of_relations()
            order = np.argsort(-counts_R, kind="stable")
            self._cache.warm(order[counts_R[order] > 0].tolist(), within_s=WARM_S)
        self.choose_engines()

    def choose_engines(self) -> None:
        """Choose the engine for each size of batch, which takes seconds; exact ones answer alike."""
        known = self._known.queries
        if len(known):
            asked = known[np.linspace(0, len(known) - 1, MEASURED_QUERIES).astype(int)]
            relation_B, entity_B = np.divmod(asked, self._known.num_entities)
            # Past the relation cache: these queries would displace more frequent relations.
            self._retriever.measure(self._encode(self._model.encode, entity_B, relation_B)[0])

    @torch.inference_mode()
    def answer(self, queries: Sequence[Query], together: Sequence[int] = ()) -> Answers:
        """One answer a query, in order. Raises ``ValueError`` where the model gives values not finite.

        Several threads may ask at a time, once the engines have been chosen. ``together``: relations in
        [0, 2R) that are prepared as one wherever one of them is missing (``RelationCache.of``), so that the
        same queries have the same answers to the last bit.
        """
        started, watch = perf_counter(), Stopwatch()
        asked = np.array([(query.entity, query.relation) for query in queries], dtype=np.int64)
        encode = self._encoder.encode
        if together and self._cache is not None:
            encode = partial(self._cache.encode, together=together)
        vectors, encoding = self._encode(encode, asked[:, 0], asked[:, 1])
        encoded = perf_counter()
        selections = self._selections(queries, asked)
        rankings = self._retriever.top_k(vectors, selections, watch)
        search_s = perf_counter() - encoded - watch.seconds
        seconds = {"encode": encoded - started, "search": search_s, "rescore": watch.seconds}
        excluded = [len(selection.excluded) for selection in selections]
        return Answers(queries, rankings, self._explanations(encoding, asked[:, 0]), excluded, seconds)

    def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        """The rank of one answer to each query among all entities; relations in [0, 2R)."""
        vectors, encoding = self._encode(self._encoder.encode, entity_B, relation_B)
        asked = list(zip(entity_B.tolist(), relation_B.tolist(), strict=True))
        results = self._facts.rank(self._table.join(vectors), asked, answer_B)
        explanations = self._explanations(encoding, entity_B)
        return [RankedFact(result, explanations[row]) for row, result in enumerate(results)]

    def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        """The score float64[B] of one answer to each query, and the branches' values float64[B, S]."""
        vectors, _ = self._encode(self._encoder.encode, entity_B, relation_B)
        return self._facts.score(self._table.join(vectors), answer_B)

    @torch.inference_mode()
    def _encode(
        self, encode: Callable[[Tensor, Tensor], Encoding], entity_B: Int64, relation_B: Int64
    ) -> tuple[dict[str, Float32], Encoding]:
        """The query vectors, branch -> float32[B, D], and their encoding."""
        device = self._model.present.device
        entities, relations = (torch.tensor(ids, device=device) for ids in (entity_B, relation_B))
        encoding = encode(entities, relations)
        return {name: rows.cpu().numpy() for name, rows in encoding.query.items()}, encoding

    def _selections(self, queries: Sequence[Query], asked_B2: Int64) -> list[Selection]:
        """``asked_B2``: the entities and relations of the queries. Shared candidates are sorted once."""
        offered: dict[object, Int64] = {}  # int64, sorted, distinct.
        selections = []
        known = self._known.of_each(asked_B2[:, 0], asked_B2[:, 1])
        for query, answers in zip(queries, known, strict=True):
            given = query.candidates
            shared = query.relation if isinstance(given, str) else ("given", id(given))
            if given is not None and shared not in offered:
                observed = isinstance(given, str)
                offered[shared] = self._known.observed(query.relation) if observed else np.unique(given)
            excluded = answers if query.exclude_known else answers[:0]
            selections.append(Selection(query.k, excluded, offered.get(shared)))
        return selections

    def _explanations(self, encoding: Encoding, entity_B: Int64) -> Explanations:
        names, present_BM = self._model.modality_names, self._present_NM[entity_B]
        gates, temperature = encoding.expert_gates, encoding.relation_temperature
        return Explanations(
            encoding.modality_weights.cpu().numpy(),
            {name: gates[name].cpu().numpy() for name in names if name in gates},
            {name: present_BM[:, place].tolist() for place, name in enumerate(names)},
            None if temperature is None else temperature.tolist(),
        )


def table_of(model: LinkPredictor, candidates: Candidates) -> EntityTable:
    """The candidates of a model as retrieval reads them; without a copy where they lie side by side."""
    if candidates.joined is not None:
        return EntityTable(model.branches, candidates.joined.numpy())
    tables = {name: rows.detach().cpu().numpy() for name, rows in candidates.vectors.items()}
    return EntityTable.of(model.branches, tables)
