"""Parquet files: with a column of image bytes they are the images, with a column of paths they are a manifest."""

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.files import ROW_GROUP
from featx.images.sources.csv_blocks import ColumnBlock
from featx.images.sources.files import Files, check_no_root, full_path
from featx.images.sources.listing import Listing
from featx.images.sources.manifest import list_rows, read_rows
from featx.images.sources.metadata import (
    KEPT_PREFIXES,
    RowBuilder,
    add_file_splits,
    check_distinct_columns,
    kept_columns,
    label_names,
    plain_text,
)
from featx.runtime import import_optional
from featx.table import BATCH, LABEL_SEPARATOR, ImageTable

GROUPS_HELD = 2
"""Row groups in memory at a time: images are read in order, in threads, so a group and the next."""
BATCH_ROWS = 64
"""After how many rows of a row group its bytes are counted."""
IMAGE = "image"
"""The column that is taken where several hold bytes."""
BINARIES = ("binary", "large_binary", "binary_view", "fixed_size_binary")


class _ImageGroups:
    """The image columns of Parquet files, one row group at a time."""

    def __init__(self, files: Files, names: Sequence[str], column: str) -> None:
        self._files, self._names, self._column = files, names, column
        self._arrow = _need_arrow(full_path(files.root, names[0]))
        self._lock = Lock()
        self._read = lru_cache(GROUPS_HELD)(self._load)

    def __reduce__(self) -> tuple[object, ...]:
        # Made anew, since another process has not imported what this one has.
        return _ImageGroups, (self._files, self._names, self._column)

    def bytes(self, file: int, group: int, row: int) -> bytes:
        """The bytes of a row of a group; ``ImageError`` if it has none, or the file is damaged."""
        try:
            with self._lock:
                values = self._read(file, group)
            if isinstance(values, ImageError):
                raise values
            value = values[row].as_py()
        except ImageError:
            raise
        except Exception as error:
            # Arrow, and what lies below it, have errors of their own.
            raise ImageError(f"cannot be read: {error}") from error
        if value is None:
            raise ImageError("the row has no image bytes")
        return bytes(value)

    def _load(self, file: int, group: int) -> Any:
        with self._files.open(self._names[file]) as opened:
            parquet = self._arrow.parquet.ParquetFile(opened)
            try:
                values = self._arrow.chunked_array(_bounded(parquet, group, self._column))
            except ImageError as error:
                return error  # to be held too: each row asks again
        is_struct = self._arrow.types.is_struct(values.type)
        return self._arrow.compute.struct_field(values, "bytes") if is_struct else values


def _bounded(parquet: Any, group: int, column: str) -> list[Any]:
    """The arrays of a row group; ``ImageError`` if they have more than the limit, whatever its footer says."""
    found, size, most = [], 0, ROW_GROUP.bytes
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column]):
        size += batch.nbytes
        if size > most:
            raise ImageError(f"row group {group} has more than the {most:,} bytes that are read at a time; write the "
                             f"file with fewer rows a group, or {ROW_GROUP.remedy}")  # fmt: skip
        found.append(batch.column(0))
    return found


def list_parquet(files: Files, names: Sequence[str], images: Files | None) -> Listing:
    """The images in Parquet files, file by file and row by row, or those that Parquet manifests name.

    The latter lie below ``images``, by default among ``files``.

    Raises
    ------
    EngineError
        If pyarrow is not installed.
    ListingError
        If a file is none of both, or damaged, or there are no rows; if ``images`` are given for the former.
    """
    whose = full_path(files.root, names[0])
    arrow = _need_arrow(whose)
    with _opened(files, names[0], arrow) as file:
        column = _image_column(file.schema_arrow, whose, arrow)
    if column is None:
        several = f" and {len(names) - 1} more, rows counted over all," if len(names) > 1 else ""
        whose = f"manifest {whose}{several}"
        return list_rows(_read_manifest(files, names, whose, arrow), whose, images or files)
    check_no_root(images, whose)
    return _list_bytes(files, names, column, arrow)


def _need_arrow(whose: str) -> Any:
    for module in ("pyarrow.parquet", "pyarrow.compute"):
        import_optional(module, "parquet", whose)
    return import_optional("pyarrow", "parquet", whose)


@contextmanager
def _opened(files: Files, name: str, arrow: Any) -> Iterator[Any]:
    """A Parquet file to read; what hinders it is a ``ListingError``."""
    whose = full_path(files.root, name)
    try:
        with files.open(name) as opened:
            yield arrow.parquet.ParquetFile(opened)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise ListingError(f"{whose} is no Parquet file, or damaged: {error}") from error
    except OSError as error:
        raise ListingError(f"{whose} cannot be read: {error}") from error


