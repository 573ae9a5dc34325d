"""DiscoveryFile: a file of found facts that grows beside its place and can be resumed.

``FILE.partial`` holds the lines; ``FILE.progress.json`` holds the options of the run, the number of complete
pieces and their bytes. Resuming cuts off all further bytes. The end is a rename; Parquet, which cannot be cut
off, is converted from JSON lines at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Self

from momok.model.errors import UserError
from momok.model.runtime.directory import explained, replace_file, sync
from momok.training.data.files import check_begun
from momok.training.discovery.lines import COLUMNS, Format

FORMATS: dict[str, Format] = {".jsonl": "jsonl", ".tsv": "tsv", ".parquet": "jsonl"}
"""How lines are written, by the suffix of the file."""

RECORD_EVERY_S = 1.0
"""Syncing to disk after every piece would take longer than the pieces; a crash loses this much work."""

ROWS_AT_ONCE = 1 << 16
"""Rows of a group in Parquet."""


class DiscoveryError(UserError):
    """An output that cannot be used; the message names the file, and the remedy."""


@dataclass(frozen=True)
class DiscoveryProgress:
    """The complete ``pieces`` of a file, their bytes, and the queries and facts in them."""

    identity: dict[str, Any]
    pieces: int = 0
    size_bytes: int = 0
    queries: int = 0
    facts: int = 0


class DiscoveryFile:
    """Raises ``DiscoveryError`` for a place that is taken or cannot be written, before any work."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.record = path.with_name(path.name + ".progress.json")
        if path.suffix not in FORMATS:
            raise DiscoveryError(f"{path}: unknown format; end the name in {', '.join(FORMATS)}")
        self.format = FORMATS[path.suffix]
        if path.suffix == ".parquet" and find_spec("pyarrow") is None:
            raise DiscoveryError(f"{path}: Parquet needs pyarrow; pip install pyarrow, or write .jsonl")
        if path.exists() or path.is_symlink():
            raise DiscoveryError(f"{path}: exists already; choose another name or remove it first")
        if not path.parent.is_dir():
            raise DiscoveryError(f"{path.parent}: no such directory; make it first")
        if resume and not self.record.exists():
            raise DiscoveryError(f"{self.record}: nothing to resume here; leave --resume out")
        for left in (self.record, self.partial):
            if left.exists() and not resume:
                raise DiscoveryError(f"{left}: of a run that did not end; --resume it, or remove this file")

        self._resume = resume

    @contextmanager
    def writing(self, identity: dict[str, Any], header: bytes) -> Iterator[Self]:
        """Open the file; when the block ends, however it does, record its progress."""
        with explained(self.path, DiscoveryError):
            self.progress = self._resumed(identity) if self._resume else DiscoveryProgress(identity)
            self._lines = self._opened()
        try:
            if self.progress.size_bytes == 0:
                self._write(header)
            self._write_record()
            try:
                yield self
            finally:
                self._write_record()
        finally:
            with explained(self.path, DiscoveryError):  # Closing writes what a full disk has refused before.
                self._lines.close()

    def add(self, lines: bytes, *, queries: int, facts: int) -> None:
        """Append a complete piece."""
        self._write(lines)
        # In one step, so that an interruption finds the piece counted or not, never half of it.
        self.progress = replace(
            self.progress,
            pieces=self.progress.pieces + 1,
            size_bytes=self._lines.tell(),
            queries=self.progress.queries + queries,
            facts=self.progress.facts + facts,
        )
        if perf_counter() - self._recorded >= RECORD_EVERY_S:
            self._write_record()

    def finish(self, modality_names: Sequence[str], gated_modalities: Sequence[str]) -> None:
        """Put the complete file in its place, once the block of ``writing`` has ended."""
        with explained(self.path, DiscoveryError):
            if self.path.suffix == ".parquet":
                converted = self.path.with_name(self.path.name + ".converting")
                _write_parquet(self.partial, converted, modality_names, gated_modalities)
                sync(converted)
                converted.replace(self.path)
                self.partial.unlink()
            else:
                self.partial.replace(self.path)
            sync(self.path.parent)
            self.record.unlink()

    def _resumed(self, identity: dict[str, Any]) -> DiscoveryProgress:
        """The recorded progress, if the run was begun with the same options."""
        remedy = f"or remove it and {self.partial.name} to start over"
        try:
            progress = DiscoveryProgress(**json.loads(self.record.read_text(encoding="utf-8")))
            begun = dict(progress.identity)
        except (ValueError, TypeError) as error:
            raise DiscoveryError(f"{self.record}: damaged ({error}); copy it again, {remedy}") from None
        check_begun(self.record, begun, identity, remedy, DiscoveryError)
        size_bytes = self.partial.stat().st_size if self.partial.exists() else 0
        if size_bytes < progress.size_bytes:
            raise DiscoveryError(
                f"{self.partial}: {size_bytes} bytes, {self.record.name} says {progress.size_bytes}; "
                "copy it again, or remove both to start over"
            )
        return progress

    def _opened(self) -> IO[bytes]:
        file = self.partial.open("r+b" if self._resume and self.partial.exists() else "xb")
        file.truncate(self.progress.size_bytes)
        file.seek(self.progress.size_bytes)
        return file

    def _write(self, lines: bytes) -> None:
        with explained(self.path, DiscoveryError):
            self._lines.write(lines)

    def _write_record(self) -> None:
        """The lines are on disk before the record that counts them."""
        with explained(self.path, DiscoveryError):
            self._lines.flush()
            sync(self.partial)
        with replace_file(self.record, DiscoveryError) as new:
            new.write_text(json.dumps(asdict(self.progress), indent=2) + "\n", encoding="utf-8")
        self._recorded = perf_counter()


def _write_parquet(
    lines: Path, target: Path, modality_names: Sequence[str], gated_modalities: Sequence[str]
) -> None:
    """Rows of JSON as columns; weights and gates become structures with a field a modality."""
    import pyarrow
    from pyarrow import parquet

    number, text = pyarrow.float64(), pyarrow.string()
    types = dict.fromkeys(COLUMNS, text) | {
        "rank": pyarrow.int64(),
        "score": number,
        "exact": pyarrow.bool_(),
        "modality_weights": pyarrow.struct([(name, number) for name in modality_names]),
        # Parquet has no structure without fields: where there are no gates the column is of nulls.
        "expert_gates": pyarrow.struct([(name, pyarrow.list_(number)) for name in gated_modalities])
        if gated_modalities
        else pyarrow.null(),
        "relation_temperature": number,
    }
    schema = pyarrow.schema(list(types.items()))
    with lines.open("rb") as file, parquet.ParquetWriter(target, schema) as writer:
        while rows := [json.loads(line) for line in islice(file, ROWS_AT_ONCE)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
