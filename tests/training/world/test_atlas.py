"""The demo's facts: whole, consistent, plausible, and right where something else can be asked."""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pycountry
import pytest

from momok.model.errors import UserError
from momok.training.data.files import DatasetError
from momok.training.encoders.models import libraries
from momok.training.world import cldr
from momok.training.world.atlas import RELATIONS, TABLES, Atlas, read_atlas, read_table

ALPHA2 = {row["key"]: row["alpha2"] for row in read_table(TABLES / "countries.tsv")}
"""ISO 3166-1 alpha-2 code in lower case by alpha-3 code, which is the key of a country."""

NOT_MEMBERS = (
    "ABW AIA ALA ASM ATA ATF BES BLM BMU BVT CCK COK CUW CXR CYM ESH FLK FRO GGY GIB GLP GRL GUF GUM HKG HMD "
    "IMN IOT JEY MAC MAF MNP MSR MTQ MYT NCL NFK NIU PCN PRI PSE PYF REU SGS SHN SJM SPM SXM TCA TKL TWN UMI "
    "VAT VGB VIR WLF"
)
"""Those with an ISO code that are no members of the United Nations."""

ISLANDS = (
    "ATG AUS BHR BHS BRB COM CPV CUB CYP DMA FJI FSM GRD ISL JAM JPN KIR KNA LCA LKA MDG MDV MHL MLT MUS NRU "
    "NZL PHL PLW SGP SLB STP SYC TON TTO TUV VCT VUT WSM"
)
ONE_NEIGHBOUR = "BRN CAN DNK DOM GBR GMB HTI IRL KOR LSO MCO PNG PRT QAT SMR TLS"
LANDLOCKED = (
    "AFG AND ARM AUT AZE BDI BFA BLR BOL BTN BWA CAF CHE CZE ETH HUN KAZ KGZ LAO LIE LSO LUX MDA MKD MLI MNG "
    "MWI NER NPL PRY RWA SMR SRB SSD SVK SWZ TCD TJK TKM UGA UZB ZMB ZWE"
)
NEIGHBOURS = {
    "FRA": "AND BEL BRA CHE DEU ESP ITA LUX MCO SUR",
    "DEU": "AUT BEL CHE CZE DNK FRA LUX NLD POL",
    "CHN": "AFG BTN IND KAZ KGZ LAO MMR MNG NPL PAK PRK RUS TJK VNM",
    "RUS": "AZE BLR CHN EST FIN GEO KAZ LTU LVA MNG NOR POL PRK UKR",
    "BRA": "ARG BOL COL FRA GUY PER PRY SUR URY VEN",
    "COD": "AGO BDI CAF COG RWA SSD TZA UGA ZMB",
    "ESP": "AND FRA MAR PRT",
    "SRB": "BGR BIH HRV HUN MKD MNE ROU",
    "ZMB": "AGO BWA COD MOZ MWI NAM TZA ZWE",
    "SAU": "ARE IRQ JOR KWT OMN QAT YEM",
}
SIZES = {
    "AU": 54,
    "ASEAN": 11,
    "Andean_Community": 4,
    "Arab_League": 21,
    "BRICS": 10,
    "Benelux": 3,
    "CARICOM": 14,
    "CEMAC": 6,
    "CIS": 9,
    "CPLP": 9,
    "Commonwealth": 56,
    "CoE": 46,
    "EAC": 8,
    "EAEU": 5,
    "ECOWAS": 12,
    "EFTA": 4,
    "EU": 27,
    "G20": 19,
    "G7": 7,
    "GCC": 6,
    "Mercosur": 5,
    "NATO": 32,
    "Nordic_Council": 5,
    "OECD": 38,
    "OECS": 6,
    "OIC": 56,
    "OPEC": 12,
    "OTS": 5,
    "PIF": 14,
    "SAARC": 8,
    "SADC": 16,
    "SCO": 10,
    "SICA": 8,
    "Schengen": 29,
    "Visegrad_Group": 4,
}

Tails = Callable[[str, str], set[str]]


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return read_atlas()


@pytest.fixture(scope="module")
def tails(atlas: Atlas) -> Tails:
    return lambda head, relation: {tail for one, kind, tail in atlas.facts if (one, kind) == (head, relation)}


@pytest.fixture(scope="module")
def heads(atlas: Atlas) -> Tails:
    return lambda relation, tail: {head for head, kind, one in atlas.facts if (kind, one) == (relation, tail)}