def _list_bytes(files: Files, names: Sequence[str], column: str, arrow: Any) -> Listing:
    found, sizes = [], []
    for name in names:
        with _opened(files, name, arrow) as file:
            found.append(_rows(file, name, column))
            sizes.append([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
    rows = add_file_splits(ImageTable.concatenate(found), names, [len(each) for each in found])
    if not len(rows):
        raise ListingError(f"{full_path(files.root, names[0])} must have at least one row, got none")
    # Of every row group of all files: its file, its number there, and its first row.
    places = [(file, group) for file, groups in enumerate(sizes) for group in range(len(groups))]
    edges = np.cumsum([0, *(size for groups in sizes for size in groups)])
    groups = _ImageGroups(files, names, column)

    def read(row: int) -> bytes:
        place = int(np.searchsorted(edges, row, "right")) - 1
        return groups.bytes(*places[place], row - int(edges[place]))

    return Listing(files.root, rows, read)


def _rows(file: Any, name: str, image: str) -> ImageTable:
    """The rows of one file, named by their numbers."""
    schema, found = file.schema_arrow, RowBuilder()
    _check_has(schema, [image], name)
    classes = _class_names(schema)
    for number, values in enumerate(_records(file, _known(schema, name))):
        found.record(f"{name}#{number}", values, classes)
    return found.rows


def _known(schema: Any, name: str) -> list[str]:
    """The columns that say something of an image."""
    check_distinct_columns(schema.names, name)
    return [*({"label"} & set(schema.names)), *kept_columns(schema.names, name)]


def _check_has(schema: Any, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in schema.names:
            raise ListingError(
                f"{name} must have the column {column} as the first file has, got {', '.join(schema.names)}"
            )


def _records(file: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Some columns of each row, a bounded number of rows at a time."""
    if not columns:
        return itertools.repeat({}, file.metadata.num_rows)
    return itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(columns=columns))


def _image_column(schema: Any, whose: str, arrow: Any) -> str | None:
    """The column of image bytes; None for a manifest."""
    known = ("path", "label", *KEPT_PREFIXES)
    names = [field.name for field in schema if _has_bytes(field.type, arrow) and not field.name.startswith(known)]
    if IMAGE in names:
        return IMAGE
    if "path" in schema.names and _is_text(schema.field("path").type, arrow):
        return None
    if len(names) > 1:
        raise ListingError(f"{whose} must have one column of image bytes, or call one of them {IMAGE}, "
                           f"got {', '.join(names)}")  # fmt: skip
    if not names and "path" not in schema.names:
        raise ListingError(f"{whose} must have a column of image bytes (binary), or one of paths called path, "
                           f"got {', '.join(schema.names)}")  # fmt: skip
    return names[0] if names else None


def _has_bytes(kind: Any, arrow: Any) -> bool:
    """Whether a type is binary, or a struct with ``bytes`` as Hugging Face writes images."""
    if arrow.types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(field.type, arrow) for field in kind)
    return any(getattr(arrow.types, f"is_{name}")(kind) for name in BINARIES)


def _is_text(kind: Any, arrow: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind))


def _class_names(schema: Any) -> list[str]:
    """The names behind the numbers of the column ``label``, where Hugging Face wrote them down."""
    try:
        label = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]
        # Of several labels an image, those of each.
        return [str(name) for name in (label if "names" in label else label["feature"])["names"]]
    except (KeyError, ValueError, TypeError, RecursionError):
        # The last is what Python says of JSON that is nested too deep.
        return []


def _read_manifest(files: Files, names: Sequence[str], whose: str, arrow: Any) -> ImageTable:
    with _opened(files, names[0], arrow) as file:
        columns = ["path", *_known(file.schema_arrow, names[0])]
    return read_rows(columns, _blocks(files, names, columns, arrow), whose, "row")


def _blocks(files: Files, names: Sequence[str], columns: Sequence[str], arrow: Any) -> Iterator[ColumnBlock]:
    """The columns of manifests as a CSV file would have them."""
    first = 0
    for name in names:
        with _opened(files, name, arrow) as file:
            _check_has(file.schema_arrow, columns, full_path(files.root, name))
            classes = {"label": _class_names(file.schema_arrow)}
            for batch in file.iter_batches(BATCH, columns=columns):
                yield (
                    range(first, first + len(batch)),
                    [_texts(batch.column(column), arrow, classes.get(column, [])) for column in columns],
                )
                first += len(batch)


def _texts(column: Any, arrow: Any, classes: Sequence[str] = ()) -> list[str]:
    if classes:
        return [LABEL_SEPARATOR.join(label_names(value, classes)) for value in column.to_pylist()]
    if arrow.types.is_string(column.type) and not column.null_count:
        return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    return [_cell(value) for value in column.to_pylist()]


def _cell(value: object) -> str:
    """A value as a CSV file would have it."""
    return LABEL_SEPARATOR.join(filter(None, map(_cell, value))) if isinstance(value, list) else plain_text(value)
