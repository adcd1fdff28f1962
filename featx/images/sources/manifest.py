"""Read a manifest: a table with one row per image and the columns ``path[,label][,split…][,weight…]``."""

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
from featx.images.sources.options import ListingOptions
from featx.table import CategoricalArray, ImageTable, Indices, StringArray

NEEDS_NORMALIZING = ("//", "/.", "/\n", "\n/", "\n.", "\n\n")
"""Marks of a path that is not in its shortest form. They are looked for in all paths at once, joined by line ends."""


def list_manifest(files: Files, name: str, images: Files, options: ListingOptions) -> Listing:
    """List the images that a CSV manifest names, sorted by the bytes of their paths.

    Paths are relative to the root of ``images``.

    Raises
    ------
    ListingError
        If the manifest cannot be read, is not UTF-8 CSV, has no column ``path``, or has a row with more or fewer
        columns than the header. Also if a path is absolute, leads out of the root or occurs twice, or if none of the
        files exists.
    """
    whose = f"manifest {full_path(files.root, name)}"
    options.check_used(whose, "label_column", "group_column")
    return list_table(read_manifest(files, name), whose, images)


def list_table(table: ImageTable, whose: str, images: Files) -> Listing:
    """List the images of a manifest's table; raise ``ListingError`` if none of the files exists."""
    paths = table.paths
    if not len(paths):
        raise ListingError(f"{whose} must name at least one image, but it has no rows")
    if not _any_exists(paths, images):
        raise ListingError(
            f"{whose} must name at least one image, but none of its {len(table)} rows names a file below "
            f"{images.root}; {paths[0]!r} {images.missing_reason(paths[0])}"
        )

    def check_exists(path: str) -> str:
        if reason := images.missing_reason(path):
            raise ImageError(reason)
        return path

    def size(row: int) -> int:
        return images.size(check_exists(paths[row]))

    def read(row: int) -> bytes:
        return images.read(check_exists(paths[row]))

    return Listing(images.root, table, read, size=size, layout="manifest")