def kind(atlas: Atlas, wanted: str) -> set[str]:
    return {key for key, entity in atlas.entities.items() if entity.kind == wanted}


def labels_of(atlas: Atlas) -> dict[str, str]:
    """By key, without what tells a city from its country."""
    return {key: entity.label.removesuffix(" (city)") for key, entity in atlas.entities.items()}


def names_of(atlas: Atlas, key: str) -> list[str]:
    """The names in an entity's text."""
    return atlas.entities[key].text.split("; ")


def distance_km(atlas: Atlas, one: str, other: str) -> float:
    """Along a great circle."""
    (lat, lon), (lat2, lon2) = (
        (math.radians(numbers["latitude"]), math.radians(numbers["longitude"]))
        for numbers in (atlas.entities[one].numbers, atlas.entities[other].numbers)
    )
    cosine = math.sin(lat) * math.sin(lat2) + math.cos(lat) * math.cos(lat2) * math.cos(lon - lon2)
    return 6371 * math.acos(max(-1.0, min(1.0, cosine)))


def side_km(atlas: Atlas, country: str) -> float:
    """Of a square as large as the country."""
    return math.sqrt(atlas.entities[country].numbers["area_km2"])


def test_keys_and_labels_are_unique_and_fit_in_an_address(atlas: Atlas) -> None:
    labels = {entity.label.casefold() for entity in atlas.entities.values()}
    assert len(labels) == len(atlas.entities)
    for key, entity in atlas.entities.items():
        assert entity.key == key
        assert re.fullmatch(r"([a-z]+:)?[A-Za-z0-9_-]+", key)
        assert entity.description and entity.text, key


def test_facts_are_sorted_distinct_and_about_entities(atlas: Atlas) -> None:
    assert list(atlas.facts) == sorted(set(atlas.facts))
    assert {key for head, _, tail in atlas.facts for key in (head, tail)} == atlas.entities.keys()
    assert {relation for _, relation, _ in atlas.facts} == {key for key, _ in RELATIONS}


@pytest.mark.parametrize(
    ("relation", "head_kinds", "tail_kind"),
    [
        ("borders", {"country"}, "country"),
        ("capital", {"country"}, "city"),
        ("currency", {"country"}, "currency"),
        ("official_language", {"country"}, "language"),
        ("part_of", {"country", "region"}, "region"),
        ("member_of", {"country"}, "organisation"),
    ],
)
def test_relations_join_the_right_kinds(
    atlas: Atlas, relation: str, head_kinds: set[str], tail_kind: str
) -> None:
    kinds = {key: entity.kind for key, entity in atlas.entities.items()}
    facts = [(kinds[head], kinds[tail]) for head, one, tail in atlas.facts if one == relation]
    assert {head for head, _ in facts} == head_kinds
    assert {tail for _, tail in facts} == {tail_kind}


def test_countries_are_the_members_of_the_united_nations(atlas: Atlas) -> None:
    every = {country.alpha_3: country.alpha_2.lower() for country in pycountry.countries}
    members = {key: alpha2 for key, alpha2 in every.items() if key not in NOT_MEMBERS.split()}
    assert len(members) == 193
    assert members == ALPHA2
    assert kind(atlas, "country") == set(members)


def test_labels_of_countries_belong_to_their_codes(atlas: Atlas) -> None:
    for entity in atlas.entities.values():
        if entity.kind == "country":
            found = cldr.name("territories", ALPHA2[entity.key].upper(), "en")
            assert found
            country = pycountry.countries.get(alpha_3=entity.key)
            assert country
            theirs = f"{found} {country.name}"
            assert set(re.findall(r"\w{4,}", entity.label)) & set(re.findall(r"\w{4,}", theirs)), entity


def test_every_country_has_what_a_country_has(tails: Tails) -> None:
    for country in ALPHA2:
        for relation in ("capital", "currency", "official_language"):
            assert tails(country, relation), (country, relation)
        (subregion,) = tails(country, "part_of")
        (continent,) = tails(subregion, "part_of")
        assert not tails(continent, "part_of")


def test_regions_hold_as_many_countries_as_the_standard_says(atlas: Atlas, heads: Tails) -> None:
    continents = ("Africa", "Americas", "Asia", "Europe", "Oceania")
    below = {name: heads("part_of", f"region:{name}") for name in continents}
    assert sum(map(len, below.values())) == 22
    sizes = {name: sum(len(heads("part_of", one)) for one in regions) for name, regions in below.items()}
    assert sizes == {"Africa": 54, "Americas": 35, "Asia": 47, "Europe": 43, "Oceania": 14}
    assert len(heads("part_of", "region:Caribbean")) == 13
    assert len(heads("part_of", "region:Western_Asia")) == 17
    assert len(heads("part_of", "region:Eastern_Africa")) == 18


