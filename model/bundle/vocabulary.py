"""Vocabulary: names, descriptions and degrees of a bundle's entities and relations, in one SQLite file.

Names are held in memory, as every answer needs them; the rest is looked up. Searching goes through an FTS5
trigram index, and through LIKE for texts of fewer than three characters, which have no trigram.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import local
from time import monotonic

from momok.model.bundle.names import Names, UnknownName, closest, shorten
from momok.model.errors import UserError

_SCHEMA = """
CREATE TABLE entities (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, label TEXT NOT NULL, description TEXT NOT NULL,
    degree INTEGER NOT NULL, folded TEXT NOT NULL, folded_key TEXT NOT NULL
);
CREATE TABLE relations (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, label TEXT NOT NULL, num_facts INTEGER NOT NULL
);
CREATE VIRTUAL TABLE entity_search USING fts5(folded, key, content='', tokenize='trigram');
CREATE INDEX entities_by_folded ON entities (folded);
"""
_TRIGRAM = 3
_SIMILAR_CONSIDERED = 100
_SEARCH_S, _SIMILAR_S = 2.0, 0.2
"""After so long a search is given up, and one for labels like a misspelt name."""
_STEPS = 20_000
"""Of SQLite's machine between two looks at the clock: some tenths of a millisecond."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class SearchTooLong(UserError):
    """A search that was given up."""


class VocabularyError(UserError):
    """A vocabulary file that cannot be read."""


@dataclass(frozen=True)
class EntityDetails:
    """The description of an entity, and its ``degree``: its facts in all splits."""

    description: str
    degree: int


class Vocabulary:
    """Opened read-only; safe to use from several threads, each with a connection of its own."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect, self._local = connect, local()
        connection = self._connection
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(entities)")}
        # Older bundles have none; in their keys, short texts find letters beyond ASCII only as they stand.
        self._key_column = "folded_key" if "folded_key" in columns else "key"
        self.entities = self._names("entity", "entities")
        self.relations = self._names("relation", "relations")
        self.relation_counts: tuple[int, ...] = tuple(
            count for (count,) in connection.execute("SELECT num_facts FROM relations ORDER BY id")
        )

    @classmethod
    def open(cls, path: Path) -> Vocabulary:
        """Raises ``VocabularyError`` for a missing or damaged file."""
        try:
            address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            return cls(partial(sqlite3.connect, address, uri=True))
        except (sqlite3.Error, ValueError) as error:
            raise VocabularyError(f"{path}: not a readable vocabulary ({error}); export again") from None

    def close(self) -> None:
        """Close the file, as far as this thread has opened it."""
        self._connection.close()

    @property
    def _connection(self) -> sqlite3.Connection:
        """Of this thread; it is closed when the thread or the vocabulary ends."""
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def details(self, entity: int) -> EntityDetails:
        """Description and degree of an entity."""
        row = self._connection.execute(
            "SELECT description, degree FROM entities WHERE id = ?", (entity,)
        ).fetchone()
        return EntityDetails(*row)

    def search(self, text: str, *, limit: int, offset: int = 0) -> list[int]:
        """Entities whose label or key holds ``text``, regardless of case.

        Equal labels first, then those that begin with it, then the others; the most connected first. An
        empty text lists all entities. Raises ``SearchTooLong``.
        """
        folded = _fold(text).strip()
        like = _escape_like(folded)
        matched: tuple[str, ...]
        if len(folded) >= _TRIGRAM:
            source = "entities JOIN entity_search ON entities.id = entity_search.rowid"
            condition, matched = "entity_search MATCH ?", (_phrase(folded),)
        else:
            source = "entities"
            condition = f"(folded LIKE ? ESCAPE '\\' OR {self._key_column} LIKE ? ESCAPE '\\')"
            matched = (f"%{like}%",) * 2
        rows = self._within(
            _SEARCH_S,
            f"SELECT id FROM {source} WHERE {condition} "
            "ORDER BY entities.folded = ? DESC, entities.folded LIKE ? ESCAPE '\\' DESC, degree DESC, id "
            "LIMIT ? OFFSET ?",
            (*matched, folded, f"{like}%", limit, offset),
        )
        return [entity for (entity,) in rows]

    def resolve_entity(self, name: str, *, suggest: bool = True) -> int:
        """The id of an entity. Raises ``UnknownName`` (with the nearest labels) or ``AmbiguousName``."""
        try:
            return self.entities.resolve(name)
        except UnknownName:
            raise UnknownName("entity", name, self._similar(name) if suggest else ()) from None

    def resolve_relation(self, name: str, *, suggest: bool = True) -> int:
        """The id of a relation. Raises ``UnknownName`` (with the nearest labels) or ``AmbiguousName``."""
        try:
            return self.relations.resolve(name)
        except UnknownName:
            nearest = closest(name, self.relations.labels, 3) if suggest else ()
            raise UnknownName("relation", name, nearest) from None

    def _similar(self, name: str, limit: int = 3) -> list[str]:
        """Labels like a misspelt one: those that share most trigrams with it, then by edit similarity."""
        folded = _fold(shorten(name))
        trigrams = {folded[start : start + _TRIGRAM] for start in range(len(folded) - _TRIGRAM + 1)}
        if not trigrams:
            return []
        try:
            rows = self._within(
                _SIMILAR_S,
                "SELECT rowid FROM entity_search WHERE entity_search MATCH ? ORDER BY rank LIMIT ?",
                (" OR ".join(_phrase(trigram) for trigram in sorted(trigrams)), _SIMILAR_CONSIDERED),
            )
        except SearchTooLong:  # A help that is too dear.
            return []
        return closest(name, [self.entities.labels[entity] for (entity,) in rows], limit)

    def _within(self, seconds: float, statement: str, values: Sequence[object]) -> list[tuple[int]]:
        """The rows of a query. Raises ``SearchTooLong``."""
        connection, end = self._connection, monotonic() + seconds
        connection.set_progress_handler(lambda: monotonic() > end, _STEPS)
        try:
            return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise SearchTooLong(f"the search took more than {seconds:g} s; give more characters") from None
        finally:
            connection.set_progress_handler(None, 0)

    def _names(self, kind: str, table: str) -> Names:
        rows = self._connection.execute(f"SELECT key, label FROM {table} ORDER BY id").fetchall()
        return Names(kind, [key for key, _ in rows], [label for _, label in rows])


def write_vocabulary(
    path: Path,
    *,
    entities: Names,
    relations: Names,
    descriptions: Sequence[str],
    degrees: Sequence[int],
    relation_counts: Sequence[int],
) -> None:
    """Write a new vocabulary file; all sequences run in id order."""
    ids, folded = range(len(entities)), [_fold(label) for label in entities.labels]
    folded_keys = [_fold(key) for key in entities.keys]
    columns = (ids, entities.keys, entities.labels, descriptions, degrees, folded, folded_keys)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.executemany(
            "INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?, ?)", zip(*columns, strict=True)
        )
        connection.executemany(
            "INSERT INTO relations VALUES (?, ?, ?, ?)",
            zip(range(len(relations)), relations.keys, relations.labels, relation_counts, strict=True),
        )
        connection.executemany(
            "INSERT INTO entity_search (rowid, folded, key) VALUES (?, ?, ?)",
            zip(ids, folded, folded_keys, strict=True),
        )


def _fold(text: str) -> str:
    """Without case, NUL (it ends a text in SQLite) and lone surrogates (SQLite cannot hold them)."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text.casefold())


def _phrase(text: str) -> str:
    """An FTS5 string: quotes doubled, so that nothing in it is an operator."""
    return '"' + text.replace('"', '""') + '"'


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
