"""Names: the keys and labels of entities or of relations, and the way back from a name to its id."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz import fuzz, process

from momok.model.errors import UserError


class UnresolvedName(UserError):
    """A name that does not lead to exactly one id; ``str(error)`` says why, and the remedy."""

    def __init__(self, kind: str, name: str, choices: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.choices = tuple(choices)


class UnknownName(UnresolvedName):
    """No key and no label reads like this; ``choices`` are the nearest labels, best first."""

    def __init__(self, kind: str, name: str, nearest: Sequence[str] = ()) -> None:
        hint = f"; nearest: {', '.join(map(repr, nearest))}" if nearest else ""
        super().__init__(kind, name, nearest, f"unknown {kind} {shorten(name)!r}{hint}")


class AmbiguousName(UnresolvedName):
    """Several entities share this label; ``choices`` are their keys, in id order."""

    def __init__(self, kind: str, name: str, keys: Sequence[str]) -> None:
        shown = ", ".join(map(repr, keys[:8])) + (", …" if len(keys) > 8 else "")
        message = f"{kind} label {shorten(name)!r} is shared by {len(keys)}; give one of the keys {shown}"
        super().__init__(kind, name, keys, message)


def shorten(text: str, length: int = 64) -> str:
    """At most ``length`` characters of a caller's text, so that errors never echo it at full size."""
    return text if len(text) <= length else text[: length - 1] + "…"


class Names:
    """Keys (unique) and labels (free) of entities or relations, in id order.

    Raises ``ValueError`` when the numbers of keys and labels differ or a key is given twice.
    """

    def __init__(self, kind: str, keys: Sequence[str], labels: Sequence[str]) -> None:
        if len(keys) != len(labels):
            raise ValueError(f"{len(keys)} {kind} keys but {len(labels)} labels")
        self.kind = kind
        self.keys = tuple(keys)
        self.labels = tuple(labels)
        self._id_of_key = {key: index for index, key in enumerate(self.keys)}
        if len(self._id_of_key) != len(self.keys):
            twice = next(key for index, key in enumerate(self.keys) if self._id_of_key[key] != index)
            raise ValueError(f"{kind} key {twice!r} is given twice")
        self._ids_of_label: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            self._ids_of_label.setdefault(label, []).append(index)

    def __len__(self) -> int:
        return len(self.keys)

    def id_of(self, key: str) -> int | None:
        """The id that carries this very key; labels do not count."""
        return self._id_of_key.get(key)

    def resolve(self, name: str) -> int:
        """The id that ``name`` means: a key first, else a label that only one carries.

        Raises ``UnknownName`` (without suggestions: see ``closest``) or ``AmbiguousName``.
        """
        found = self.id_of(name)
        if found is not None:
            return found
        ids = self._ids_of_label.get(name, ())
        if len(ids) > 1:
            raise AmbiguousName(self.kind, name, [self.keys[index] for index in ids])
        if not ids:
            raise UnknownName(self.kind, name)
        return ids[0]

    def ambiguous_labels(self) -> int:
        """How many labels are carried by more than one key."""
        return sum(len(ids) > 1 for ids in self._ids_of_label.values())


def closest(name: str, labels: Sequence[str], limit: int, *, likeness: float = 0.5) -> list[str]:
    """The ``limit`` labels most like ``name`` regardless of case, best first, in the given order where equal.

    ``likeness``: the least, where 1 means equal. Labels of one spelling count once.
    """
    by_folded: dict[str, str] = {}
    for label in labels:
        by_folded.setdefault(label.casefold(), label)
    wanted = shorten(name).casefold()
    found = process.extract(
        wanted, by_folded.keys(), scorer=fuzz.ratio, limit=limit, score_cutoff=100 * likeness
    )
    return [by_folded[folded] for folded, _, _ in found]