def test_capitals_belong_to_one_country(atlas: Atlas, tails: Tails) -> None:
    cities = [tail for _, relation, tail in atlas.facts if relation == "capital"]
    assert len(cities) == len(set(cities)) == 196
    several = {country for country in ALPHA2 if len(tails(country, "capital")) > 1}
    assert several == {"BOL", "ZAF"}
    assert tails("AUS", "capital") == {"city:Canberra"}
    assert tails("MMR", "capital") == {"city:Naypyidaw"}


def test_borders_are_mutual(atlas: Atlas) -> None:
    borders = {(head, tail) for head, relation, tail in atlas.facts if relation == "borders"}
    assert len(borders) == 618
    assert borders == {(tail, head) for head, tail in borders}
    assert all(head != tail for head, tail in borders)


@pytest.mark.parametrize("country", NEIGHBOURS)
def test_neighbours(tails: Tails, country: str) -> None:
    assert tails(country, "borders") == set(NEIGHBOURS[country].split())


def test_islands_and_landlocked_countries(tails: Tails) -> None:
    num_neighbours = {country: len(tails(country, "borders")) for country in ALPHA2}
    assert {country for country, number in num_neighbours.items() if number == 0} == set(ISLANDS.split())
    assert {country for country, number in num_neighbours.items() if number == 1} == set(
        ONE_NEIGHBOUR.split()
    )
    inland = set(LANDLOCKED.split())
    assert inland <= set(ALPHA2)
    doubly = {country for country in inland if tails(country, "borders") <= inland}
    assert doubly == {"LIE", "UZB"}


def test_neighbours_are_near(atlas: Atlas) -> None:
    overseas = {("FRA", "BRA"), ("FRA", "SUR")}
    for head, relation, tail in atlas.facts:
        if relation == "borders" and not overseas & {(head, tail), (tail, head)}:
            limit = 1.5 * (100 + side_km(atlas, head) + side_km(atlas, tail))
            assert distance_km(atlas, head, tail) < limit, (head, tail)


def test_capitals_are_near_the_middle(atlas: Atlas) -> None:
    scattered = {"MHL", "TUV"}  # Atolls far apart: the area says nothing.
    for head, relation, tail in atlas.facts:
        if relation == "capital":
            limit = 300 if head in scattered else 1.5 * (50 + side_km(atlas, head))
            assert distance_km(atlas, head, tail) < limit, (head, tail)


def test_capitals_are_smaller_than_their_countries(atlas: Atlas) -> None:
    for head, relation, tail in atlas.facts:
        if relation == "capital":
            country, city = atlas.entities[head], atlas.entities[tail]
            assert city.numbers["population"] <= country.numbers["population"], tail


def test_countries_add_up_to_the_world(atlas: Atlas) -> None:
    countries = [atlas.entities[key].numbers for key in ALPHA2]
    # All land but Antarctica, less Greenland, Western Sahara, Taiwan and what else is not of a member.
    assert sum(one["area_km2"] for one in countries) == pytest.approx(133.5e6, rel=0.02)
    assert sum(one["population"] for one in countries) == pytest.approx(8.1e9, rel=0.03)


def test_numbers_are_of_countries_and_capitals(atlas: Atlas) -> None:
    place = {"population", "latitude", "longitude"}
    expected = {"country": place | {"area_km2"}, "city": place}
    for entity in atlas.entities.values():
        assert set(entity.numbers) == expected.get(entity.kind, set())
        if entity.numbers:
            assert 1 <= entity.numbers["population"] < 2e9
            assert -90 <= entity.numbers["latitude"] <= 90
            assert -180 <= entity.numbers["longitude"] <= 180
    countries = [(key, atlas.entities[key].numbers) for key in ALPHA2]
    density = {key: numbers["population"] / numbers["area_km2"] for key, numbers in countries}
    assert min(density, key=density.__getitem__) == "MNG"
    assert max(density, key=density.__getitem__) == "MCO"


