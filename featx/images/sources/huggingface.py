"""List a data set of the Hugging Face library ``datasets``, either saved to disk or in memory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.sources.listing import Listing
from featx.images.sources.metadata import RowBuilder, kept_columns
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
    return list_dataset(saved, folder, options)


def list_dataset(dataset: Any, root: Path, options: ListingOptions) -> Listing:
    """List the images of a ``Dataset``, or of all splits of a ``DatasetDict``, in the order of the data set.

    Parameters
    ----------
    dataset : datasets.Dataset or datasets.DatasetDict
        The data set. Labels and columns are read at once; images are read when they are needed.
    root : Path
        The folder or name of the data set.
    options : ListingOptions
        Which columns have the labels and the groups.

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
    for name, part in dataset.items():
        column = _image_column(part, datasets, root)
        tables.append(_table(part, name, name or root.name or "dataset", root))
        images.append(part.select_columns([column]).cast_column(column, datasets.Image(decode=False)))
    table, edges = ImageTable.concatenate(tables), np.cumsum([0, *map(len, tables)])
    if not len(table):
        raise ListingError(f"{root} must have at least one row, got none")

    def read(row: int) -> bytes:
        part = int(np.searchsorted(edges, row, "right")) - 1
        (image,) = images[part][row - int(edges[part])].values()
        # The data set may also store a path with the bytes. It may lead to any file, so it is not followed.
        if not image or image["bytes"] is None:
            raise ImageError("the data set has only a path, not the bytes; give the folder of the files instead")
        return bytes(image["bytes"])

    return Listing(root, table, read, layout="Hugging Face data set")


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


def _image_column(part: Any, datasets: Any, root: Path) -> str:
    names = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    if len(names) > 1 and "image" in names:
        return "image"
    if len(names) != 1:
        raise ListingError(
            f"{root} must have one column of images, or one named image among several, "
            f"got {', '.join(names) or 'none'} among {', '.join(part.features)}"
        )
    return str(names[0])


def _table(part: Any, split: str, name: str, root: Path) -> ImageTable:
    """Make the table of one split; the path of a row is made of ``name`` and the row's number."""
    builder = RowBuilder()
    columns = [*({"label"} & set(part.column_names)), *kept_columns(part.column_names, str(root))]
    label = part.features.get("label")
    # The feature of a multi-label column is a list of class labels. The class names are in the inner feature.
    classes = getattr(getattr(label, "feature", label), "names", ())
    for number, values in enumerate(_records(part, columns)):
        builder.add_record(f"{name}#{number}", values, classes)
    table = builder.table
    if not split or "split" in table.columns:
        return table
    column = CategoricalArray.full(split_of_name(split) or split, len(table))
    return ImageTable(table.paths, table.labels, {**table.columns, "split": column})


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
