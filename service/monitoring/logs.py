"""Logs: one line a request, for people or as JSON; nothing in a line can begin another."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any, Literal

FIELDS = "fields"
"""Attribute of a record that holds what a JSON line has beside its message."""

access = logging.getLogger("momok.access")


def configure(log_format: Literal["text", "json"], log_level: str) -> None:
    """Send our lines and uvicorn's to standard error; of uvicorn's, what is wrong."""
    quiet = "debug" if log_level == "debug" else "error" if log_level == "error" else "warning"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": JsonFormatter if log_format == "json" else TextFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {
                "momok": {"level": log_level.upper(), "handlers": ["stderr"]},
                "uvicorn": {"level": quiet.upper(), "handlers": ["stderr"]},
            },
        }
    )


def log_request(fields: dict[str, Any], status: int, *, is_probe: bool = False) -> None:
    """One line; ``fields`` in its order. Probes and scrapes that succeed are for debugging only."""
    level = logging.ERROR if status >= 500 and status not in (503, 504) else logging.INFO
    if is_probe and status < 400:
        level = logging.DEBUG
    access.log(level, "request", extra={FIELDS: fields})


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, FIELDS, {})
        text = " ".join(f"{name}={value}" for name, value in fields.items()) or record.getMessage()
        line = f"{_time(record)} {record.levelname.lower():7} {_printable(text)}"
        # Tracebacks are of many lines, each of which says by its indent that it is no line of its own.
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            line = "\n".join([line, *(f"    {_printable(part)}" for part in lines)])
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _printable(text: str) -> str:
    """Without line ends and control characters, which a caller's text may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