def read_manifest(files: Files, name: str) -> ImageTable:
    """Read a CSV manifest as a table that is sorted by the bytes of the paths.

    ``ListingError`` is raised in the same cases as by `list_manifest`, except that files may be missing.
    """
    whose = f"manifest {full_path(files.root, name)}"
    try:
        # The name of a file may have bytes that are not UTF-8, so a path may too. All other columns must be UTF-8.
        with io.TextIOWrapper(files.open(name), "utf-8-sig", "surrogateescape", newline="") as text:
            return read_table(*read_csv(text, whose), whose, "line")
    except OSError as error:
        raise ListingError(f"{whose} cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise ListingError(f"{whose} is not valid CSV: {error}") from error


def read_table(header: Sequence[str], blocks: Iterable[ColumnBlock], whose: str, unit: str) -> ImageTable:
    """Read the table of a manifest from its header and blocks; ``unit`` is the word for a row in error messages."""
    return _TableReader(header, whose, unit).read(blocks)


@dataclass(frozen=True)
class _Columns:
    """The positions of a manifest's columns; ``label`` is None if the manifest has no labels."""

    path: int
    label: int | None
    kept: dict[str, int]


class _Encoder(dict[str, int]):
    """Encode a column: each distinct text is parsed once and gets one code."""

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse
        self._codes, self._values = array("i"), list[Any]()

    def __missing__(self, text: str) -> int:
        value = self._parse(text)
        code = self[text] = len(self._values)
        self._values.append(value)
        return code

    def extend(self, texts: Iterable[str]) -> None:
        """Add the values of more rows."""
        self._codes.extend(map(self.__getitem__, texts))

    @property
    def column(self) -> CategoricalArray[Any]:
        """The parsed values of all rows."""
        return CategoricalArray(self._values, np.array(self._codes, np.int32))


class _TableReader:
    """Read the table of a manifest block by block."""

    def __init__(self, header: Sequence[str], whose: str, unit: str) -> None:
        self._columns, self._whose, self._unit = _find_columns(header, whose), whose, unit
        self._numbers, self._labels = array("q"), _Encoder(parse_labels)
        self._kept = {name: _Encoder(clean_text) for name in self._columns.kept}

    def read(self, blocks: Iterable[ColumnBlock]) -> ImageTable:
        """Read all rows and sort them by the bytes of their paths."""
        paths = StringArray.from_batches(map(self._add, blocks))
        columns: dict[str, CategoricalArray[str]] = {name: codes.column for name, codes in self._kept.items()}
        table = ImageTable(paths, self._labels.column, columns)
        if paths.is_sorted():
            return table
        order = paths.argsort()
        table = table.take(order)
        self._check_distinct_paths(table.paths, order)
        return table

    def _add(self, block: ColumnBlock) -> Sequence[str]:
        """Add a block, and return its paths."""
        numbers, columns = block
        self._numbers.extend(numbers)
        try:
            paths = _normalize_all(columns[self._columns.path])
            self._labels.extend(repeat("", len(paths)) if self._columns.label is None else columns[self._columns.label])
            for name, at in self._columns.kept.items():
                self._kept[name].extend(columns[at])
        except ListingError:
            number, reason = next(filter(None, map(self._fault, numbers, zip(*columns, strict=True))))
            raise ListingError(f"{self._unit} {number} of {self._whose} {reason}") from None
        return paths

    def _fault(self, number: int, row: Sequence[str]) -> tuple[int, str] | None:
        """Return the number of a row and its fault; return None if the row has no fault."""
        columns = self._columns
        try:
            _normalize(row[columns.path])
            parse_labels("" if columns.label is None else row[columns.label])
            for at in columns.kept.values():
                clean_text(row[at])
        except ListingError as error:
            return number, str(error)
        return None

    def _check_distinct_paths(self, paths: StringArray, order: Indices) -> None:
        # It is much faster to find out whether any path occurs twice than which path it is.
        if paths.is_sorted():
            return
        for row, (one, other) in enumerate(itertools.pairwise(paths.iter_bytes())):
            if one == other:
                lines = " and ".join(str(self._numbers[at]) for at in order[row : row + 2].tolist())
                raise ListingError(f"{self._whose} names {paths[row]!r} twice, in {self._unit}s {lines}; remove one")


def _any_exists(paths: StringArray, images: Files) -> bool:
    """Return whether any of the paths is that of a file.

    Files in a missing folder are not looked up, because that could take minutes.
    """
    folder_exists = dict[str, bool]()
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in folder_exists:
            folder_exists[folder] = images.missing_reason(folder or ".") != NOT_FOUND
        if folder_exists[folder] and not images.missing_reason(path):
            return True
    return False


def _find_columns(header: Sequence[str], whose: str) -> _Columns:
    names = [name.strip() for name in header]
    if "path" not in names:
        raise ListingError(
            f'{whose} must have a column "path" (and may have "label" and "split…"), '
            f"separated by commas, got the header {','.join(names)!r}"
        )
    check_distinct_columns(names, whose)
    return _Columns(
        names.index("path"),
        names.index("label") if "label" in names else None,
        {name: names.index(name) for name in kept_columns(names, whose)},
    )


def _normalize_all(texts: Sequence[str]) -> Sequence[str]:
    """Bring many paths to their shortest form; one test recognizes the usual case that all of them have it already."""
    joined = "\n".join(["", *texts, ""])
    unusual = os.sep != "/" or any(mark in joined for mark in NEEDS_NORMALIZING)
    return [_normalize(text) for text in texts] if unusual else texts


def _normalize(text: str) -> str:
    """Return a path in its shortest form with ``/`` separators.

    ``ListingError`` is raised if the path is absolute or leads out of the root.
    """
    path = posixpath.normpath(text.replace(os.sep, "/"))
    absolute = path.startswith("/") or os.path.isabs(text)  # noqa: PTH117 - faster than Path, and recognizes drives
    if absolute or path == "." or path.partition("/")[0] == "..":
        raise ListingError(
            f"must name a file below the root by a relative path, got {text!r}; move the root (--root) or the file"
        )
    return path
