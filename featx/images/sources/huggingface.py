"""List a data set of the Hugging Face library ``datasets``, either saved to disk or in memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.sources.columns import ColumnFinder
from featx.images.sources.files import read_file
from featx.images.sources.listing import Listing
from featx.images.sources.metadata import RowBuilder, canonical_splits
from featx.images.sources.options import ListingOptions
from featx.images.sources.split_names import split_of_name
from featx.runtime import import_optional
from featx.table import CategoricalArray, ImageTable

MARKER_FILES = (("dataset_dict.json",), ("dataset_info.json", "state.json"))
"""Names of the files by which a saved ``DatasetDict``, and a saved ``Dataset``, are recognized."""
BATCH_ROWS = 10_000


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder was written by ``save_to_disk``."""
    return any(all((folder / name).is_file() for name in names) for names in MARKER_FILES)


def list_saved_dataset(folder: Path, options: ListingOptions) -> Listing:
    """List the images of a data set that ``save_to_disk`` wrote.

    Raises
    ------
    EngineError
        If ``datasets`` is not installed.
    ListingError
        If the data set cannot be read, has no images, or refers to files outside its own folders.
    """
    datasets = import_optional("datasets", "datasets", str(folder))
    try:
        _check_own_files(folder)
        saved = datasets.load_from_disk(str(folder))
    except ListingError:
        raise
    except Exception as error:
        # A damaged data set may raise an error of any class.
        raise ListingError(f"{folder} cannot be read as a saved data set: {error}") from error
    return list_dataset(saved, folder, options, follow_paths=False)


def list_dataset(dataset: Any, root: Path, options: ListingOptions, *, follow_paths: bool) -> Listing:
    """List the images of a ``Dataset``, or of all splits of a ``DatasetDict``, in the order of the data set.

    Parameters
    ----------
    dataset : datasets.Dataset or datasets.DatasetDict
        The data set. Labels and columns are read at once; images are read when they are needed.
    root : Path
        The folder or name of the data set.
    options : ListingOptions
        Which columns have the labels and the groups.
    follow_paths : bool
        Whether an image may be read from the path that the data set has for it. A data set from a stranger may name
        any file of this machine, so this is only for an object that the user's own program made.

    Raises
    ------
    EngineError
        If ``datasets`` is not installed.
    ListingError
        If the data set has no row, no column of images, or several such columns none of which is named ``image``.
    """
    datasets = import_optional("datasets", "datasets", str(root))
    options.check_used(f"the data set {root}", "label_column", "group_column")
    if not isinstance(dataset, Mapping):
        dataset = {"": dataset}
    tables, images = [], []
    finder = ColumnFinder(f"the data set {root}", options)
    for name, part in dataset.items():
        every = [each for each, feature in part.features.items() if isinstance(feature, datasets.Image)]
        column = _image_column(part, every, root)
        tables.append(_table(part, name, name or root.name or "dataset", every, finder))
        images.append(part.select_columns([column]).cast_column(column, datasets.Image(decode=False)))
    source_names, notes = finder.finish()
    table, converted = canonical_splits(ImageTable.concatenate(tables))
    edges = np.cumsum([0, *map(len, tables)])
    if not len(table):
        raise ListingError(f"{root} must have at least one row, got none")

    def read(row: int) -> bytes:
        part = int(np.searchsorted(edges, row, "right")) - 1
        (image,) = images[part][row - int(edges[part])].values()
        if not image or (image["bytes"] is None and not image["path"]):
            raise ImageError("the row has no image")
        if image["bytes"] is not None:
            return bytes(image["bytes"])
        if not follow_paths:
            raise ImageError("the data set has only a path, not the bytes; give the folder of the files instead")
        return read_file(image["path"])

    return Listing(
        root, table, read, layout="Hugging Face data set", source_names=source_names, notes=(*notes, *converted)
    )


def _check_own_files(folder: Path) -> None:
    """Raise ``ListingError`` if a saved data set refers to a split or a file outside its own folders."""
    listed = folder / "dataset_dict.json"
    splits = [str(name) for name in json.loads(listed.read_text())["splits"]] if listed.is_file() else []
    for name in splits:
        if not _is_inside(folder, name):
            raise ListingError(f"{listed} must name splits that are folders beside it, got {name!r}; do not use it")
    for state in (folder / "state.json", *(folder / name / "state.json" for name in splits)):
        if state.is_file():
            for name in (str(entry["filename"]) for entry in json.loads(state.read_text())["_data_files"]):
                if not _is_inside(state.parent, name):
                    raise ListingError(f"{state} must name files beside it, got {name!r}; do not use it")


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a name is that of an entry in a folder, and the entry is not a symlink."""
    return Path(name).name == name != ".." and not (folder / name).is_symlink()


def _image_column(part: Any, names: Sequence[str], root: Path) -> str:
    if len(names) > 1 and "image" in names:
        return "image"
    if len(names) != 1:
        raise ListingError(
            f"{root} must have one column of images, or one named image among several, "
            f"got {', '.join(names) or 'none'} among {', '.join(part.features)}; "
            "a column of paths becomes one by cast_column(NAME, datasets.Image())"
        )
    return names[0]


def _table(part: Any, split: str, name: str, images: Sequence[str], finder: ColumnFinder) -> ImageTable:
    """Make the table of one split; the path of a row is made of ``name`` and the row's number."""
    builder = RowBuilder()
    classes = _class_names(part)
    columns = finder.find(part.column_names, name, images, list(classes))
    names = classes.get(columns.label or "", ())
    for number, values in enumerate(_records(part, columns.used)):
        builder.add_record(f"{name}#{number}", columns.rename(values), names)
    table = builder.table
    if not split or "split" in table.columns:
        return table
    column = CategoricalArray.full(split_of_name(split) or split, len(table))
    return ImageTable(table.paths, table.labels, {**table.columns, "split": column})


def _class_names(part: Any) -> dict[str, list[str]]:
    """Return the columns that are class labels, with the names of the classes of each column."""
    # The feature of a multi-label column is a list of class labels. The class names are in the inner feature.
    inner = {name: getattr(feature, "feature", feature) for name, feature in part.features.items()}
    return {name: list(feature.names) for name, feature in inner.items() if hasattr(feature, "names")}


def _records(part: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for each row, with the values of some columns by their names."""
    if not columns:
        return ({} for _ in range(len(part)))
    batches = part.select_columns(columns).iter(batch_size=BATCH_ROWS)
    return (
        dict(zip(columns, values, strict=True))
        for batch in batches
        for values in zip(*(batch[column] for column in columns), strict=True)
    )
