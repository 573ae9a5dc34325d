"""Names, official languages and currencies from the Unicode CLDR, as Babel carries it.

Codes are those of ISO 3166-1 (alpha-2) for countries, UN M49 for regions, CLDR for languages, ISO 4217 for
currencies, and IANA time zones for the cities that they are named after. A name that CLDR lacks is None.
Babel, an optional package, is imported in the functions that use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any, Literal

AS_OF = date(2026, 1, 1)
"""Currencies are those of this day, so that the graph does not depend on the day of its build."""

FOREIGN = ("fr", "es", "de", "ar", "zh", "ru")
"""Locales in which every entity gets a name, whatever its own languages are."""

Kind = Literal["territories", "languages", "currencies", "cities"]

_SOFT_HYPHEN = "\u00ad"


def official_languages(alpha2: str) -> list[str]:
    """Languages official in a country by law or in fact, without scripts, most spoken first."""
    from babel.languages import get_official_languages

    found = get_official_languages(alpha2.upper(), de_facto=True)
    return list(dict.fromkeys(code.split("_")[0] for code in found))


def currencies(alpha2: str) -> list[str]:
    """The legal tender of a country."""
    from babel.numbers import get_territory_currencies

    return get_territory_currencies(alpha2.upper(), start_date=AS_OF)


def name(kind: Kind, code: str, locale: str) -> str | None:
    """The name in a language of a country, region, language or currency, or of the city of a time zone."""
    if kind == "cities":
        city: str = _entries(locale, "time_zones").get(code, {}).get("city", "")
        return city.replace(_SOFT_HYPHEN, "") or None
    return _entries(locale, kind).get(code)


def currency_symbol(code: str) -> str | None:
    """The symbol of a currency in English text, such as ``€``; None where it is the code."""
    symbol: str | None = _entries("en", "currency_symbols").get(code)
    return None if symbol == code else symbol


@cache
def _entries(locale: str, section: str) -> Mapping[str, Any]:
    """A section of CLDR's data on a locale, empty for a locale unknown to CLDR."""
    from babel import Locale, UnknownLocaleError

    try:
        entries: Mapping[str, Any] = getattr(Locale.parse(locale), section)
    except UnknownLocaleError:
        return {}
    return entries
