"""Atlas: the countries of the world with their neighbours, capitals, languages, currencies and alliances.

Facts come from the tables beside this file and from CLDR; ``tables/README.md`` gives their rules. The tables
ship with the code, so tests check what they hold; the reader refuses only what it cannot read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from momok.training.data.files import DatasetError, read_lines
from momok.training.encoders.models.libraries import need
from momok.training.world import cldr

RELATIONS: tuple[tuple[str, str], ...] = (
    ("borders", "borders"),
    ("capital", "capital"),
    ("currency", "currency"),
    ("official_language", "official language"),
    ("part_of", "part of"),
    ("member_of", "member of"),
)
"""Key and label of each relation."""

TABLES = Path(__file__).parent / "tables"

Row = Mapping[str, str]
"""Cells by column."""

Fact = tuple[str, str, str]
"""Keys of head, relation and tail."""

Renamed = Mapping[tuple[str, str], str]
"""Names that replace those of CLDR, by key and locale."""

_ARTICLE = frozenset(
    {
        *("Americas", "Bahamas", "Caribbean", "Central African Republic", "Comoros"),
        *("Democratic Republic of the Congo", "Dominican Republic", "Federated States of Micronesia"),
        *("Gambia", "Maldives", "Marshall Islands", "Netherlands", "Philippines"),
        *("Republic of the Congo", "Solomon Islands", "United Arab Emirates", "United Kingdom"),
        "United States",
    }
)
"""Labels that take ``the`` within a sentence."""


@dataclass(frozen=True)
class Entity:
    """A country, city, region, language, currency or organisation.

    ``text`` holds its names in several languages. It never states a fact: it holds no name of another entity
    that a relation leads to, unless that name is a part of its own. ``numbers`` of a country or capital:
    ``area_km2`` (countries alone), ``population`` (persons), ``latitude`` and ``longitude`` (degrees).
    """

    key: str
    label: str
    kind: str
    description: str
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Atlas:
    """The graph of the world.

    ``entities`` by key, which for a country is its ISO 3166-1 alpha-3 code; ``facts``: distinct and sorted,
    borders in both directions.
    """

    entities: Mapping[str, Entity]
    facts: tuple[Fact, ...]


def read_atlas(folder: Path = TABLES) -> Atlas:
    """The atlas of a folder of tables. Raises ``UserError`` without Babel and for a table cut short."""
    need("babel", "the demo graph", "demo")
    tables = {path.stem: read_table(path) for path in folder.glob("*.tsv")}
    facts = {*_table_facts(tables), *_cldr_facts(tables)}
    renamed = {(row["key"], row["locale"]): row["name"] for row in tables["names"]}
    languages = list(_languages(facts, renamed))
    found = [
        *_regions(tables["regions"], renamed),
        *_countries(tables["countries"], facts, renamed, {entity.label for entity in languages}),
        *_capitals(tables, renamed),
        *languages,
        *_currencies(facts, renamed),
        *_organisations(tables["organisations"]),
    ]
    entities = {entity.key: entity for entity in found}
    assert len(entities) == len(found), "two entities have the same key"
    strays = {key for head, _, tail in facts for key in (head, tail)} - entities.keys()
    assert not strays, f"facts name {sorted(strays)}, which are no entities"
    return Atlas(entities, tuple(sorted(facts)))


def read_table(path: Path) -> list[Row]:
    """The lines below a header. Raises ``DatasetError`` for a line with fewer or more cells than it."""
    header, *lines = (line.split("\t") for line in read_lines(path))
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(header):
            message = f"{len(cells)} cells; {len(header)} are needed, separated by tabs"
            raise DatasetError(message, file=path, line=number)
    return [dict(zip(header, cells, strict=True)) for cells in lines]


def _table_facts(tables: Mapping[str, list[Row]]) -> Iterator[Fact]:
    for row in tables["borders"]:
        yield row["country"], "borders", row["other"]
        yield row["other"], "borders", row["country"]
    for row in tables["capitals"]:
        yield row["country"], "capital", row["key"]
    for row in tables["countries"]:
        yield row["key"], "part_of", _region_key(row["subregion"])
    for row in tables["regions"]:
        if row["part_of"]:
            yield _region_key(row["label"]), "part_of", _region_key(row["part_of"])
    for row in tables["members"]:
        for country in row["members"].split():
            yield country, "member_of", f"organisation:{row['organisation']}"


def _cldr_facts(tables: Mapping[str, list[Row]]) -> set[Fact]:
    """Official languages and currencies, as corrected. A correction that CLDR has made too does no harm."""
    facts: set[Fact] = set()
    for row in tables["countries"]:
        country, code = row["key"], row["alpha2"]
        facts |= {(country, "official_language", f"language:{one}") for one in cldr.official_languages(code)}
        facts |= {(country, "currency", f"currency:{one}") for one in cldr.currencies(code)}
    correct = {"add": facts.add, "drop": facts.discard}
    prefixes = {"official_language": "language", "currency": "currency"}
    for row in tables["corrections"]:
        tail = f"{prefixes[row['relation']]}:{row['value']}"
        correct[row["action"]]((row["country"], row["relation"], tail))
    return facts


def _regions(rows: Iterable[Row], renamed: Renamed) -> Iterator[Entity]:
    for row in rows:
        key, label, parent = _region_key(row["label"]), row["label"], row["part_of"]
        description = f"subregion of {_in_sentence(parent)}" if parent else "continent"
        foreign = _names(renamed, key, "territories", row["m49"])
        yield Entity(key, label, "region", description, _join(label, *foreign))


def _countries(
    rows: Iterable[Row], facts: Iterable[Fact], renamed: Renamed, languages: set[str]
) -> Iterator[Entity]:
    """Texts are names in English, in the country's own languages and in ``FOREIGN``, and the demonym.

    A demonym with the label of a language in it, such as French or South Korean, would tell that language.
    """
    for row in rows:
        key, label, demonym = row["key"], row["label"], row["demonym"]
        spoken = sorted(_code(tail) for *start, tail in facts if start == [key, "official_language"])
        others = _names(renamed, key, "territories", row["alpha2"].upper(), *spoken)
        telling = not languages.isdisjoint({demonym, *demonym.split()})
        text = _join(label, *others, None if telling else demonym)
        description = f"country in {_in_sentence(row['subregion'])}"
        yield Entity(key, label, "country", description, text, _numbers(row, "area_km2"))


def _capitals(tables: Mapping[str, list[Row]], renamed: Renamed) -> Iterator[Entity]:
    countries = {row["key"]: row["label"] for row in tables["countries"]}
    num_capitals = Counter(row["country"] for row in tables["capitals"])
    for row in tables["capitals"]:
        key, label, country = row["key"], row["label"], row["country"]
        article = "a " if num_capitals[country] > 1 else ""
        description = f"{article}capital of {_in_sentence(countries[country])}"
        foreign = _names(renamed, key, "cities", row["zone"])
        text = _join(label.removesuffix(" (city)"), *foreign)
        yield Entity(key, label, "city", description, text, _numbers(row))


def _languages(facts: Iterable[Fact], renamed: Renamed) -> Iterator[Entity]:
    for key, code, countries in _shared(facts, "official_language"):
        label, *others = _names(renamed, key, "languages", code, "en", code)
        assert label, f"{key} has no English name; add one to names.tsv"
        yield Entity(key, label, "language", f"official language of {countries}", _join(label, *others))


def _currencies(facts: Iterable[Fact], renamed: Renamed) -> Iterator[Entity]:
    for key, code, countries in _shared(facts, "currency"):
        label, *others = _names(renamed, key, "currencies", code, "en")
        assert label, f"{key} has no English name; add one to names.tsv"
        text = _join(label, cldr.currency_symbol(code), *others)
        yield Entity(key, label, "currency", f"currency of {countries}", text)


def _organisations(rows: Iterable[Row]) -> Iterator[Entity]:
    for row in rows:
        text = _join(row["label"], *row["other_names"].split("; "))
        yield Entity(f"organisation:{row['key']}", row["label"], "organisation", row["description"], text)


def _names(renamed: Renamed, key: str, kind: cldr.Kind, code: str, *locales: str) -> list[str | None]:
    """The name in each of ``locales`` and then of ``FOREIGN``, None where there is none."""
    return [
        renamed.get((key, locale)) or cldr.name(kind, code, locale) for locale in (*locales, *cldr.FOREIGN)
    ]


def _shared(facts: Iterable[Fact], relation: str) -> list[tuple[str, str, str]]:
    """Key, code and number of countries, in words, of each tail of a relation, sorted by key."""
    counts = Counter(tail for _, one, tail in facts if one == relation)
    return [
        (key, _code(key), "one country" if count == 1 else f"{count} countries")
        for key, count in sorted(counts.items())
    ]


def _numbers(row: Row, *more: str) -> dict[str, float]:
    return {column: float(row[column]) for column in (*more, "population", "latitude", "longitude")}


def _region_key(label: str) -> str:
    return "region:" + label.replace(" ", "_")


def _code(key: str) -> str:
    """``de`` of ``language:de``."""
    return key.partition(":")[2]


def _in_sentence(label: str) -> str:
    return f"the {label}" if label in _ARTICLE else label


def _join(*names: str | None) -> str:
    """Names separated by semicolons, each once regardless of case."""
    kept: dict[str, str] = {}
    for name in filter(None, names):
        kept.setdefault(name.casefold(), name)
    return "; ".join(kept.values())
