"""RelationCache: the tensors that queries of one relation share, computed once and kept within a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from time import perf_counter

from torch import Tensor

from momok.model.networks.base import CachedRelation, Encoding, InferenceEncoder

PREPARED_AT_ONCE = 32
"""Relations prepared together: enough to read each core once for many, few enough to bound the memory."""


class RelationCache:
    """Prepared relations of an inference encoder; the last used are kept, up to ``budget_bytes``.

    ``hits`` and ``misses`` count the distinct relations of each batch that were kept or not, ``evicted``
    the ones that made room. Several threads may use one.
    """

    def __init__(self, encoder: InferenceEncoder, budget_bytes: int) -> None:
        self._encoder = encoder
        self._kept: OrderedDict[int, CachedRelation] = OrderedDict()  # The least recently used first.
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self.hits = self.misses = self.evicted = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, relation: int) -> bool:
        return relation in self._kept

    def encode(self, entity_B: Tensor, relation_B: Tensor, together: Sequence[int] = ()) -> Encoding:
        """As ``LinkPredictor.encode``, by the weights that the encoder was made with; ``together`` as in
        ``of``."""
        return self._encoder.encode(entity_B, relation_B, self.of(relation_B.tolist(), together))

    def of(self, relations: Iterable[int], together: Sequence[int] = ()) -> dict[int, CachedRelation]:
        """The tensors of each distinct relation; missing ones are prepared, and kept if they fit the budget.

        The last bits of a product depend on the relations prepared beside it. For bits that can be repeated,
        ``together`` names the relations that are always prepared as one: all of them where one is missing.
        """
        with self._lock:
            asked = list(dict.fromkeys(relations))
            missing = [relation for relation in asked if relation not in self._kept]
            self.hits += len(asked) - len(missing)
            self.misses += len(missing)
            found = {relation: self._kept[relation] for relation in asked if relation in self._kept}
            for relation in found:
                self._kept.move_to_end(relation)
            if missing:
                assert not together or set(asked) <= set(together), "relations beyond those prepared together"
                for relation, cached in self._prepare(together or missing):
                    found[relation] = cached
                    self._keep(relation, cached)
            return {relation: found[relation] for relation in asked}

    def warm(self, relations: Iterable[int], *, within_s: float = float("inf")) -> None:
        """Prepare missing relations in the order given, until the budget or the time is spent.

        Evicts nothing, counts nothing; the first of these relations will be evicted last.
        """
        deadline = perf_counter() + within_s
        with self._lock:
            missing = [relation for relation in dict.fromkeys(relations) if relation not in self._kept]
            for relation, cached in self._prepare(missing, deadline):
                size_bytes = _size_bytes(cached)
                if self.size_bytes + size_bytes > self.budget_bytes:
                    return
                self._kept[relation] = cached
                self._kept.move_to_end(relation, last=False)
                self.size_bytes += size_bytes

    def _keep(self, relation: int, cached: CachedRelation) -> None:
        if relation in self._kept:
            self.size_bytes -= _size_bytes(self._kept.pop(relation))
        size_bytes = _size_bytes(cached)
        if size_bytes > self.budget_bytes:
            return
        self._kept[relation] = cached
        self.size_bytes += size_bytes
        while self.size_bytes > self.budget_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.size_bytes -= _size_bytes(oldest)
            self.evicted += 1

    def _prepare(
        self, relations: Sequence[int], deadline: float = float("inf")
    ) -> Iterator[tuple[int, CachedRelation]]:
        """Some relations at a time, none begun after ``deadline`` (of ``perf_counter``)."""
        for start in range(0, len(relations), PREPARED_AT_ONCE):
            if perf_counter() >= deadline:
                return
            part = relations[start : start + PREPARED_AT_ONCE]
            yield from zip(part, self._encoder.prepare(part), strict=True)


def _size_bytes(cached: CachedRelation) -> int:
    return sum(tensor.nbytes for tensor in cached)
