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
from featx.images.sources.columns import LABEL, PATH, ColumnFinder, TableColumns, find_path_column
from featx.images.sources.csv_blocks import ColumnBlock
from featx.images.sources.files import Files, check_no_root, full_path
from featx.images.sources.listing import Listing
from featx.images.sources.manifest import ManifestTable, find_manifest_columns, list_table, read_table
from featx.images.sources.metadata import (
    KEPT_PREFIXES,
    RowBuilder,
    add_file_splits,
    canonical_splits,
    cell_text,
    label_names,
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
        whose, images = f"manifest {whose}{several}", images or files
        return list_table(read_parquet_manifests(files, names, whose, images, options), whose, images)
    check_no_root(images, whose)
    return _list_shards(files, names, column, options, arrow)


def read_parquet_manifests(
    files: Files, names: Sequence[str], whose: str, images: Files, options: ListingOptions
) -> ManifestTable:
    """Read Parquet files that name images as one table.

    Parameters
    ----------
    files : Files
        Where the Parquet files are.
    names : sequence of str
        The names of the Parquet files. Each must have the columns of the first one that are used.
    whose : str
        The name of the manifest in error messages.
    images : Files
        The root of the paths.
    options : ListingOptions
        Which columns have the labels and the groups.

    Raises
    ------
    EngineError
        If pyarrow is not installed.
    ListingError
        As by `featx.images.sources.manifest.list_manifest`.
    """
    arrow = _import_arrow(whose)
    with _opened(files, names[0], arrow) as file:
        schema = file.schema_arrow
        texts = [field.name for field in schema if field.name == PATH or _is_text(field.type, arrow)]
        columns = find_manifest_columns(schema.names, whose, options, texts, list(_class_names(schema)))
    return read_table(columns.used, _blocks(files, names, columns, arrow), columns, whose, "row", images)


def is_image_metadata(files: Files, name: str) -> bool:
    """Return whether a Parquet file has neither images nor a column ``path``, so that it only describes images.

    Raises
    ------
    EngineError
        If pyarrow is not installed.
    ListingError
        If the file cannot be read.
    """
    arrow = _import_arrow(full_path(files.root, name))
    with _opened(files, name, arrow) as file:
        schema = file.schema_arrow
        return PATH not in schema.names and not any(_has_bytes(field.type, arrow) for field in schema)


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


def _list_shards(files: Files, names: Sequence[str], column: str, options: ListingOptions, arrow: Any) -> Listing:
    tables, sizes = [], []
    finder = ColumnFinder(full_path(files.root, names[0]), options)
    for name in names:
        with _opened(files, name, arrow) as file:
            tables.append(_table(file, name, column, finder))
            sizes.append([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
    source_names, notes = finder.finish()
    table, converted = canonical_splits(ImageTable.concatenate(tables))
    table, guessed = add_file_splits(table, names, [len(each) for each in tables])
    if not len(table):
        raise ListingError(f"{full_path(files.root, names[0])} must have at least one row, got none")
    # places: the file of each row group, and its number in the file. edges: the number of the row at which it begins.
    places = [(file, group) for file, groups in enumerate(sizes) for group in range(len(groups))]
    edges = np.cumsum([0, *(size for groups in sizes for size in groups)])
    groups = _ImageGroups(files, names, column)

    def read(row: int) -> bytes:
        place = int(np.searchsorted(edges, row, "right")) - 1
        return groups.read(*places[place], row - int(edges[place]))

    return Listing(
        files.root,
        table,
        read,
        layout="Parquet shards",
        source_names=source_names,
        notes=(*notes, *converted, *guessed),
    )


def _table(file: Any, name: str, image: str, finder: ColumnFinder) -> ImageTable:
    """Make the table of one shard; the path of a row is made of ``name`` and the row's number."""
    schema, builder = file.schema_arrow, RowBuilder()
    _check_columns(schema, [image], name)
    classes = _class_names(schema)
    columns = finder.find(schema.names, name, [image], list(classes))
    names = classes.get(columns.label or "", ())
    for number, values in enumerate(_records(file, columns.used)):
        builder.add_record(f"{name}#{number}", columns.rename(values), names)
    return builder.table


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
    known = (PATH, LABEL, *KEPT_PREFIXES)
    names = [field.name for field in schema if _has_bytes(field.type, arrow) and not field.name.startswith(known)]
    if IMAGE in names:
        return IMAGE
    texts = [field.name for field in schema if _is_text(field.type, arrow)]
    if PATH in texts:
        return None
    if len(names) > 1:
        raise ListingError(
            f"{whose} must have one column of image bytes, or one named {IMAGE} among several, got {', '.join(names)}"
        )
    if not names and PATH not in schema.names and find_path_column(texts, whose) is None:
        raise ListingError(
            f"{whose} must have a column of image bytes (binary), or one of paths named path or file_name, "
            f"got {', '.join(schema.names)}"
        )
    return names[0] if names else None


def _has_bytes(kind: Any, arrow: Any) -> bool:
    """Return whether a type is binary, or a struct with a binary field ``bytes``, as Hugging Face writes images."""
    if arrow.types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(field.type, arrow) for field in kind)
    return any(getattr(arrow.types, f"is_{name}")(kind) for name in BINARY_TYPES)


def _is_text(kind: Any, arrow: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind))


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Read the columns that Hugging Face declared as class labels, with the names of the classes of each column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        # The feature of a multi-label column is a list of class labels. The class names are in the inner feature.
        inner = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in inner.items()
            if name in schema.names and isinstance(feature.get("names"), list)
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        # RecursionError is raised for JSON that is nested too deeply.
        return {}


def _blocks(files: Files, names: Sequence[str], columns: TableColumns, arrow: Any) -> Iterator[ColumnBlock]:
    """Yield the used columns of manifests as text, in the same form as in a CSV file."""
    first = 0
    for name in names:
        with _opened(files, name, arrow) as file:
            _check_columns(file.schema_arrow, columns.used, full_path(files.root, name))
            classes = {columns.label: _class_names(file.schema_arrow).get(columns.label or "", [])}
            for batch in file.iter_batches(BATCH, columns=columns.used):
                yield (
                    range(first, first + len(batch)),
                    [_texts(batch.column(column), arrow, classes.get(column, [])) for column in columns.used],
                )
                first += len(batch)


def _texts(column: Any, arrow: Any, classes: Sequence[str] = ()) -> list[str]:
    if classes:
        return [LABEL_SEPARATOR.join(label_names(value, classes)) for value in column.to_pylist()]
    if arrow.types.is_string(column.type) and not column.null_count:
        return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    return [cell_text(value) for value in column.to_pylist()]
