"""A CSV file in blocks of columns: plain lines are split many at once, the others by the csv module."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence

from featx.errors import ListingError
from featx.table import batched

BLOCK_CHARS = 1 << 16
"""Few enough to stay in the processor's cache."""
ColumnBlock = tuple[Sequence[int], Sequence[Sequence[str]]]
"""The numbers of some rows, and for each column what these have."""


def read_csv(text: io.TextIOWrapper, whose: str) -> tuple[list[str], Iterator[ColumnBlock]]:
    """The header of a CSV file, empty if it has none, and blocks of the lines after it, blank ones left out.

    Raises
    ------
    csv.Error, OSError
        If it is no CSV, or cannot be read.
    ListingError
        If a line has another length than the header.
    """
    reader = csv.reader(text, strict=True)
    header: list[str] = next(filter(None, reader), [])
    return header, _blocks(text, len(header), reader.line_num + 1, whose)


def _blocks(text: io.TextIOWrapper, width: int, line: int, whose: str) -> Iterator[ColumnBlock]:
    while block := text.read(BLOCK_CHARS) + text.readline():
        # A line that is longer than the csv module takes is not copied again and again.
        columns = None if len(block) > BLOCK_CHARS + csv.field_size_limit() else _split(block, width)
        if columns is None:
            # What is between quotes may go on after this block: the rest is read line by line.
            yield from _parse(itertools.chain(io.StringIO(block, newline=""), text), width, line, whose)
            return
        yield range(line, line + len(columns[0])), columns
        line += len(columns[0])


def _split(block: str, width: int) -> list[list[str]] | None:
    """The columns of whole lines, None if it takes more than commas to tell them."""
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
    for batch in batched(_numbered(lines, first)):
        numbers, rows = zip(*batch, strict=True)
        if wrong := [at for at, row in enumerate(rows) if len(row) != width]:
            raise ListingError(f"line {numbers[wrong[0]]} of {whose} must have {width} columns, as the header has, "
                               f"got {len(rows[wrong[0]])}")  # fmt: skip
        yield numbers, list(zip(*rows, strict=True))


def _numbered(lines: Iterable[str], first: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line on which it begins."""
    reader, line = csv.reader(lines, strict=True), first
    for row in reader:
        if row:
            yield line, row
        line = first + reader.line_num