def test_largest_countries(atlas: Atlas) -> None:
    def largest(number: str, count: int) -> list[str]:
        return sorted(ALPHA2, key=lambda key: -atlas.entities[key].numbers[number])[:count]

    assert largest("population", 8) == ["IND", "CHN", "USA", "IDN", "PAK", "NGA", "BRA", "BGD"]
    assert largest("area_km2", 8) == ["RUS", "CAN", "USA", "CHN", "BRA", "AUS", "IND", "ARG"]


def test_languages_and_currencies_are_known_elsewhere(atlas: Atlas) -> None:
    for key in kind(atlas, "language"):
        code = key.partition(":")[2]
        assert pycountry.languages.get(**{f"alpha_{len(code)}": code}), key
    for key in kind(atlas, "currency"):
        assert pycountry.currencies.get(alpha_3=key.partition(":")[2]), key


def test_languages_of_many_countries(tails: Tails, heads: Tails) -> None:
    def speakers(code: str) -> set[str]:
        return heads("official_language", f"language:{code}")

    assert speakers("de") == {"AUT", "BEL", "CHE", "DEU", "LIE", "LUX"}
    assert speakers("pt") == {"AGO", "BRA", "CPV", "GNB", "GNQ", "MOZ", "PRT", "STP", "TLS"}
    assert speakers("nl") == {"BEL", "NLD", "SUR"}
    assert speakers("it") == {"CHE", "ITA", "SMR"}
    assert len(speakers("es")) == 20
    assert speakers("ar") == heads("member_of", "organisation:Arab_League") | {"ERI", "TCD"}
    assert len(tails("ZAF", "official_language")) == 11
    assert tails("CHE", "official_language") == {f"language:{code}" for code in ("de", "fr", "it", "rm")}


def test_currencies_of_many_countries(heads: Tails) -> None:
    def users(code: str) -> set[str]:
        return heads("currency", f"currency:{code}")

    outside = {"CZE", "DNK", "HUN", "POL", "ROU", "SWE"}
    members = heads("member_of", "organisation:EU")
    assert users("EUR") == (members - outside) | {"AND", "MCO", "MNE", "SMR"}
    assert users("XOF") == {"BEN", "BFA", "CIV", "GNB", "MLI", "NER", "SEN", "TGO"}
    assert users("XAF") == heads("member_of", "organisation:CEMAC")
    assert users("XCD") == heads("member_of", "organisation:OECS")
    assert users("USD") == {"ECU", "FSM", "MHL", "PAN", "PLW", "SLV", "TLS", "USA", "ZWE"}
    assert users("AUD") == {"AUS", "KIR", "NRU", "TUV"}


def test_organisations_have_as_many_members_as_they_have(atlas: Atlas, heads: Tails) -> None:
    organisations = kind(atlas, "organisation")
    assert {key.partition(":")[2]: len(heads("member_of", key)) for key in organisations} == SIZES


def test_organisations_hold_one_another(heads: Tails) -> None:
    def members(key: str) -> set[str]:
        return heads("member_of", f"organisation:{key}")

    assert members("Schengen") == members("EU") - {"IRL", "CYP"} | members("EFTA")
    beyond = {"ALB", "CAN", "GBR", "ISL", "MKD", "MNE", "NOR", "TUR", "USA"}
    assert members("NATO") - members("EU") == beyond
    assert members("G7") < members("G20")
    assert members("GCC") < members("Arab_League")
    assert members("OECS") < members("CARICOM")
    assert members("EAEU") < members("CIS")
    assert members("Benelux") | members("Visegrad_Group") < members("EU")
    assert members("EU") | members("EFTA") | members("Nordic_Council") < members("CoE")
    assert members("ECOWAS") | members("SADC") | members("EAC") | members("CEMAC") < members("AU")
    asean = heads("part_of", "region:South-eastern_Asia")
    assert members("ASEAN") == asean
    african = set().union(*(heads("part_of", one) for one in heads("part_of", "region:Africa")))
    assert members("AU") == african


def test_no_text_tells_a_fact(atlas: Atlas) -> None:
    labels = labels_of(atlas)
    for head, relation, tail in atlas.facts:
        for one, other in ((head, tail), (tail, head)):
            # Guatemala City; Bahamian Dollar, which is Bahamas-Dollar elsewhere.
            own = labels[other] if relation != "currency" else labels[other][:4]
            if own in labels[one]:
                continue
            pattern = rf"(?<!\w){re.escape(labels[other].casefold())}(?!\w)"
            assert not re.search(pattern, atlas.entities[one].text.casefold()), (relation, one, other)


