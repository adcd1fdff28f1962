"""List the images in a Python object: paths, or a data set of (Pillow image, label) pairs such as torchvision has."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from featx.errors import ImageError, ListingError
from featx.images.decoding.decoder import encode_upright
from featx.images.sources.files import check_inside_root, check_no_root, open_root
from featx.images.sources.folder import unlabeled_table
from featx.images.sources.huggingface import list_dataset
from featx.images.sources.listing import Listing
from featx.images.sources.manifest import find_manifest_columns, list_table, read_table
from featx.images.sources.metadata import RowBuilder, cell_text
from featx.images.sources.notes import Note
from featx.images.sources.options import ListingOptions
from featx.table import BATCH, ImageTable, Indices


def list_object(source: Any, root: str | Path | None, options: ListingOptions) -> Listing:
    """List the images in a Python object; see `featx.images.list_images`.

    Raises
    ------
    ListingError
        If the object is of another kind, or contains no images. Also if ``root`` is given and the object is not a
        sequence of paths.
    ImageError
        If an item of a data set is not a pair of an image and a label.
    EngineError
        If the object needs a package that is not installed.
    """
    if isinstance(source, Listing):
        check_no_root(root, "a listing")
        options.check_used("a listing")
        return source
    if _is_huggingface_dataset(source):
        return list_dataset(source, Path(root or ""), options, follow_paths=True)
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        return _list_frame(source, root, options)
    options.check_used(f"a source of type {type(source).__name__}")
    if hasattr(source, "to_numpy"):
        source = source.to_numpy()
    if isinstance(source, Iterator) or (isinstance(source, np.ndarray) and source.ndim == 1):
        source = list(source)  # for example paths from Path.glob or pandas
    if not hasattr(source, "__len__"):
        raise ListingError(
            "a source of images must be a path, an array or iterator of paths, or a data set with a length, "
            f"got {type(source).__name__}"
        )
    if not len(source):
        raise ListingError("a sequence of images must name at least one path, got none")
    if isinstance(source, Sequence) and isinstance(source[0], str | os.PathLike):
        return _list_paths(source, root)
    check_no_root(root, f"a {type(source).__name__}")
    return _list_dataset_files(source) or _list_pairs(source)


def _is_huggingface_dataset(source: Any) -> bool:
    """Recognize a ``Dataset`` or ``DatasetDict`` by the attributes that are used."""
    # The name of the module is not used, because many users have their own package with the name datasets.
    part = next(iter(source.values()), None) if isinstance(source, Mapping) else source
    return all(hasattr(part, name) for name in ("features", "select_columns", "__len__"))


def _list_frame(frame: Any, root: str | Path | None, options: ListingOptions) -> Listing:
    """List the images that a data frame of pandas or polars names, like those of a manifest."""
    whose = f"a {type(frame).__name__}"
    options.check_used(whose, "label_column", "group_column")
    names = [str(name) for name in frame.columns]
    columns = find_manifest_columns(names, whose, options)
    values = [_cells(frame[frame.columns[names.index(name)]]) for name in columns.used]
    if root is None:
        # Without a root, absolute paths are relative to the root of the file system.
        root = Path(next(filter(None, values[0]), "")).anchor
    images = open_root(root)
    blocks = (
        (range(first, min(first + BATCH, len(frame))), [column[first : first + BATCH] for column in values])
        for first in range(0, len(frame), BATCH)
    )
    return list_table(read_table(columns.used, blocks, columns, whose, "row", images), whose, images)


def _cells(series: Any) -> list[str]:
    """Return the values of a column as text; missing values become ``""``."""
    missing = series.isna() if hasattr(series, "isna") else [False] * len(series)
    return ["" if is_missing else cell_text(value) for value, is_missing in zip(series, missing, strict=True)]


def _list_paths(source: Sequence[str | Path], root: str | Path | None) -> Listing:
    """List paths in their order, without checking whether the files exist.

    If ``root`` is given, reading a file outside this root raises ``ImageError``.
    """
    try:
        table = unlabeled_table(os.fspath(path).replace(os.sep, "/") for path in source)
    except UnicodeEncodeError as error:
        raise ListingError(f"a sequence of images must contain file names, got {error.object!r}") from None
    files, paths = open_root(root or ""), table.paths

    def inside(row: int) -> str:
        if root is not None:
            check_inside_root(root, paths[row])
        return paths[row]

    return Listing(
        files.root,
        table,
        lambda row: files.read(inside(row)),
        size=lambda row: files.size(inside(row)),
        layout="list of paths",
    )


def _list_dataset_files(source: Any) -> Listing | None:
    """List the files of a data set that knows them, such as torchvision's ``ImageFolder``; else return None."""
    if _is_subset(source):
        listing, rows = _list_dataset_files(source.dataset), np.asarray(source.indices, np.int64)
        return None if listing is None else _take(listing, rows)
    root, samples = getattr(source, "root", None), getattr(source, "samples", None)
    if root is None or not isinstance(samples, list):
        return None
    listing = _list_paths([Path(path).relative_to(root).as_posix() for path, _ in samples], root)
    table = _labeled_table(source, listing.paths, (label for _, label in samples))
    return dataclasses.replace(listing, rows=table, layout=f"files of a {type(source).__name__}")


def _is_subset(source: Any) -> bool:
    """Recognize a ``torch.utils.data.Subset`` by the attributes that are used."""
    return hasattr(source, "dataset") and hasattr(source, "indices")


def _take(listing: Listing, rows: Indices) -> Listing:
    return dataclasses.replace(
        listing,
        rows=listing.rows.take(rows),
        read=lambda row: listing.read(int(rows[row])),
        size=lambda row: listing.size(int(rows[row])),
    )


def _list_pairs(source: Any) -> Listing:
    """List a data set of (image, label) pairs. Reading an image encodes it as an image file."""
    name, count, lock = type(source).__name__, len(source), Lock()
    labels = getattr(source, "targets", None)
    if labels is None or len(labels) != count:
        labels = [_pair(source, row)[1] for row in range(count)]
    labels = list(labels)
    table = _labeled_table(source, (f"{name}#{row}" for row in range(count)), labels)
    notes = list[Note]()
    if not _classes(source) and any(hasattr(label, "__index__") for label in labels):
        notes.append(Note("hint", f"labels are numbers, because {name} has no attribute classes with their names"))

    def read(row: int) -> bytes:
        # A data set may not be safe in threads, so only one thread at a time may use it.
        with lock:
            image, _ = _pair(source, row)
        return encode_upright(image)

    return Listing(name, table, read, layout=f"items of a {name}", notes=tuple(notes))


def _labeled_table(source: Any, paths: Iterable[str], labels: Iterable[Any]) -> ImageTable:
    """Make a table of labeled images. Labels are class names if the data set has the attribute ``classes``."""
    builder = RowBuilder()
    for path, label in zip(paths, labels, strict=True):
        builder.add_record(path, {"label": label}, _classes(source))
    return builder.table


def _classes(source: Any) -> Sequence[str]:
    """Return the names of the classes of a data set; those of the whole data set for a subset of it."""
    while _is_subset(source) and not hasattr(source, "classes"):
        source = source.dataset
    return getattr(source, "classes", ())


def _pair(source: Any, row: int) -> tuple[Image.Image, Any]:
    try:
        image, label = source[row]
    except (TypeError, ValueError):
        image = label = None
    except Exception as error:
        raise ImageError(f"cannot be read: {error}") from error
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"an item of {type(source).__name__} must be a pair of a Pillow image and a label; "
            "create the data set without a transform to tensors"
        )
    return image, label
