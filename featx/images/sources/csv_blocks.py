"""Read a CSV file in blocks of many lines. Most are split at the separator; Python's slower csv module reads others."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from featx.errors import ListingError
from featx.table import batched

BLOCK_CHARACTERS = 1 << 16
"""Number of characters in a block. It is small enough that a block stays in the processor's cache."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""The separators of columns that are recognized, each with its name in messages."""
SEPARATOR_LINE = "sep="
"""Excel takes the separator from a first line such as ``sep=;``."""
ColumnBlock = tuple[Sequence[int], Sequence[Sequence[str]]]
"""The line numbers of some rows, and for each column the values of these rows."""


class CsvTable(NamedTuple):
    """The contents of a CSV file.

    Attributes
    ----------
    header : list of str
        The names of the columns; empty if the file is empty.
    blocks : iterator of ColumnBlock
        The lines after the header. Blank lines are left out.
    separator : str
        The character between two columns, one of `SEPARATORS`.
    """

    header: list[str]
    blocks: Iterator[ColumnBlock]
    separator: str


def open_text(file: BinaryIO) -> io.TextIOWrapper:
    """Open a binary file as text: UTF-8, or UTF-16 as Excel writes it.

    In a UTF-8 file, bytes that are not UTF-8 become surrogate escapes, because the name of a file may have such bytes.
    """
    start = file.read(2)
    file.seek(0)
    utf16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}.get(start)
    if not utf16 and len(start) == 2 and 0 in start:
        # The text starts with an ASCII character, so the byte that is 0 shows the order of the bytes.
        utf16 = "utf-16-be" if start[0] == 0 else "utf-16-le"
    return io.TextIOWrapper(file, utf16 or "utf-8-sig", "strict" if utf16 else "surrogateescape", newline="")


def read_csv(text: io.TextIOWrapper, whose: str) -> CsvTable:
    """Read a CSV file in blocks. The separator is the one that occurs most often in the header.

    Parameters
    ----------
    text : io.TextIOWrapper
        The file, opened with ``newline=""``.
    whose : str
        The name of the file in error messages.

    Raises
    ------
    csv.Error, OSError, UnicodeDecodeError
        If the file is not valid CSV, or cannot be read. The blocks raise these errors too.
    ListingError
        If a line has more or fewer columns than the header. Empty columns at its end do not count.
    """
    separator, start, skipped = "", "", 0
    while not start.strip("\r\n") and (start := text.readline()):
        skipped += 1
        if start.startswith(SEPARATOR_LINE) and (given := start.strip()[len(SEPARATOR_LINE) :]) in SEPARATORS:
            separator, start = given, ""
    separator = separator or _find_separator(start)
    reader = csv.reader(itertools.chain([start], text), strict=True, delimiter=separator)
    header: list[str] = next(filter(None, reader), [])
    blocks = _blocks(text, header, skipped + reader.line_num, whose, separator)
    return CsvTable(header, blocks, separator)


def _find_separator(header: str) -> str:
    """Return the separator that occurs most often outside of quotes; a comma if none occurs."""
    unquoted = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=unquoted.count)


def _blocks(
    text: io.TextIOWrapper, header: Sequence[str], line: int, whose: str, separator: str
) -> Iterator[ColumnBlock]:
    while block := text.read(BLOCK_CHARACTERS) + text.readline():
        # Leave very long lines to the csv module, which refuses them at once. Splitting would first copy them.
        too_long = len(block) > BLOCK_CHARACTERS + csv.field_size_limit()
        columns = None if too_long else _split(block, len(header), separator)
        if columns is None:
            # A quoted value may continue after this block, so read the rest of the file line by line.
            rest = itertools.chain(io.StringIO(block, newline=""), text)
            yield from _parse(csv.reader(rest, strict=True, delimiter=separator), header, line, whose)
            return
        yield range(line, line + len(columns[0])), columns
        line += len(columns[0])


def _split(block: str, width: int, separator: str) -> list[list[str]] | None:
    """Split whole lines into columns at the separators; return None if the lines need the csv module."""
    block = block.replace("\r\n", "\n")
    lines = block.removesuffix("\n").split("\n")
    if (
        '"' in block
        or "\r" in block
        or "" in lines
        or {line.count(separator) for line in lines} != {width - 1}
        or max(map(len, lines)) > csv.field_size_limit()
    ):
        return None
    cells = separator.join(lines).split(separator)
    return [cells[at::width] for at in range(width)]


def _parse(reader: Iterator[list[str]], header: Sequence[str], first: int, whose: str) -> Iterator[ColumnBlock]:
    """Read lines with the csv module; ``first`` is the number of the first line."""
    # Excel leaves out the empty cells at the end of some rows, so columns without a name need not be there.
    named = max((number for number, name in enumerate(header, 1) if name.strip()), default=0)
    for batch in batched(_numbered(reader, first)):
        numbers, rows = zip(*batch, strict=True)
        for number, row in batch:
            if len(row) != len(header):
                _fit_row(row, len(header), named, f"line {number} of {whose}")
        yield numbers, list(zip(*rows, strict=True))


def _fit_row(row: list[str], width: int, named: int, whose: str) -> None:
    """Give a row ``width`` columns, if only columns without a name or without a value are too many or too few."""
    if len(row) < named or any(row[width:]):
        raise ListingError(f"{whose} must have {width} columns, as the header has, got {len(row)}")
    row[width:] = []
    row.extend([""] * (width - len(row)))


def _numbered(reader: Iterator[list[str]], first: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the number of its first line; ``first`` is the number of the first one."""
    line = first
    for row in reader:
        if row:
            yield line, row
        line = first + reader.line_num  # type: ignore[attr-defined]
