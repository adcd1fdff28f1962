"""Read a CSV manifest: ``path[,label][,split…][,weight…]``, one image a row."""

import csv
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featx.errors import ListingError

KEPT = ("split", "weight")
"""How the names of further columns begin that are kept."""
SEPARATOR = "|"
"""Between the labels of an image that has several."""


@dataclass(frozen=True)
class Entry:
    """One row of a manifest: a relative path, a label, and the values of the columns ``KEPT``.

    The label is ``""`` for none; several stand once each, sorted, with a ``|`` between them.
    """

    path: str
    label: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Where a manifest's columns are; ``label`` is None without one."""

    count: int
    path: int
    label: int | None
    splits: dict[str, int]


def read_manifest(file: Path) -> tuple[tuple[str, ...], list[Entry]]:
    """The names of a manifest's columns that are kept (``KEPT``), and its rows.

    Raises
    ------
    ListingError
        If the file cannot be read, is no UTF-8 CSV, lacks the column ``path``, has a row of another length, names
        a path twice, or names one that is absolute or leads out of the root.
    """
    try:
        # Only paths may hold bytes that are not UTF-8: they are names on a disk, the rest is text.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = _rows(csv.reader(lines, strict=True))
            columns = _columns(file, next(rows, (1, []))[1])
            entries = _entries(file, rows, columns)
    except OSError as error:
        raise ListingError(f"manifest {file} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise ListingError(f"manifest {file} is no valid CSV: {error}") from error
    return tuple(columns.splits), entries


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line on which it begins."""
    line = 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1  # type: ignore[attr-defined]


def _columns(file: Path, header: list[str]) -> Columns:
    names = [name.strip() for name in header]
    if "path" not in names:
        raise ListingError(
            f'manifest {file} must have a column "path" (and may have "label" and "split…"), '
            f"separated by commas, got the header {','.join(names)!r}"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ListingError(f"columns of manifest {file} must have different names, got {repeated[0]!r} more than once")
    return Columns(
        len(names),
        names.index("path"),
        names.index("label") if "label" in names else None,
        {name: number for number, name in enumerate(names) if name.startswith(KEPT)},
    )


def _entries(file: Path, rows: Iterator[tuple[int, list[str]]], columns: Columns) -> list[Entry]:
    entries, lines = [], dict[str, int]()
    for line, row in rows:
        if len(row) != columns.count:
            raise ListingError(
                f"line {line} of manifest {file} must have {columns.count} columns, as the header has, got {len(row)}"
            )
        path = _relative(row[columns.path], line, file)
        if path in lines:
            raise ListingError(f"manifest {file} names {path!r} twice, in lines {lines[path]} and {line}; remove one")
        lines[path] = line
        label = "" if columns.label is None else _label(row[columns.label], line, file)
        splits = tuple(row[number].strip() for number in columns.splits.values())
        _check_text((label, *splits), line, file)
        entries.append(Entry(path, label, splits))
    return entries


def _relative(text: str, line: int, file: Path) -> str:
    """A path in its shortest form with ``/`` separators; one that leaves the root is refused."""
    path = posixpath.normpath(text.replace(os.sep, "/"))
    absolute = posixpath.isabs(path) or os.path.isabs(text)  # noqa: PTH117 - a Path a row is slow, and this knows drives
    if absolute or path == "." or path.partition("/")[0] == "..":
        raise ListingError(
            f"line {line} of manifest {file} must name a file below the root by a relative path, got {text!r}; "
            "move the root (--root) or the file"
        )
    return path


def _label(text: str, line: int, file: Path) -> str:
    labels = {label.strip() for label in text.split(SEPARATOR)}
    if len(labels) > 1 and "" in labels:
        raise ListingError(f"line {line} of manifest {file} must have a label on each side of |, got {text!r}")
    return SEPARATOR.join(sorted(labels, key=os.fsencode))


def _check_text(values: tuple[str, ...], line: int, file: Path) -> None:
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise ListingError(f"line {line} of manifest {file} is not UTF-8; save the file as UTF-8") from None
