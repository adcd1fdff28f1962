"""Read a CSV file in blocks of many lines. Most are split at commas; Python's slower csv module reads the others."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence

from featx.errors import ListingError
from featx.table import batched

BLOCK_CHARACTERS = 1 << 16
"""Number of characters in a block. It is small enough that a block stays in the processor's cache."""
ColumnBlock = tuple[Sequence[int], Sequence[Sequence[str]]]
"""The line numbers of some rows, and for each column the values of these rows."""


def read_csv(text: io.TextIOWrapper, whose: str) -> tuple[list[str], Iterator[ColumnBlock]]:
    """Read a CSV file in blocks.

    Parameters
    ----------
    text : io.TextIOWrapper
        The file, opened with ``newline=""``.
    whose : str
        The name of the file in error messages.

    Returns
    -------
    header : list of str
        The names of the columns; empty if the file is empty.
    blocks : iterator of ColumnBlock
        The lines after the header. Blank lines are left out.

    Raises
    ------
    csv.Error, OSError
        If the file is not valid CSV, or cannot be read.
    ListingError
        If a line has more or fewer columns than the header.
    """
    reader = csv.reader(text, strict=True)
    header: list[str] = next(filter(None, reader), [])
    return header, _blocks(text, len(header), reader.line_num + 1, whose)


def _blocks(text: io.TextIOWrapper, width: int, line: int, whose: str) -> Iterator[ColumnBlock]:
    while block := text.read(BLOCK_CHARACTERS) + text.readline():
        # Leave very long lines to the csv module, which refuses them at once. Splitting would first copy them.
        columns = None if len(block) > BLOCK_CHARACTERS + csv.field_size_limit() else _split(block, width)
        if columns is None:
            # A quoted value may continue after this block, so read the rest of the file line by line.
            yield from _parse(itertools.chain(io.StringIO(block, newline=""), text), width, line, whose)
            return
        yield range(line, line + len(columns[0])), columns
        line += len(columns[0])


def _split(block: str, width: int) -> list[list[str]] | None:
    """Split whole lines into columns at the commas; return None if the lines need the csv module."""
    block = block.replace("\r\n", "\n")
    lines = block.removesuffix("\n").split("\n")
    if (
        '"' in block
        or "\r" in block
        or "" in lines
        or {line.count(",") for line in lines} != {width - 1}
        or max(map(len, lines)) > csv.field_size_limit()
    ):
        return None
    cells = ",".join(lines).split(",")
    return [cells[at::width] for at in range(width)]


def _parse(lines: Iterable[str], width: int, first: int, whose: str) -> Iterator[ColumnBlock]:
    """Read lines with the csv module; ``first`` is the number of the first line."""
    for batch in batched(_numbered(lines, first)):
        numbers, rows = zip(*batch, strict=True)
        if wrong := [at for at, row in enumerate(rows) if len(row) != width]:
            raise ListingError(
                f"line {numbers[wrong[0]]} of {whose} must have {width} columns, as the header has, "
                f"got {len(rows[wrong[0]])}"
            )
        yield numbers, list(zip(*rows, strict=True))


def _numbered(lines: Iterable[str], first: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the number of its first line; ``first`` is the number of the first one."""
    reader, line = csv.reader(lines, strict=True), first
    for row in reader:
        if row:
            yield line, row
        line = first + reader.line_num