def test_capitals_and_countries_tell_nothing_of_each_other_in_other_languages(atlas: Atlas) -> None:
    """CLDR adds the one to the other's name where namesakes have to be told apart."""
    labels = labels_of(atlas)
    alike = {"DZA", "SLV"}  # Algiers and San Salvador, which are one word with their countries elsewhere.
    for country, relation, city in atlas.facts:
        if relation != "capital" or labels[country] in labels[city] or labels[city] in labels[country]:
            continue
        ours, theirs = names_of(atlas, country), names_of(atlas, city)
        inside = [(one, other) for one in ours for other in theirs if one in other or other in one]
        assert country in alike or not inside, inside


def test_texts_have_names_in_several_languages(atlas: Atlas) -> None:
    assert atlas.entities["DEU"].text.startswith("Germany; Deutschland; Allemagne; Alemania; ")
    assert "German" not in names_of(atlas, "DEU")  # The demonym is that of the language.
    assert atlas.entities["BRA"].text.endswith("; Brazilian")
    assert {"भारत", "印度", "Индия"} <= set(names_of(atlas, "IND"))
    assert {"London", "Londres", "伦敦"} <= set(names_of(atlas, "city:London"))
    assert {"Greek", "Ελληνικά", "grec"} <= set(names_of(atlas, "language:el"))
    assert {"Japanese Yen", "¥", "日元"} <= set(names_of(atlas, "currency:JPY"))
    assert {"Western Europe", "西欧"} <= set(names_of(atlas, "region:Western_Europe"))
    assert {"Nordic Council", "Pohjoismaiden neuvosto"} <= set(names_of(atlas, "organisation:Nordic_Council"))


def test_every_correction_corrects() -> None:
    look_up = {"currency": cldr.currencies, "official_language": cldr.official_languages}
    for row in read_table(TABLES / "corrections.tsv"):
        in_cldr = row["value"] in look_up[row["relation"]](ALPHA2[row["country"]])
        assert row["action"] == ("drop" if in_cldr else "add"), row


def test_every_line_of_a_table_says_something_new(atlas: Atlas) -> None:
    relations = Counter(relation for _, relation, _ in atlas.facts)
    assert relations["borders"] == 2 * len(read_table(TABLES / "borders.tsv"))
    members = [row["members"].split() for row in read_table(TABLES / "members.tsv")]
    assert relations["member_of"] == sum(map(len, members))
    names = [(row["key"], row["locale"]) for row in read_table(TABLES / "names.tsv")]
    assert len(set(names)) == len(names)
    assert {key for key, _ in names} <= atlas.entities.keys()


def test_cells_are_trimmed_and_filled_in() -> None:
    optional = {("regions.tsv", "part_of"), ("capitals.tsv", "zone")}
    for path in TABLES.glob("*.tsv"):
        for row in read_table(path):
            for column, cell in row.items():
                assert cell == cell.strip()
                assert cell or (path.name, column) in optional, row


def test_labels_within_descriptions_have_their_article(atlas: Atlas) -> None:
    assert atlas.entities["CUB"].description == "country in the Caribbean"
    assert atlas.entities["FRA"].description == "country in Western Europe"
    assert atlas.entities["city:London"].description == "capital of the United Kingdom"
    assert atlas.entities["city:Pretoria"].description == "a capital of South Africa"


def test_the_day_of_the_build_does_not_matter(monkeypatch: pytest.MonkeyPatch, atlas: Atlas) -> None:
    assert cldr.currencies("hr") == ["EUR"]
    monkeypatch.setattr(cldr, "AS_OF", cldr.AS_OF.replace(year=2020))
    assert cldr.currencies("hr") == ["HRK"]


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("countries.tsv", "\tAngolan\n", "\n", "countries.tsv:3: 8 cells; 9 are needed, separated by tabs"),
        ("organisations.tsv", "NATO\t", "EU\t", "two entities have the same key"),
        ("borders.tsv", "AFG\tIRN", "AFG\tXXX", "facts name ['XXX'], which are no entities"),
        ("members.tsv", "EU\t", "EWG\t", "facts name ['organisation:EWG'], which are no entities"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, table: str, old: str, new: str, message: str) -> None:
    shutil.copytree(TABLES, tmp_path / "tables")
    path = tmp_path / "tables" / table
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises((DatasetError, AssertionError), match=re.escape(message)):
        read_atlas(tmp_path / "tables")


def test_without_babel_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'momok\[demo\]'"):
        read_atlas()
