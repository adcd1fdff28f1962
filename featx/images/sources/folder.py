"""List a folder of image files. Its sub-folders are classes or splits (see `folder_layout`)."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featx.errors import ListingError
from featx.images.sources.files import Files, full_path
from featx.images.sources.folder_layout import NOT_IN_CLASS, UNLABELED, FolderLayout, decide_layout, unlabeled_layout
from featx.images.sources.folder_metadata import FolderMetadata, read_metadata
from featx.images.sources.found_files import FoundFiles
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.notes import Note
from featx.images.sources.options import ListingOptions
from featx.table import CategoricalArray, ImageTable, StringArray, encode_text

T = TypeVar("T")


def list_folder(files: Files, found: FoundFiles, options: ListingOptions, *, labeled: bool) -> Listing:
    """List the images that were found below a folder, sorted by the bytes of their paths.

    Raises
    ------
    ListingError
        If no image was found, or if the sub-folders can be read in two ways (see `decide_layout`).
    """
    if not found.paths:
        raise ListingError(_no_images(files, found))
    columns = ("label_column", "group_column") if found.metadata else ()
    options.check_used(f"the folder {files.root}", "layout", "split_folders", *columns)
    metadata = read_metadata(files, found.metadata, found.paths, options)
    found.paths.sort(key=encode_text)
    folders = CategoricalArray.from_values(path.rpartition("/")[0] for path in found.paths)
    if labeled:
        layout = decide_layout(folders.categories, files.root, options, has_labels=metadata.has_labels)
    else:
        layout = unlabeled_layout(folders.categories)
    images, failures = _table(found.paths, folders.codes, layout, labels_elsewhere=metadata.has_labels)
    images, notes = metadata.apply(images)
    paths = images.paths
    return Listing(
        files.root,
        images,
        lambda row: files.read(paths[row]),
        tuple(sorted([*found.failures, *failures], key=lambda failure: encode_text(failure[0]))),
        lambda row: files.size(paths[row]),
        layout=_describe(layout.name, metadata),
        source_names=metadata.source_names,
        notes=(
            *layout.notes,
            *(() if metadata.has_labels else layout.unlabeled),
            *metadata.notes,
            *notes,
            *found.notes(),
            *_suggest_table(files, found, images),
        ),
    )


def _table(
    paths: Sequence[str], codes: NDArray[np.int32], layout: FolderLayout, *, labels_elsewhere: bool
) -> tuple[ImageTable, list[tuple[str, str]]]:
    """Make the table of the images.

    Parameters
    ----------
    paths : sequence of str
        The sorted paths of all images.
    codes : int32 (images,)
        For each image, the number of its folder in ``layout``.
    layout : FolderLayout
    labels_elsewhere : bool
        Whether a file has the labels. Then images need not be in class folders.

    Returns
    -------
    table : ImageTable
    failures : list of (path, reason)
        The images that are in no class or split.
    """
    reasons = ["" if labels_elsewhere and reason == NOT_IN_CLASS else reason for reason in layout.reasons]
    listed, failures = StringArray.from_strings(paths), list[tuple[str, str]]()
    if any(reasons):
        is_listed = np.array([not reason for reason in reasons])[codes]
        left = np.flatnonzero(~is_listed).tolist()
        failures = [(paths[row], reasons[codes[row]]) for row in left]
        listed, codes = listed.take(np.flatnonzero(is_listed)), codes[is_listed]
    splits = {} if layout.splits is None else {"split": _per_row(layout.splits, codes)}
    return ImageTable(listed, _per_row(layout.labels, codes), splits), failures


def _per_row(per_folder: Sequence[T], codes: NDArray[np.int32]) -> CategoricalArray[T]:
    """Give each row the value of its folder; ``codes`` has the number of the folder of each row."""
    values = CategoricalArray.from_values(per_folder)
    return CategoricalArray(values.categories, values.codes[codes])


def unlabeled_table(paths: Iterable[str]) -> ImageTable:
    """Make a table of images without labels."""
    strings = StringArray.from_strings(paths)
    return ImageTable(strings, CategoricalArray.full((), len(strings)))


def _describe(layout: str, metadata: FolderMetadata) -> str:
    """Describe the layout of a folder that may have metadata files."""
    if not metadata.tables:
        return layout
    return "images with metadata files" if layout == UNLABELED else f"{layout}, with metadata files"


def _suggest_table(files: Files, found: FoundFiles, images: ImageTable) -> tuple[Note, ...]:
    """Point to a table beside images without labels: it may have the labels."""
    if not found.tables or any(images.labels.used_categories()):
        return ()
    table = min(found.tables, key=lambda path: (path.count("/"), path))
    text = f"no image has a label; if {table} has the labels, give {full_path(files.root, table)} instead of the folder"
    return (Note("hint", text),)


def _no_images(files: Files, found: FoundFiles) -> str:
    """Explain that a folder contains no images, and what it contains instead."""
    notes, failure = "".join(f"; {note.text}" for note in found.notes()), first_failure(tuple(found.failures))
    return f"{files.root} must contain images that Pillow opens (.jpg, .png, …), got no image{notes}{failure}"
