"""List Parquet files: shards with a column of image bytes, or manifests with a column of paths."""

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
from featx.images.sources.manifest import list_table, read_table
from featx.images.sources.metadata import (
    KEPT_PREFIXES,
    RowBuilder,
    add_file_splits,
    check_distinct_columns,
    kept_columns,
    label_names,
    to_text,
)
from featx.images.sources.options import ListingOptions
from featx.runtime import import_optional
from featx.table import BATCH, LABEL_SEPARATOR, ImageTable

CACHED_GROUPS = 2
"""Number of row groups in memory. Threads read the images nearly in order, so they need one group and the next."""
BATCH_ROWS = 64
"""Number of rows that are read from a row group between two checks of its size."""
IMAGE = "image"
"""The column with the images, if several columns contain bytes."""
BINARY_TYPES = ("binary", "large_binary", "binary_view", "fixed_size_binary")


def list_parquet(files: Files, names: Sequence[str], images: Files | None, options: ListingOptions) -> Listing:
    """List the images in Parquet shards, or the images that Parquet manifests name.

    Parameters
    ----------
    files : Files
        Where the Parquet files are.
    names : sequence of str
        The names of the Parquet files. Shards are listed in this order.
    images : Files, optional
        Where the images of manifests are; by default in the folder of the manifests.
    options : ListingOptions
        Which columns have the labels and the groups.

    Raises
    ------
    EngineError
        If pyarrow is not installed.
    ListingError
        If a file is damaged, has neither a column of image bytes nor a column ``path``, or has no rows. Also if
        ``images`` is given for shards.
    """
    whose = full_path(files.root, names[0])
    options.check_used(whose, "label_column", "group_column")
    arrow = _import_arrow(whose)
    with _opened(files, names[0], arrow) as file:
        column = _image_column(file.schema_arrow, whose, arrow)
    if column is None:
        several = f" and {len(names) - 1} more (rows are counted across files)" if len(names) > 1 else ""
        whose = f"manifest {whose}{several}"
        return list_table(_read_manifests(files, names, whose, arrow), whose, images or files)
    check_no_root(images, whose)
    return _list_shards(files, names, column, arrow)


class _ImageGroups:
    """The image column of some Parquet shards. A few row groups are kept in memory."""

    def __init__(self, files: Files, names: Sequence[str], column: str) -> None:
        self._files, self._names, self._column = files, names, column
        self._arrow = _import_arrow(full_path(files.root, names[0]))
        self._lock = Lock()
        self._read = lru_cache(CACHED_GROUPS)(self._load)

    def __reduce__(self) -> tuple[object, ...]:
        # Locks and modules cannot be sent to another process.
        return _ImageGroups, (self._files, self._names, self._column)

    def read(self, file: int, group: int, row: int) -> bytes:
        """Read the bytes of one image.

        Parameters
        ----------
        file : int
            Number of the Parquet file.
        group : int
            Number of the row group in the file.
        row : int
            Number of the row in the row group.

        Raises
        ------
        ImageError
            If the row has no bytes, or the file is damaged.
        """
        try:
            with self._lock:
                values = self._read(file, group)
            if isinstance(values, ImageError):
                raise values
            value = values[row].as_py()
        except ImageError:
            raise
        except Exception as error:
            # Arrow and each file system have their own error classes.
            raise ImageError(f"cannot be read: {error}") from error
        if value is None:
            raise ImageError("the row has no image bytes")
        return bytes(value)

    def _load(self, file: int, group: int) -> Any:
        with self._files.open(self._names[file]) as opened:
            parquet = self._arrow.parquet.ParquetFile(opened)
            try:
                values = self._arrow.chunked_array(_read_limited(parquet, group, self._column))
            except ImageError as error:
                # The error is returned, so that it is cached. Otherwise each row of the group would read it again.
                return error
        is_struct = self._arrow.types.is_struct(values.type)
        return self._arrow.compute.struct_field(values, "bytes") if is_struct else values


def _read_limited(parquet: Any, group: int, column: str) -> list[Any]:
    """Read a row group in batches.

    ``ImageError`` is raised as soon as more bytes are read than the limit allows. The size in the footer is not used.
    """
    arrays, size, limit = [], 0, ROW_GROUP.bytes
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column]):
        size += batch.nbytes
        if size > limit:
            raise ImageError(
                f"row group {group} has more than the {limit:,} bytes that are read at a time; write the file with "
                f"fewer rows per group, or {ROW_GROUP.remedy}"
            )
        arrays.append(batch.column(0))
    return arrays


def _import_arrow(whose: str) -> Any:
    for module in ("pyarrow.parquet", "pyarrow.compute"):
        import_optional(module, "parquet", whose)
    return import_optional("pyarrow", "parquet", whose)


