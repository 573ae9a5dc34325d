"""Graph: what a bundle holds about entities, relations and the facts between them. Any thread may read it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.catalogue import Catalogue
from momok.model.bundle.names import UnresolvedName, shorten
from momok.model.bundle.pictures import Picture
from momok.model.filter_index import first_split
from momok.model.kinds import Split
from momok.service.answering.lookup import Lookup
from momok.service.contract.errors import ProblemItem, UnknownResource
from momok.service.contract.schemas import (
    EntitiesOut,
    EntityDetailsOut,
    EntityOut,
    NeighborOut,
    NeighborsOut,
    RelationInfoOut,
    RelationOut,
    RelationsOut,
)

Direction = Literal["both", "outgoing", "incoming"]
"""Facts of which an entity is the head, the tail, or either."""


class Graph:
    def __init__(self, bundle: Catalogue) -> None:
        self._bundle = bundle
        self._vocabulary = bundle.vocabulary
        self._num_relations = bundle.num_relations
        self._modalities, self._present_NM = bundle.modality_names, bundle.present

    def entities(self, search: str, limit: int, offset: int) -> EntitiesOut:
        """One page of the entities whose label or key holds ``search``."""
        found = self._vocabulary.search(search, limit=limit + 1, offset=offset)
        return EntitiesOut(
            entities=[self._entity(entity) for entity in found[:limit]],
            next_offset=offset + limit if len(found) > limit else None,
        )

    def entity(self, name: str) -> EntityDetailsOut:
        """Raises ``UnknownResource``."""
        entity = self._named(name)
        details = self._vocabulary.details(entity)
        present_M = self._present_NM[entity]
        return EntityDetailsOut(
            **self._entity(entity).model_dump(),
            description=details.description,
            degree=details.degree,
            modalities=[name for name, has in zip(self._modalities, present_M, strict=True) if has],
            picture=self._picture_path(entity),
        )

    def picture(self, name: str) -> Picture:
        """Raises ``UnknownResource`` for an unknown entity, and for one without a picture."""
        entity = self._named(name)
        if entity not in self._bundle.pictures:
            label = self._vocabulary.entities.labels[entity]
            raise UnknownResource(f"{shorten(label)!r} has no picture")
        return self._bundle.pictures[entity]

    def neighbors(
        self, name: str, direction: Direction, relation: str | None, limit: int, offset: int
    ) -> NeighborsOut:
        """One page of the facts around an entity: those of which it is the head first, by relation and id.

        Raises ``UnknownResource`` for the entity, ``InvalidRequest`` for the relation.
        """
        entity = self._named(name)
        lookup = Lookup(self._vocabulary)
        asked = None if relation is None else lookup.relation(relation, "relation")
        lookup.finish()
        relation_Q = self._asked(direction, asked)
        row_P, other_P = self._bundle.known.rows(np.full(len(relation_Q), entity), relation_Q)
        part = slice(offset, offset + limit)
        facts = [
            self._neighbor(entity, int(relation_Q[row]), other)
            for row, other in zip(row_P[part].tolist(), other_P[part].tolist(), strict=True)
        ]
        return NeighborsOut(
            entity=self._entity(entity),
            facts=facts,
            num_facts=len(other_P),
            next_offset=offset + limit if offset + limit < len(other_P) else None,
        )

    def relations(self) -> RelationsOut:
        names = self._vocabulary.relations
        return RelationsOut(
            relations=[
                RelationInfoOut(key=key, label=label, num_facts=count)
                for key, label, count in zip(
                    names.keys, names.labels, self._vocabulary.relation_counts, strict=True
                )
            ]
        )

    def _asked(self, direction: Direction, relation: int | None) -> Int64:
        """The relations in [0, 2R), int64[Q], whose answers are the neighbors."""
        forward = np.arange(self._num_relations) if relation is None else np.array([relation])
        backward = forward + self._num_relations
        return {
            "outgoing": forward,
            "incoming": backward,
            "both": np.concatenate([forward, backward]),
        }[direction]

    def _neighbor(self, entity: int, relation: int, other: int) -> NeighborOut:
        incoming = relation >= self._num_relations
        head, tail = (other, entity) if incoming else (entity, other)
        return NeighborOut(
            head=self._entity(head),
            relation=RelationOut.of(self._vocabulary.relations, relation % self._num_relations),
            tail=self._entity(tail),
            direction="incoming" if incoming else "outgoing",
            known=self._split(entity, relation, other),
        )

    def _split(self, entity: int, relation: int, other: int) -> Split:
        (code,) = self._bundle.known.split_codes(entity, relation, np.array([other])).tolist()
        return first_split(code)

    def _named(self, name: str) -> int:
        """The entity of a name in a path. Raises ``UnknownResource``."""
        try:
            return self._vocabulary.resolve_entity(name)
        except UnresolvedName as error:
            raise UnknownResource(
                str(error), [ProblemItem(pointer="key", detail=str(error), choices=list(error.choices))]
            ) from None

    def _picture_path(self, entity: int) -> str | None:
        if entity not in self._bundle.pictures:
            return None
        return f"/v1/entities/{quote(self._vocabulary.entities.keys[entity], safe='')}/picture"

    def _entity(self, entity: int) -> EntityOut:
        return EntityOut.of(self._vocabulary.entities, entity)
