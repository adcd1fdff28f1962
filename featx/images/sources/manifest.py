"""A manifest: ``path[,label][,split…][,weight…]``, one image a row, as CSV or Parquet, read in a stream."""

import csv
import io
import itertools
import os
import posixpath
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.sources.csv_blocks import ColumnBlock, read_csv
from featx.images.sources.files import Files, full_path
from featx.images.sources.listing import Listing
from featx.images.sources.local_files import NOT_FOUND
from featx.images.sources.metadata import check_distinct_columns, clean_text, kept_columns, parse_labels
from featx.table import CategoricalArray, ImageTable, Indices, StringArray

ODD = ("//", "/.", "/\n", "\n/", "\n.", "\n\n")
"""What a path that is not in its shortest form has in it, between two ends of lines."""


@dataclass(frozen=True)
class Columns:
    """Where a manifest's columns are; ``label`` is None without one."""

    path: int
    label: int | None
    splits: dict[str, int]


class _Codes(dict[str, int]):
    """A code for each different text, which is clean_text and parsed once."""

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse
        self._rows, self._different = array("i"), list[Any]()

    def __missing__(self, text: str) -> int:
        value = self._parse(text)
        code = self[text] = len(self._different)
        self._different.append(value)
        return code

    def extend(self, texts: Iterable[str]) -> None:
        """Take down what so many rows have."""
        self._rows.extend(map(self.__getitem__, texts))

    @property
    def column(self) -> CategoricalArray[Any]:
        """What the rows have."""
        return CategoricalArray(self._different, np.array(self._rows, np.int32))


def list_manifest(files: Files, name: str, images: Files) -> Listing:
    """The images that a CSV manifest names below ``images``, sorted by their paths' bytes.

    Raises
    ------
    ListingError
        If the file cannot be read, is no UTF-8 CSV, lacks the column ``path``, has a row of another length, names
        a path twice, or names one that is absolute or leads out of the root; or if no path is that of a file.
    """
    return list_rows(read_manifest(files, name), f"manifest {full_path(files.root, name)}", images)


def list_rows(rows: ImageTable, whose: str, images: Files) -> Listing:
    """The listing of a manifest's rows; ``ListingError`` if no row names a file."""
    paths = rows.paths
    if len(paths) and not _any_there(paths, images):
        first = f"; {paths[0]!r} {images.missing(paths[0])}"
        raise ListingError(f"{whose} must name at least one image, but none of its {len(rows)} rows names a file under "
                           f"{images.root}{first}")  # fmt: skip
    if not len(paths):
        raise ListingError(f"{whose} must name at least one image, but it has no rows")

    def size(row: int) -> int:
        if reason := images.missing(paths[row]):
            raise ImageError(reason)
        return images.size(paths[row])

    def read(row: int) -> bytes:
        if reason := images.missing(paths[row]):
            raise ImageError(reason)
        return images.read(paths[row])

    return Listing(images.root, rows, read, size=size)


def _any_there(paths: StringArray, images: Files) -> bool:
    """Whether any path is that of a file; of folders that are not there nothing is asked: it would take minutes."""
    there = dict[str, bool]()
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in there:
            there[folder] = images.missing(folder or ".") != NOT_FOUND
        if there[folder] and not images.missing(path):
            return True
    return False