@contextmanager
def _opened(files: Files, name: str, arrow: Any) -> Iterator[Any]:
    """Open a Parquet file for a ``with`` block; raise ``ListingError`` if reading fails within the block."""
    whose = full_path(files.root, name)
    try:
        with files.open(name) as opened:
            yield arrow.parquet.ParquetFile(opened)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise ListingError(f"{whose} is damaged or not a Parquet file: {error}") from error
    except OSError as error:
        raise ListingError(f"{whose} cannot be read: {error}") from error


def _list_shards(files: Files, names: Sequence[str], column: str, arrow: Any) -> Listing:
    tables, sizes = [], []
    for name in names:
        with _opened(files, name, arrow) as file:
            tables.append(_table(file, name, column))
            sizes.append([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
    table = add_file_splits(ImageTable.concatenate(tables), names, [len(each) for each in tables])
    if not len(table):
        raise ListingError(f"{full_path(files.root, names[0])} must have at least one row, got none")
    # places: the file of each row group, and its number in the file. edges: the number of the row at which it begins.
    places = [(file, group) for file, groups in enumerate(sizes) for group in range(len(groups))]
    edges = np.cumsum([0, *(size for groups in sizes for size in groups)])
    groups = _ImageGroups(files, names, column)

    def read(row: int) -> bytes:
        place = int(np.searchsorted(edges, row, "right")) - 1
        return groups.read(*places[place], row - int(edges[place]))

    return Listing(files.root, table, read, layout="Parquet shards")


def _table(file: Any, name: str, image: str) -> ImageTable:
    """Make the table of one shard; the path of a row is made of ``name`` and the row's number."""
    schema, builder = file.schema_arrow, RowBuilder()
    _check_columns(schema, [image], name)
    classes = _class_names(schema)
    for number, values in enumerate(_records(file, _known_columns(schema, name))):
        builder.add_record(f"{name}#{number}", values, classes)
    return builder.table


def _known_columns(schema: Any, name: str) -> list[str]:
    """Select the label column and the columns that are kept."""
    check_distinct_columns(schema.names, name)
    return [*({"label"} & set(schema.names)), *kept_columns(schema.names, name)]


def _check_columns(schema: Any, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in schema.names:
            raise ListingError(
                f"{name} must have the column {column} as the first file has, got {', '.join(schema.names)}"
            )


def _records(file: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for each row, with the values of some columns by their names."""
    if not columns:
        return itertools.repeat({}, file.metadata.num_rows)
    return itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(columns=columns))


def _image_column(schema: Any, whose: str, arrow: Any) -> str | None:
    """Find the column of image bytes; return None if the file is a manifest."""
    known = ("path", "label", *KEPT_PREFIXES)
    names = [field.name for field in schema if _has_bytes(field.type, arrow) and not field.name.startswith(known)]
    if IMAGE in names:
        return IMAGE
    if "path" in schema.names and _is_text(schema.field("path").type, arrow):
        return None
    if len(names) > 1:
        raise ListingError(
            f"{whose} must have one column of image bytes, or one named {IMAGE} among several, got {', '.join(names)}"
        )
    if not names and "path" not in schema.names:
        raise ListingError(
            f"{whose} must have a column of image bytes (binary), or one of paths named path, "
            f"got {', '.join(schema.names)}"
        )
    return names[0] if names else None


def _has_bytes(kind: Any, arrow: Any) -> bool:
    """Return whether a type is binary, or a struct with a binary field ``bytes``, as Hugging Face writes images."""
    if arrow.types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(field.type, arrow) for field in kind)
    return any(getattr(arrow.types, f"is_{name}")(kind) for name in BINARY_TYPES)


def _is_text(kind: Any, arrow: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind))


def _class_names(schema: Any) -> list[str]:
    """Read the class names for the numbers in the column ``label``, if Hugging Face stored the names."""
    try:
        label = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]
        # The feature of a multi-label column is a list of class labels. The class names are in the inner feature.
        return [str(name) for name in (label if "names" in label else label["feature"])["names"]]
    except (KeyError, ValueError, TypeError, RecursionError):
        # RecursionError is raised for JSON that is nested too deeply.
        return []


def _read_manifests(files: Files, names: Sequence[str], whose: str, arrow: Any) -> ImageTable:
    with _opened(files, names[0], arrow) as file:
        columns = ["path", *_known_columns(file.schema_arrow, names[0])]
    return read_table(columns, _blocks(files, names, columns, arrow), whose, "row")


def _blocks(files: Files, names: Sequence[str], columns: Sequence[str], arrow: Any) -> Iterator[ColumnBlock]:
    """Yield the columns of manifests as text, in the same form as in a CSV file."""
    first = 0
    for name in names:
        with _opened(files, name, arrow) as file:
            _check_columns(file.schema_arrow, columns, full_path(files.root, name))
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
    return LABEL_SEPARATOR.join(filter(None, map(_cell, value))) if isinstance(value, list) else to_text(value)
