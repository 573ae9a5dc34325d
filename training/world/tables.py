"""Tables of the world: tab-separated text with a header, read so that every complaint names file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from momok.model.bundle.names import shorten
from momok.training.data.files import DatasetError, read_lines

TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by column."""

    file: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def number(self, column: str, low: float, high: float) -> float:
        """The number in a cell, which must lie in ``low`` to ``high``."""
        try:
            number = float(self.cells[column])
        except ValueError:
            raise self.error(f"{column} {self.cells[column]!r} is not a number; write one") from None
        if not low <= number <= high:
            raise self.error(f"{column} {number:g} is not plausible; {low:g} to {high:g} is")
        return number

    def error(self, message: str) -> DatasetError:
        return DatasetError(message, file=self.file, line=self.line)


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> list[Row]:
    """The lines of a table with just these ``columns``; only cells of ``optional`` ones may be empty."""
    lines = read_lines(path)
    if not lines or lines[0].split("\t") != list(columns):
        message = f"the header must be {' '.join(columns)}, apart by tabs"
        raise DatasetError(message, file=path, line=1)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            message = f"{len(cells)} cells; {len(columns)} are needed, apart by tabs"
            raise DatasetError(message, file=path, line=number)
        row = Row(path, number, dict(zip(columns, cells, strict=True)))
        for column, cell in row.cells.items():
            if cell != cell.strip():
                raise row.error(f"{column} {shorten(cell)!r} begins or ends with a blank; take it away")
            if not cell and column not in optional:
                raise row.error(f"{column} is empty; fill it in")
        rows.append(row)
    return rows