def read_manifest(files: Files, name: str) -> ImageTable:
    """The rows of a CSV manifest, sorted by their paths' bytes; errors as `list_manifest`."""
    whose = f"manifest {full_path(files.root, name)}"
    try:
        # Only paths may hold bytes that are not UTF-8: they are names on a disk, the rest is text.
        with io.TextIOWrapper(files.open(name), "utf-8-sig", "surrogateescape", newline="") as text:
            return read_rows(*read_csv(text, whose), whose, "line")
    except OSError as error:
        raise ListingError(f"{whose} cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise ListingError(f"{whose} is no valid CSV: {error}") from error


def read_rows(header: Sequence[str], blocks: Iterable[ColumnBlock], whose: str, unit: str) -> ImageTable:
    """A manifest's rows from its header and its columns, block by block; ``unit`` is what messages call a row."""
    return _Reader(header, whose, unit).read(blocks)


class _Reader:
    """A manifest's rows, taken down column by column; ``unit`` is what messages call a row."""

    def __init__(self, header: Sequence[str], whose: str, unit: str) -> None:
        self._columns, self._whose, self._unit = _columns(header, whose), whose, unit
        self._numbers, self._labels = array("q"), _Codes(parse_labels)
        self._splits = {name: _Codes(clean_text) for name in self._columns.splits}

    def read(self, blocks: Iterable[ColumnBlock]) -> ImageTable:
        """All rows, sorted by their paths' bytes."""
        paths = StringArray.from_batches(map(self._take, blocks))
        splits: dict[str, CategoricalArray[str]] = {name: codes.column for name, codes in self._splits.items()}
        rows = ImageTable(paths, self._labels.column, splits)
        if paths.is_sorted():
            return rows
        order = paths.argsort()
        rows = rows.take(order)
        self._check_once(rows.paths, order)
        return rows

    def _take(self, block: ColumnBlock) -> Sequence[str]:
        """Take down many rows at once, and give their paths."""
        numbers, columns = block
        self._numbers.extend(numbers)
        try:
            paths = _all_relative(columns[self._columns.path])
            self._labels.extend(repeat("", len(paths)) if self._columns.label is None else columns[self._columns.label])
            for name, at in self._columns.splits.items():
                self._splits[name].extend(columns[at])
        except ListingError:
            number, reason = next(filter(None, map(self._fault, numbers, zip(*columns, strict=True))))
            raise ListingError(f"{self._unit} {number} of {self._whose} {reason}") from None
        return paths

    def _fault(self, number: int, row: Sequence[str]) -> tuple[int, str] | None:
        """The number of a row that is wrong, and why; None if it is not."""
        columns = self._columns
        try:
            _relative(row[columns.path])
            parse_labels("" if columns.label is None else row[columns.label])
            for at in columns.splits.values():
                clean_text(row[at])
        except ListingError as error:
            return number, str(error)
        return None

    def _check_once(self, paths: StringArray, order: Indices) -> None:
        # Whether one repeats is told much sooner than which.
        if paths.is_sorted():
            return
        for row, (one, other) in enumerate(itertools.pairwise(paths.iter_bytes())):
            if one == other:
                lines = " and ".join(str(self._numbers[at]) for at in order[row : row + 2].tolist())
                raise ListingError(f"{self._whose} names {paths[row]!r} twice, in {self._unit}s {lines}; remove one")


def _columns(header: Sequence[str], whose: str) -> Columns:
    names = [name.strip() for name in header]
    if "path" not in names:
        raise ListingError(
            f'{whose} must have a column "path" (and may have "label" and "split…"), '
            f"separated by commas, got the header {','.join(names)!r}"
        )
    check_distinct_columns(names, whose)
    return Columns(
        names.index("path"),
        names.index("label") if "label" in names else None,
        {name: names.index(name) for name in kept_columns(names, whose)},
    )


def _all_relative(texts: Sequence[str]) -> Sequence[str]:
    """As `_relative`, of many at once; where nothing in all of them looks odd, they are in their shortest form."""
    joined = "\n".join(["", *texts, ""])
    odd = os.sep != "/" or any(mark in joined for mark in ODD)
    return [_relative(text) for text in texts] if odd else texts


def _relative(text: str) -> str:
    """A path in its shortest form with ``/`` separators; one that leaves the root is refused."""
    path = posixpath.normpath(text.replace(os.sep, "/"))
    absolute = path.startswith("/") or os.path.isabs(text)  # noqa: PTH117 - a Path a row is slow, and this knows drives
    if absolute or path == "." or path.partition("/")[0] == "..":
        raise ListingError(
            f"must name a file below the root by a relative path, got {text!r}; move the root (--root) or the file"
        )
    return path
