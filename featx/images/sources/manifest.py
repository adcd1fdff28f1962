"""Read a manifest: a table with one row per image, with a column of paths and optionally labels and other columns."""

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.columns import (
    PATH,
    TableColumns,
    describe_columns,
    find_columns,
    find_path_column,
    simplify_name,
)
from featx.images.sources.csv_blocks import SEPARATORS, ColumnBlock, open_text, read_csv
from featx.images.sources.duplicate_rows import merge_duplicates
from featx.images.sources.files import Files, full_path
from featx.images.sources.listing import Listing
from featx.images.sources.local_files import NOT_FOUND
from featx.images.sources.manifest_paths import (
    EMPTY,
    PathNormalizer,
    any_exists,
    is_utf8,
    join_paths,
    missing_hint,
    repair_paths,
)
from featx.images.sources.metadata import canonical_splits, cell_text, clean_text, parse_labels
from featx.images.sources.notes import Note
from featx.images.sources.options import ListingOptions
from featx.runtime import pluralize
from featx.table import CategoricalArray, ImageTable, Indices, StringArray, batched

MANIFESTS = (".csv", ".tsv", ".jsonl")
"""Suffixes of manifests that are text."""


@dataclass(frozen=True)
class ManifestTable:
    """The table of a manifest, sorted by the bytes of its paths.

    Attributes
    ----------
    rows : ImageTable
    source_names : dict of str to str
        The name of a column in the manifest, if it has another name in ``rows``.
    notes : tuple of Note
        What was skipped, guessed, merged and converted.
    """

    rows: ImageTable
    source_names: dict[str, str]
    notes: tuple[Note, ...]


def list_manifest(files: Files, name: str, images: Files, options: ListingOptions) -> Listing:
    """List the images that a CSV or JSON Lines manifest names, sorted by the bytes of their paths.

    Paths are relative to the root of ``images``.

    Raises
    ------
    ListingError
        If the manifest cannot be read, is not valid, has no column of paths, or has a row with more or fewer columns
        than the header. Also if several columns may be the labels, if a path leads out of the root, if a path has two
        values of a split, or if none of the files exists.
    """
    whose = f"manifest {full_path(files.root, name)}"
    options.check_used(whose, "label_column", "group_column")
    return list_table(read_manifest(files, name, images, options), whose, images)


def list_table(table: ManifestTable, whose: str, images: Files) -> Listing:
    """List the images of a manifest's table; raise ``ListingError`` if none of the files exists."""
    paths = table.rows.paths
    if not len(paths):
        raise ListingError(f"{whose} must name at least one image, but it has no rows")
    if not any_exists(paths, images):
        raise ListingError(
            f"{whose} must name at least one image, but none of its {len(paths)} rows names a file below "
            f"{images.root}; {paths[0]!r} {images.missing_reason(paths[0])}{missing_hint(paths[0], images)}"
        )

    def check_exists(path: str) -> str:
        if reason := images.missing_reason(path):
            if reason == NOT_FOUND and not is_utf8(path):
                reason += "; the manifest is not UTF-8, so save it as UTF-8 if the name of the file has other letters"
            raise ImageError(reason)
        return path

    def size(row: int) -> int:
        return images.size(check_exists(paths[row]))

    def read(row: int) -> bytes:
        return images.read(check_exists(paths[row]))

    return Listing(
        images.root,
        table.rows,
        read,
        size=size,
        layout="manifest",
        source_names=table.source_names,
        notes=table.notes,
    )


