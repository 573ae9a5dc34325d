"""Names, official languages and currencies from the Unicode CLDR, as Babel carries it.

Babel is imported when a function runs: only who builds the demo needs it.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from momok.training.data.files import DatasetError

if TYPE_CHECKING:
    from babel import Locale

AS_OF = date(2026, 1, 1)
"""The day whose currencies are meant, so that the graph does not depend on the day it is built."""

FOREIGN = ("fr", "es", "de", "ar", "zh", "ru")
"""Locales in which everything has a name, whatever is spoken there."""


_SOFT_HYPHEN = "\u00ad"


def require_babel() -> None:
    """``DatasetError`` with the remedy where Babel is not installed."""
    if find_spec("babel") is None:
        raise DatasetError("the demo graph needs Babel; pip install 'momok[demo]'")


def official_languages(alpha2: str) -> list[str]:
    """Codes of the languages official in a country by law or in fact, without scripts, most spoken first."""
    from babel.languages import get_official_languages

    found = get_official_languages(alpha2.upper(), de_facto=True)
    return list(dict.fromkeys(code.split("_")[0] for code in found))


def currencies(alpha2: str) -> list[str]:
    """ISO 4217 codes of the legal tender of a country."""
    from babel.numbers import get_territory_currencies

    return get_territory_currencies(alpha2.upper(), start_date=AS_OF)


def territory_name(code: str, locale: str) -> str | None:
    """What a country (alpha-2) or region (M49) is called in a language; None where CLDR does not say."""
    found = _locale(locale)
    return found.territories.get(code.upper()) if found else None


def language_name(code: str, locale: str) -> str | None:
    """What a language is called in a language; None where CLDR does not say."""
    found = _locale(locale)
    return found.languages.get(code) if found else None


def currency_name(code: str, locale: str) -> str | None:
    """What a currency is called in a language; None where CLDR does not say."""
    found = _locale(locale)
    return found.currencies.get(code) if found else None


def currency_symbol(code: str) -> str | None:
    """The symbol of a currency in English text, such as ``€``; None where it is just the code."""
    found = _locale("en")
    symbol = found.currency_symbols.get(code) if found else None
    return None if symbol == code else symbol


def city_name(zone: str, locale: str) -> str | None:
    """What the city that a time zone is named after is called in a language; None where CLDR does not say."""
    found = _locale(locale)
    name = found.time_zones.get(zone, {}).get("city") if found else None
    return name and name.replace(_SOFT_HYPHEN, "")


@cache
def _locale(code: str) -> Locale | None:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(code)
    except UnknownLocaleError:
        return None
