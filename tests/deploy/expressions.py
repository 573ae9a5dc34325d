"""PromQL as far as tests need it: which metrics an expression reads."""

from __future__ import annotations

import re

FROM_PROMETHEUS = {"up", "ALERTS", "scrape_duration_seconds"}
"""Series that Prometheus makes by itself."""
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_KEYWORDS = {
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
}


def metrics_of(expression: str) -> set[str]:
    """Names of series, without functions, labels and the words of the language; not those of Prometheus."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\boffset\s+\w+", " ", text)
    words = {found[0] for found in _WORD.finditer(text) if not re.match(r"\s*\(", text[found.end() :])}
    return {word for word in words - _KEYWORDS - FROM_PROMETHEUS if not re.fullmatch(r"e\d*|\d.*", word)}
