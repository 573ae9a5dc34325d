"""Lookup: the names in a request's body, to ids; those that lead nowhere are told all at once."""

from __future__ import annotations

from momok.model.bundle.names import UnresolvedName
from momok.model.bundle.vocabulary import Vocabulary
from momok.service.contract.errors import InvalidRequest, ProblemItem, pointer

Where = tuple[str | int, ...] | str
"""The parts of a body's JSON pointer, joined only for a name that is bad; or the name of a parameter."""

SUGGESTIONS = 10
"""Bad names of a request that get choices: each costs a search or lists keys, and more would not be read."""


class Lookup:
    """One request's names. ``finish`` raises for those that were bad, after all were looked up.

    Finding what may have been meant takes searches; without ``suggest`` there are none.
    """

    def __init__(self, vocabulary: Vocabulary, suggest: bool = True) -> None:
        self._most = SUGGESTIONS if suggest else 0
        self._vocabulary = vocabulary
        self._problems: list[ProblemItem] = []

    def entity(self, name: str, where: Where) -> int:
        """The id, or -1 and one problem more."""
        try:
            return self._vocabulary.resolve_entity(name, suggest=self._suggests)
        except UnresolvedName as error:
            return self._note(error, where)

    def relation(self, name: str, where: Where) -> int:
        """The id, or -1 and one problem more, as for entities."""
        try:
            return self._vocabulary.resolve_relation(name, suggest=self._suggests)
        except UnresolvedName as error:
            return self._note(error, where)

    @property
    def failed(self) -> bool:
        """Whether a name was bad."""
        return bool(self._problems)

    def finish(self) -> None:
        """Raises ``InvalidRequest`` that lists every name which leads nowhere, or to several."""
        if self._problems:
            raise InvalidRequest(self._problems)

    @property
    def _suggests(self) -> bool:
        return len(self._problems) < self._most

    def _note(self, error: UnresolvedName, where: Where) -> int:
        choices = list(error.choices) if self._suggests else []
        place = where if isinstance(where, str) else pointer(*where)
        self._problems.append(ProblemItem(pointer=place, detail=str(error), choices=choices))
        return -1
