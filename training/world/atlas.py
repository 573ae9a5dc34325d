"""Atlas: the countries of the world with their neighbours, capitals, languages, currencies and alliances.

Facts come from the tables beside this file and from CLDR; ``tables/README.md`` says what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from momok.training.world import cldr
from momok.training.world.tables import TABLES, Row, read_table

RELATIONS: tuple[tuple[str, str], ...] = (
    ("borders", "borders"),
    ("capital", "capital"),
    ("currency", "currency"),
    ("official_language", "official language"),
    ("part_of", "part of"),
    ("member_of", "member of"),
)
"""Key and label of each relation."""

_ARTICLE = (
    *("ARE", "BHS", "CAF", "COD", "COG", "COM", "DOM", "FSM", "GBR", "GMB", "MDV", "MHL", "NLD", "PHL"),
    *("SLB", "USA", "region:Americas", "region:Caribbean"),
)
"""Keys of those whose label takes ``the`` within a sentence."""

_PLACE = ("population", "latitude", "longitude")


@dataclass(frozen=True)
class Thing:
    """One entity: a country, city, region, language, currency or organisation (``kind``)."""

    key: str
    label: str
    kind: str
    description: str


@dataclass(frozen=True)
class Atlas:
    """Everything the tables and CLDR tell about the world.

    ``facts`` (head key, relation key, tail key) stand there once each, sorted, borders in both directions.
    ``texts`` hold, for each key, names in several languages, and never a fact: no name of another entity
    that a relation leads to, unless it is part of the entity's own. ``numbers`` hold, for countries and
    capitals, ``area_km2`` (countries alone), ``population`` (persons), ``latitude`` and ``longitude``
    (degrees). ``alpha2`` leads from a country's key to its ISO 3166-1 alpha-2 code in lower case.
    """

    things: tuple[Thing, ...]
    facts: tuple[tuple[str, str, str], ...]
    texts: dict[str, str]
    numbers: dict[str, dict[str, float]]
    alpha2: dict[str, str]


def read_atlas(tables: Path = TABLES) -> Atlas:
    """The atlas of a folder of tables; ``DatasetError`` says ``file:line``, what is wrong, what is right."""
    cldr.require_babel()
    draft = _Draft()
    names = read_table(tables / "names.tsv", ("key", "locale", "name", "reason"))
    draft.renamed = {(row["key"], row["locale"]): row["name"] for row in names}
    _add_regions(draft, tables / "regions.tsv")
    countries = _add_countries(draft, tables / "countries.tsv")
    _add_capitals(draft, tables / "capitals.tsv")
    _add_borders(draft, tables / "borders.tsv")
    _add_cldr_facts(draft, tables / "corrections.tsv")
    _add_languages(draft)
    _add_currencies(draft)
    _add_organisations(draft, tables / "organisations.tsv")
    _add_members(draft, tables / "members.tsv")
    for row in countries:
        draft.texts[row["key"]] = _country_text(draft, row)
    for row in names:
        if row["key"] not in draft.things:
            raise row.error(f"no entity has the key {row['key']!r}; correct it")
    things = tuple(draft.things.values())
    return Atlas(things, tuple(sorted(draft.facts)), draft.texts, draft.numbers, draft.alpha2)


@dataclass
class _Draft:
    """An atlas that is being made; it refuses what stands there twice or leads nowhere."""

    things: dict[str, Thing] = field(default_factory=dict)
    facts: set[tuple[str, str, str]] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    alpha2: dict[str, str] = field(default_factory=dict)
    renamed: dict[tuple[str, str], str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def add(self, thing: Thing, row: Row | None = None) -> None:
        """One more entity. Those without a row come from CLDR: there a clash is our own mistake."""
        for what, name, taken in (("key", thing.key, self.things), ("label", thing.label, self.labels)):
            if name in taken:
                message = f"the {what} {name!r} is taken; give another"
                raise row.error(message) if row else AssertionError(message)
        self.things[thing.key] = thing
        self.labels.add(thing.label)

    def link(self, head: str, relation: str, tail: str, row: Row) -> None:
        """One more fact of a table, between entities that are known by now."""
        for key in (head, tail):
            if key not in self.things:
                raise row.error(f"no entity has the key {key!r}; correct it, or add the entity")
        if head == tail or (head, relation, tail) in self.facts:
            raise row.error(f"{head} {relation} {tail} stands there twice or means itself; take it away")
        self.facts.add((head, relation, tail))

    def names(
        self, key: str, locales: Iterable[str], look_up: Callable[[str], str | None]
    ) -> list[str | None]:
        """What it is called in each language: as ``names.tsv`` says, else as CLDR does."""
        return [self.renamed.get((key, locale)) or look_up(locale) for locale in locales]

    def in_sentence(self, key: str) -> str:
        return ("the " if key in _ARTICLE else "") + self.things[key].label

    def tails(self, head: str, relation: str) -> list[str]:
        return sorted(tail for one, kind, tail in self.facts if (one, kind) == (head, relation))

    def sources(self, relation: str) -> Counter[str]:
        """How many facts of a relation lead to each tail, by key, sorted."""
        return Counter(tail for _, kind, tail in sorted(self.facts, key=lambda it: it[2]) if kind == relation)


def _add_regions(draft: _Draft, path: Path) -> None:
    for row in read_table(path, ("m49", "label", "part_of"), optional=("part_of",)):
        key, parent = _region_key(row["label"]), row["part_of"]
        description = "continent"
        if parent:
            if _region_key(parent) not in draft.things:
                raise row.error(f"no continent above is called {parent!r}; correct it, or move it up")
            description = f"subregion of {draft.in_sentence(_region_key(parent))}"
        draft.add(Thing(key, row["label"], "region", description), row)
        names = draft.names(key, cldr.FOREIGN, partial(cldr.territory_name, row["m49"]))
        draft.texts[key] = _join([row["label"], *names])
        if parent:
            draft.link(key, "part_of", _region_key(parent), row)


def _add_countries(draft: _Draft, path: Path) -> list[Row]:
    """The rows, as texts of countries have to wait for the names of languages."""
    rows = read_table(path, ("key", "alpha2", "label", "subregion", "area_km2", *_PLACE, "demonym"))
    for row in rows:
        key, region = row["key"], _region_key(row["subregion"])
        if region not in draft.things:
            raise row.error(f"no region is called {row['subregion']!r}; see regions.tsv")
        description = f"country in {draft.in_sentence(region)}"
        draft.add(Thing(key, row["label"], "country", description), row)
        draft.link(key, "part_of", region, row)
        draft.numbers[key] = {"area_km2": row.number("area_km2", 1, 2e7), **_place(row)}
        draft.alpha2[key] = row["alpha2"]
    return rows


def _add_capitals(draft: _Draft, path: Path) -> None:
    rows = read_table(path, ("key", "label", "country", *_PLACE, "zone"), optional=("zone",))
    num_capitals = Counter(row["country"] for row in rows)
    for row in rows:
        key, country = row["key"], row["country"]
        _check_country(draft, country, row)
        article = "a " if num_capitals[country] > 1 else ""
        description = f"{article}capital of {draft.in_sentence(country)}"
        draft.add(Thing(key, row["label"], "city", description), row)
        draft.link(country, "capital", key, row)
        names = draft.names(key, cldr.FOREIGN, partial(cldr.city_name, row["zone"]))
        draft.texts[key] = _join([row["label"].removesuffix(" (city)"), *names])
        draft.numbers[key] = _place(row)


def _add_borders(draft: _Draft, path: Path) -> None:
    for row in read_table(path, ("country", "other")):
        for country in row.cells.values():
            _check_country(draft, country, row)
        for head, tail in ((row["country"], row["other"]), (row["other"], row["country"])):
            draft.link(head, "borders", tail, row)


def _add_cldr_facts(draft: _Draft, path: Path) -> None:
    """Facts about languages and currencies; their entities follow, as these facts say which there are."""
    for country, alpha2 in draft.alpha2.items():
        for code in cldr.official_languages(alpha2):
            draft.facts.add((country, "official_language", f"language:{code}"))
        for code in cldr.currencies(alpha2):
            draft.facts.add((country, "currency", f"currency:{code}"))
    prefixes = {"official_language": "language", "currency": "currency"}
    for row in read_table(path, ("relation", "country", "action", "value", "reason")):
        if row["relation"] not in prefixes or row["country"] not in draft.alpha2:
            raise row.error(f"a correction needs a country's key and one of {', '.join(prefixes)}")
        fact = (row["country"], row["relation"], f"{prefixes[row['relation']]}:{row['value']}")
        # Neither minds if a later CLDR says the same.
        if row["action"] == "add":
            draft.facts.add(fact)
        elif row["action"] == "drop":
            draft.facts.discard(fact)
        else:
            raise row.error(f"the action {row['action']!r} is unknown; add and drop are known")


def _add_languages(draft: _Draft) -> None:
    for key, count in draft.sources("official_language").items():
        code = key.partition(":")[2]
        label, *others = draft.names(key, ("en", code, *cldr.FOREIGN), partial(cldr.language_name, code))
        assert label, f"{key} has no English name; add one to names.tsv"
        draft.add(Thing(key, label, "language", f"official language of {_countries(count)}"))
        draft.texts[key] = _join([label, *others])


def _add_currencies(draft: _Draft) -> None:
    for key, count in draft.sources("currency").items():
        code = key.partition(":")[2]
        label, *others = draft.names(key, ("en", *cldr.FOREIGN), partial(cldr.currency_name, code))
        assert label, f"{key} has no English name; add one to names.tsv"
        draft.add(Thing(key, label, "currency", f"currency of {_countries(count)}"))
        draft.texts[key] = _join([label, cldr.currency_symbol(code), *others])


def _add_organisations(draft: _Draft, path: Path) -> None:
    for row in read_table(path, ("key", "label", "other_names", "description")):
        key = f"organisation:{row['key']}"
        draft.add(Thing(key, row["label"], "organisation", row["description"]), row)
        draft.texts[key] = _join([row["label"], *row["other_names"].split("; ")])


def _add_members(draft: _Draft, path: Path) -> None:
    for row in read_table(path, ("organisation", "members")):
        for country in row["members"].split(" "):
            _check_country(draft, country, row)
            draft.link(country, "member_of", f"organisation:{row['organisation']}", row)


def _country_text(draft: _Draft, row: Row) -> str:
    """Its name, in English, in its own languages and in ``FOREIGN``, and what its people are called.

    A demonym with the name of some language in it, as French or South Korean, would give that language away.
    """
    key = row["key"]
    spoken = [tail.partition(":")[2] for tail in draft.tails(key, "official_language")]
    names = draft.names(key, (*spoken, *cldr.FOREIGN), partial(cldr.territory_name, row["alpha2"]))
    languages = {thing.label for thing in draft.things.values() if thing.kind == "language"}
    demonym = row["demonym"]
    return _join([row["label"], *names, None if languages & {demonym, *demonym.split()} else demonym])


def _check_country(draft: _Draft, key: str, row: Row) -> None:
    if key not in draft.alpha2:
        raise row.error(f"no country has the key {key!r}; see countries.tsv")


def _place(row: Row) -> dict[str, float]:
    return {
        "population": row.number("population", 1, 2e9),
        "latitude": row.number("latitude", -90, 90),
        "longitude": row.number("longitude", -180, 180),
    }


def _region_key(label: str) -> str:
    return "region:" + label.replace(" ", "_")


def _countries(count: int) -> str:
    return "one country" if count == 1 else f"{count} countries"


def _join(names: Iterable[str | None]) -> str:
    """Names apart by semicolons, each once regardless of case; what has no name is left out."""
    kept: dict[str, str] = {}
    for name in names:
        if name:
            kept.setdefault(name.casefold(), name)
    return "; ".join(kept.values())
