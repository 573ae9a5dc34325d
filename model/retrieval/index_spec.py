"""IndexSpec: the parameters with which an index of candidates is built and searched."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

IndexKind = Literal["flat", "hnsw", "ivf"]

MANY_ENTITIES = 100_000
"""From here on an approximate index is built unless another is asked for, as a scan takes long."""

LEAST_IN_LIST = 39
"""Fewer entities an inverted list are too few to learn its centre from."""

MOST_EFFORT = 4096

PARAMETERS: dict[IndexKind, tuple[str, ...]] = {
    "flat": (),
    "hnsw": ("links", "build_depth", "search_depth", "fetched"),
    "ivf": ("lists", "probes", "codes", "fetched"),
}
"""The fields of a spec that have an effect, by kind."""


class IndexSpec(BaseModel):
    """The parameters of one kind of index; fields of other kinds have no effect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IndexKind = Field("flat", description="flat compares with all entities and is exact.")
    lists: int = Field(1, ge=1, description="ivf: inverted lists; more are read quicker and built slower.")
    probes: int = Field(1, ge=1, description="ivf: lists read by a query; more find more.")
    codes: Literal["flat", "sq8", "pq"] = Field(
        "sq8", description="ivf: how vectors are stored: whole, a byte a number, or product-quantised."
    )
    links: int = Field(32, ge=4, le=256, description="hnsw: neighbours of a vertex; more take memory.")
    build_depth: int = Field(200, ge=1, description="hnsw: candidates looked at in building.")
    search_depth: int = Field(128, ge=1, description="hnsw: candidates looked at in a search.")

    fetched: int = Field(
        128,
        ge=1,
        description="Least candidates that a search fetches, for rescoring to order.",
    )

    @classmethod
    def for_size(cls, num_entities: int, kind: IndexKind | None = None) -> Self:
        """Parameters for so many entities; the kind too where none is given."""
        if kind is None:
            kind = "flat" if num_entities < MANY_ENTITIES else "ivf"
        lists = min(1 << round(np.log2(2 * num_entities**0.5)), max(num_entities // LEAST_IN_LIST, 1))
        return cls(kind=kind, lists=lists) if kind == "ivf" else cls(kind=kind)

    @classmethod
    def parse(cls, text: str, num_entities: int) -> Self:
        """From ``KIND[,FIELD=VALUE…]``; other fields go with the size. Raises ``ValueError``."""
        kind, *pairs = text.split(",")
        if kind not in PARAMETERS:
            raise ValueError(f"{kind!r} is no kind of index; take one of {', '.join(PARAMETERS)}")
        fields: dict[str, Any] = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name not in PARAMETERS[kind]:
                known = ", ".join(PARAMETERS[kind]) or "none"
                raise ValueError(f"{pair!r} is no parameter of {kind}; there are: {known}")
            fields[name] = value
        chosen = cls.for_size(num_entities, kind)
        try:
            return cls.model_validate(chosen.model_dump(include=chosen.model_fields_set) | fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{first['loc'][0]}={first['input']}: {first['msg']}") from None

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return ",".join([self.kind, *(f"{name}={value}" for name, value in self.parameters.items())])

    @property
    def exact(self) -> bool:
        return self.kind == "flat"

    @property
    def engine(self) -> str:
        """Its name in answers."""
        return f"faiss-{self.kind}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields that have an effect on its kind."""
        return {name: getattr(self, name) for name in PARAMETERS[self.kind]}

    @property
    def efforts(self) -> dict[str, int]:
        """The fields that make a search find more, and the largest useful value of each."""
        most = {"probes": self.lists, "search_depth": MOST_EFFORT, "fetched": MOST_EFFORT}
        return {name: most[name] for name in PARAMETERS[self.kind] if name in most}

    def factory(self, width: int) -> str:
        """FAISS's name of such an index over vectors of ``width``. Raises ``ValueError``."""
        if self.kind == "flat":
            return "Flat"
        if self.kind == "hnsw":
            return f"HNSW{self.links}"
        if self.codes == "pq" and width % 4:
            raise ValueError(f"codes=pq needs widths that are multiples of 4, not {width}")
        codes = {"flat": "Flat", "sq8": "SQ8", "pq": f"PQ{width // 4}"}[self.codes]
        return f"IVF{self.lists},{codes}"