def read_manifest(files: Files, name: str, images: Files, options: ListingOptions) -> ManifestTable:
    """Read a CSV or JSON Lines manifest.

    ``ListingError`` is raised in the same cases as by `list_manifest`, except that all files may be missing.
    """
    whose = f"manifest {full_path(files.root, name)}"
    try:
        if suffix_of(name) == ".jsonl":
            header, blocks = _read_json_lines(files, name, whose)
            return read_table(header, blocks, find_manifest_columns(header, whose, options), whose, "line", images)
        with open_text(files.open(name)) as text:
            header, blocks, separator = read_csv(text, whose)
            columns = find_manifest_columns(header, whose, options)
            table = read_table(header, blocks, columns, whose, "line", images)
            notes = list(table.notes)
            if separator != ",":
                notes.insert(0, Note("guessed", f"columns are separated by {SEPARATORS[separator]}"))
            if text.encoding.startswith("utf-16"):
                notes.insert(0, Note("converted", "the manifest is UTF-16"))
            return replace(table, notes=tuple(notes))
    except OSError as error:
        raise ListingError(f"{whose} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise ListingError(f"{whose} must be UTF-8 or UTF-16, but is damaged: {error}; save it as UTF-8") from error
    except csv.Error as error:
        raise ListingError(f"{whose} is not valid CSV: {error}") from error


def find_manifest_columns(
    header: Sequence[str], whose: str, options: ListingOptions, texts: Sequence[str] | None = None,
    classes: Sequence[str] = (),
) -> TableColumns:  # fmt: skip
    """Find the columns of a manifest.

    Parameters
    ----------
    header : sequence of str
        The names of all columns.
    whose : str
        The name of the manifest in error messages.
    options : ListingOptions
        Names of columns that the user chose.
    texts : sequence of str, optional
        The columns that contain text, if known. Only these can be paths.
    classes : sequence of str
        Columns whose type says that they are labels.

    Raises
    ------
    ListingError
        If no column has paths, or in the cases of `find_columns` and `find_path_column`.
    """
    path = find_path_column(header if texts is None else texts, whose)
    if path is None:
        raise ListingError(
            f'{whose} must have a column "path" or "file_name" (and may have "label" and "split…"), separated by '
            f"{', '.join(list(SEPARATORS.values())[:-1])} or {list(SEPARATORS.values())[-1]}, "
            f"got the header {','.join(name.strip() for name in header)!r}{_header_hint(header)}"
        )
    columns = find_columns(header, whose, options, path=path, classes=classes)
    guess = () if path.strip() == PATH else (f"the path column is {path.strip()}",)
    return replace(columns, guessed=(*guess, *columns.guessed))


def _header_hint(header: Sequence[str]) -> str:
    """Say what to do if the first line is no header, because it has the name of an image."""
    is_row = any(suffix_of(name.strip()) in image_suffixes() for name in header)
    return "; the first line must be the names of the columns" if is_row else ""


def read_table(
    header: Sequence[str], blocks: Iterable[ColumnBlock], columns: TableColumns, whose: str, unit: str, images: Files
) -> ManifestTable:
    """Read the table of a manifest from its header and blocks.

    Parameters
    ----------
    header : sequence of str
        The names of the columns in ``blocks``.
    blocks : iterable of ColumnBlock
    columns : TableColumns
        The columns that are used.
    whose, unit : str
        The name of the manifest, and the word for a row, in error messages.
    images : Files
        The root of the paths. Some files are looked up, to find out how the manifest writes paths.

    Raises
    ------
    ListingError
        As by `list_manifest`.
    """
    return _TableReader(header, columns, whose, unit, images).read(blocks)


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

    def __init__(self, header: Sequence[str], columns: TableColumns, whose: str, unit: str, images: Files) -> None:
        self._columns, self._whose, self._unit, self._images = columns, whose, unit, images
        self._path = header.index(columns.path or "")
        self._label = None if columns.label is None else header.index(columns.label)
        self._places = {name: header.index(source) for name, source in columns.kept.items()}
        self._unnamed = {at for at, name in enumerate(header) if not name.strip()}
        self._used_unnamed = set[int]()
        self._confidence, self._absent = _confidence_column(header), 0
        self._normalize = PathNormalizer(images)
        self._numbers, self._labels = array("q"), _Encoder(parse_labels)
        self._kept = {name: _Encoder(clean_text) for name in self._places}

    def read(self, blocks: Iterable[ColumnBlock]) -> ManifestTable:
        """Read all rows, sort them by the bytes of their paths, and join those with the same path."""
        paths, repairs = repair_paths(StringArray.from_batches(map(self._add, blocks)), self._normalize, self._images)
        kept: dict[str, CategoricalArray[str]] = {name: codes.column for name, codes in self._kept.items()}
        notes = [*describe_columns([self._columns]), *repairs]
        if unnamed := len(self._used_unnamed):
            notes.append(Note("skipped", f"{pluralize(unnamed, 'column')} without a name, not kept", unnamed))
        if count := self._absent:
            text = f"{pluralize(count, 'label')} with confidence 0, which Open Images gives to labels that do not apply"
            notes.append(Note("skipped", text, count))
        table, converted = canonical_splits(ImageTable(paths, self._labels.column, kept))
        notes += converted
        if not paths.is_sorted():
            order = paths.argsort()
            table, merged = self._merge(table.take(order), order)
            notes += merged
        return ManifestTable(table, self._columns.source_names, tuple(notes))

    def _add(self, block: ColumnBlock) -> Sequence[str]:
        """Add a block, and return its paths."""
        numbers, columns = block
        joined = join_paths(columns[self._path])
        is_usual = self._normalize.is_usual(joined)
        if not is_usual and EMPTY in joined:
            numbers, columns = _drop_empty_rows(numbers, columns)
        self._numbers.extend(numbers)
        try:
            paths = columns[self._path] if is_usual else self._normalize(columns[self._path])
            self._labels.extend(repeat("", len(paths)) if self._label is None else self._present_labels(columns))
            for name, at in self._places.items():
                self._kept[name].extend(columns[at])
        except ListingError:
            number, reason = next(filter(None, map(self._fault, numbers, zip(*columns, strict=True))))
            raise ListingError(f"{self._unit} {number} of {self._whose} {reason}") from None
        self._used_unnamed |= {at for at in self._unnamed if any(columns[at])}
        return paths

    def _present_labels(self, columns: Sequence[Sequence[str]]) -> Sequence[str]:
        """Return the labels of a block, without those that Open Images says are not in the image."""
        labels = columns[self._label or 0]
        if self._confidence is None:
            return labels
        absent = [confidence.strip() in ("0", "0.0") for confidence in columns[self._confidence]]
        self._absent += sum(absent)
        return ["" if is_absent else label for label, is_absent in zip(labels, absent, strict=True)]

    def _fault(self, number: int, row: Sequence[str]) -> tuple[int, str] | None:
        """Return the number of a row and its fault; return None if the row has no fault."""
        try:
            self._normalize.normalize_one(row[self._path])
            parse_labels("" if self._label is None else row[self._label])
            for at in self._places.values():
                clean_text(row[at])
        except ListingError as error:
            return number, str(error)
        return None

    def _merge(self, table: ImageTable, order: Indices) -> tuple[ImageTable, list[Note]]:
        # Finding out that no path occurs twice is fast. Finding out which paths occur twice is much slower.
        if table.paths.is_sorted():
            return table, []

        def locate(rows: Indices) -> str:
            numbers = sorted(self._numbers[at] for at in order[rows].tolist())
            return f"{self._unit}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"

        try:
            return merge_duplicates(table, locate)
        except ListingError as error:
            raise ListingError(f"{self._whose} {error}") from None


def _confidence_column(header: Sequence[str]) -> int | None:
    """Find the column of a table of Open Images that says whether a label applies; None for any other table."""
    names = list(map(simplify_name, header))
    return names.index("confidence") if {"imageid", "labelname", "confidence"} <= set(names) else None


def _drop_empty_rows(numbers: Sequence[int], columns: Sequence[Sequence[str]]) -> ColumnBlock:
    """Leave out the rows in which every cell is empty, as Excel writes them below a table."""
    kept = [at for at, row in enumerate(zip(*columns, strict=True)) if any(map(str.strip, row))]
    return [numbers[at] for at in kept], [[column[at] for at in kept] for column in columns]


def _read_json_lines(files: Files, name: str, whose: str) -> tuple[list[str], Iterator[ColumnBlock]]:
    """Read a file with one JSON object per line: the names of all columns, and blocks of texts."""
    names = dict.fromkeys(key for _, record in _json_records(files, name, whose) for key in record)
    return list(names), _json_blocks(_json_records(files, name, whose), list(names))


def _json_records(files: Files, name: str, whose: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with io.TextIOWrapper(files.open(name), "utf-8-sig") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ListingError(f"line {number} of {whose} is not valid JSON: {error}") from None
            if not isinstance(record, dict):
                raise ListingError(f"line {number} of {whose} must be a JSON object, got {line[:40]!r}")
            yield number, record


def _json_blocks(records: Iterator[tuple[int, dict[str, Any]]], names: Sequence[str]) -> Iterator[ColumnBlock]:
    for batch in batched(records):
        numbers, rows = zip(*batch, strict=True)
        yield numbers, [[cell_text(row.get(name)) for row in rows] for name in names]
