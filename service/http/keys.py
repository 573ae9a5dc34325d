"""KeyRing: the bearer keys of a server, as hashes. Keys are random, so a plain SHA-256 gives nothing away."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from momok.model.errors import UserError
from momok.service.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_KEY = re.compile(r"[A-Za-z0-9._~+/-]{16,256}=*")
"""What RFC 6750 lets a bearer key consist of; shorter ones could be guessed from their hash."""


@dataclass(frozen=True)
class KeyRing:
    """``hashes``: name -> SHA-256."""

    hashes: dict[str, bytes]

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def name_of(self, key: str) -> str | None:
        """The name of a key, None where it is not on the ring; takes as long whichever it is."""
        given, found = _digest(key), None
        for name, own in self.hashes.items():
            if hmac.compare_digest(given, own):
                found = name
        return found


class Rings(NamedTuple):
    """Keys that may ask, keys that may do everything, and keys that may read /metrics only."""

    api: KeyRing
    admin: KeyRing
    metrics: KeyRing


def load_keys(setting: str, given: SecretStr | None, file: Path | None) -> KeyRing:
    """The keys of a setting and of its file together.

    An entry is ``name:hash``, ``hash``, ``name:key`` or ``key``; a hash is SHA-256 in 64 hexadecimal digits.
    Raises ``UserError`` that says which entry is wrong and shows none of it.
    """
    entries: list[tuple[str, str]] = []
    if given is not None:
        parts = re.split(r"[\s,]+", given.get_secret_value().strip(" \t\r\n,"))
        entries += [(f"{setting}, entry {place}", part) for place, part in enumerate(parts, 1) if part]
        if not entries:
            raise UserError(f"{setting} is empty, so no request would pass; give keys, or take it away")
    if file is not None:
        entries += _lines(file)
    hashes: dict[str, bytes] = {}
    for where, entry in entries:
        name, digest = _parsed(where, entry)
        if name in hashes or digest in hashes.values():
            raise UserError(f"{where}: this name or key is given twice")
        hashes[name] = digest
    return KeyRing(hashes)


def load_rings(settings: Settings) -> Rings:
    """All rings. Raises ``UserError``, also where two share a key or a name."""
    rings = Rings(
        api=load_keys("api_keys", settings.api_keys, settings.api_keys_file),
        admin=load_keys("admin_keys", settings.admin_keys, settings.admin_keys_file),
        metrics=load_keys("metrics_keys", settings.metrics_keys, settings.metrics_keys_file),
    )
    for (one, ring), (other, second) in combinations(rings._asdict().items(), 2):
        if shared := ring.hashes.keys() & second.hashes.keys():
            raise UserError(f"the name {min(shared)!r} stands among {one} and {other} keys; rename one")
        if set(ring.hashes.values()) & set(second.hashes.values()):
            raise UserError(f"a key stands among {one} and {other} keys; remove it from one of them")
    return rings


def new_key() -> str:
    return f"momok_{secrets.token_urlsafe(32)}"


def hash_line(name: str, key: str) -> str:
    """The line that stands for a key in a file. Raises ``UserError`` for a name that logs could not show."""
    if not _NAME.fullmatch(name):
        raise UserError("a key is named by 1 to 64 letters, digits, dots, dashes and underscores")
    return f"{name}:{_digest(key).hex()}"


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text of keys, one a line") from None
    entries = [(f"{file}:{number}", line.split("#")[0].strip()) for number, line in enumerate(lines, 1)]
    if not (entries := [entry for entry in entries if entry[1]]):
        raise UserError(f"{file}: holds no key; `momok keys NAME` makes one")
    return entries


def _parsed(where: str, entry: str) -> tuple[str, bytes]:
    before, colon, after = entry.partition(":")
    name, value = (before, after.strip()) if colon else ("", before)
    if colon and not _NAME.fullmatch(name):
        raise UserError(f"{where}: a name is 1 to 64 letters, digits, dots, dashes and underscores")
    if _HASH.fullmatch(value):
        digest = bytes.fromhex(value)
    elif _KEY.fullmatch(value):
        digest = _digest(value)
    else:
        raise UserError(
            f"{where}: neither a SHA-256 in 64 hexadecimal digits "
            "nor a key of 16 to 256 of A-Z a-z 0-9 ._~+/-"
        )
    return name or f"key-{digest.hex()[:8]}", digest


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
