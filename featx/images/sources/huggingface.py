"""Data sets of Hugging Face ``datasets``, saved to disk or in memory."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.sources.listing import Listing
from featx.images.sources.metadata import SPLITS, RowBuilder, kept_columns
from featx.runtime import import_optional
from featx.table import CategoricalArray, ImageTable

MARKS = (("dataset_dict.json",), ("dataset_info.json", "state.json"))
"""Files in a folder that ``save_to_disk`` wrote: of several splits, or of one."""
BATCH = 10_000


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote a folder."""
    return any(all((folder / name).is_file() for name in names) for names in MARKS)


def list_saved_dataset(folder: Path) -> Listing:
    """The images of a data set that ``save_to_disk`` wrote.

    Raises
    ------
    EngineError
        If ``datasets`` is not installed.
    ListingError
        If it cannot be read, has no images, or names files that are not its own.
    """
    datasets = import_optional("datasets", "datasets", str(folder))
    try:
        _check_files(folder)
        saved = datasets.load_from_disk(str(folder))
    except ListingError:
        raise
    except Exception as error:
        # What is damaged shows as errors of many kinds.
        raise ListingError(f"{folder} cannot be read as a saved data set: {error}") from error
    return list_dataset(saved, folder)


def _check_files(folder: Path) -> None:
    """Raise ``ListingError`` if a data set names a split or a file that is not its own."""
    listed = folder / "dataset_dict.json"
    splits = [str(name) for name in json.loads(listed.read_text())["splits"]] if listed.is_file() else []
    for name in splits:
        if not _is_beside(folder, name):
            raise ListingError(f"{listed} must name splits that are folders beside it, got {name!r}; do not use it")
    for state in (folder / "state.json", *(folder / name / "state.json" for name in splits)):
        if state.is_file():
            for name in (str(entry["filename"]) for entry in json.loads(state.read_text())["_data_files"]):
                if not _is_beside(state.parent, name):
                    raise ListingError(f"{state} must name files beside it, got {name!r}; do not use it")


def _is_beside(folder: Path, name: str) -> bool:
    """Whether a name is that of something in a folder, and no link out of it."""
    return Path(name).name == name != ".." and not (folder / name).is_symlink()


def list_dataset(saved: Any, root: Path) -> Listing:
    """The images of a ``Dataset``, or of all splits of a ``DatasetDict``, in their order; errors as `list_saved_dataset`."""
    datasets = import_optional("datasets", "datasets", str(root))
    if not isinstance(saved, Mapping):
        saved = {"": saved}
    parts, images = [], []
    for name, part in saved.items():
        column = _image_column(part, datasets, root)
        parts.append(_rows(part, name, name or root.name or "dataset", root))
        images.append(part.select_columns([column]).cast_column(column, datasets.Image(decode=False)))
    rows, edges = ImageTable.concatenate(parts), np.cumsum([0, *map(len, parts)])
    if not len(rows):
        raise ListingError(f"{root} must have at least one row, got none")

    def read(row: int) -> bytes:
        part = int(np.searchsorted(edges, row, "right")) - 1
        (image,) = images[part][row - int(edges[part])].values()
        # A path beside the bytes may lead anywhere, so it is not followed.
        if not image or image["bytes"] is None:
            raise ImageError("the data set has no bytes of it, only a path; give the folder of the files themselves")
        return bytes(image["bytes"])

    return Listing(root, rows, read)


def _image_column(part: Any, datasets: Any, root: Path) -> str:
    names = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    if len(names) > 1 and "image" in names:
        return "image"
    if len(names) != 1:
        raise ListingError(f"{root} must have one column of images, or call one of them image, "
                           f"got {', '.join(names) or 'none'} among {', '.join(part.features)}")  # fmt: skip
    return str(names[0])


def _rows(part: Any, split: str, name: str, root: Path) -> ImageTable:
    """The rows of one split, named by their numbers."""
    found = RowBuilder()
    columns = [*({"label"} & set(part.column_names)), *kept_columns(part.column_names, str(root))]
    label = part.features.get("label")
    classes = getattr(getattr(label, "feature", label), "names", ())  # of several labels an image, those of each
    for number, values in enumerate(_records(part, columns)):
        found.record(f"{name}#{number}", values, classes)
    rows = found.rows
    splits = (
        {}
        if not split or "split" in rows.columns
        else {"split": CategoricalArray.full(SPLITS.get(split, split), len(rows))}
    )
    return ImageTable(rows.paths, rows.labels, {**rows.columns, **splits})


def _records(part: Any, columns: list[str]) -> Any:
    if not columns:
        return ({} for _ in range(len(part)))
    batches = part.select_columns(columns).iter(batch_size=BATCH)
    return (dict(zip(columns, values, strict=True)) for batch in batches
            for values in zip(*(batch[column] for column in columns), strict=True))  # fmt: skip
