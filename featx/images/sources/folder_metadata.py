"""Read the files ``metadata.csv``, ``.jsonl`` and ``.parquet`` beside images, as Hugging Face's ``imagefolder`` does.

Such a file has the column ``file_name``, with paths relative to its own folder, and may have labels and other columns.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featx.errors import FeatxError
from featx.images.decoding.formats import suffix_of
from featx.images.sources.files import Files, full_path, open_root
from featx.images.sources.manifest import ManifestTable, read_manifest
from featx.images.sources.notes import Note, name_list
from featx.images.sources.options import ListingOptions
from featx.images.sources.parquet import read_parquet_manifests
from featx.runtime import pluralize
from featx.table import CategoricalArray, ImageTable, StringArray

T = TypeVar("T")
EXPECTED = "the path column is file_name"
"""A note of a manifest that says nothing new about a metadata file."""


@dataclass(frozen=True)
class _Table:
    """The table of one metadata file; ``folder`` is where it is, relative to the root."""

    path: str
    folder: str
    table: ManifestTable

    @property
    def has_labels(self) -> bool:
        return any(self.table.rows.labels.used_categories())


@dataclass(frozen=True)
class FolderMetadata:
    """The tables of all metadata files below a folder.

    Attributes
    ----------
    notes : tuple of Note
        What was guessed when they were read, and which of them are not used.
    """

    tables: Sequence[_Table] = ()
    notes: tuple[Note, ...] = field(default=())

    @property
    def has_labels(self) -> bool:
        """Whether any of the files has labels."""
        return any(table.has_labels for table in self.tables)

    @property
    def source_names(self) -> dict[str, str]:
        """For each column that has another name in the files: that name."""
        return {name: source for table in self.tables for name, source in table.table.source_names.items()}

    def apply(self, images: ImageTable) -> tuple[ImageTable, tuple[Note, ...]]:
        """Give images the labels and columns of the files.

        Labels of the files replace the labels of class folders. If a file has labels, images below its folder that it
        does not name have no label.

        Parameters
        ----------
        images : ImageTable
            The images below the folder, with the labels and the splits of their folders.

        Returns
        -------
        images : ImageTable
        notes : tuple of Note
            How many images have labels from the files, and what does not fit together.
        """
        is_below, is_named, unknown = np.zeros(len(images), bool), np.zeros(len(images), bool), 0
        for table in self.tables:
            given = table.table.rows
            rows = images.paths.find(StringArray.from_strings(table.folder + path for path in given.paths))
            unknown += int((rows < 0).sum())
            given, rows = given.take(np.flatnonzero(rows >= 0)), rows[rows >= 0]
            labels, columns = images.labels, dict(images.columns)
            if table.has_labels:
                labels = _assign(labels, rows, given.labels)
                is_below |= np.fromiter((path.startswith(table.folder) for path in images.paths), bool, len(images))
                is_named[rows] = True
            for name, column in given.columns.items():
                before = columns.get(name, CategoricalArray.full("", len(images)))
                filled = np.flatnonzero(np.array([bool(value) for value in column.categories], bool)[column.codes])
                columns[name] = _assign(before, rows[filled], column.take(filled))
            images = ImageTable(images.paths, labels, columns)
        unnamed = np.flatnonzero(is_below & ~is_named)
        labels = _assign(images.labels, unnamed, CategoricalArray.full((), len(unnamed)))
        images = ImageTable(images.paths, labels, images.columns)
        notes = self._count(int(is_named.sum()), int((is_below & ~is_named).sum()), unknown)
        return images, tuple(notes)

    def _count(self, labeled: int, left: int, unknown: int) -> Iterable[Note]:
        names = name_list([table.path for table in self.tables])
        if self.has_labels:
            yield Note("guessed", f"{pluralize(labeled, 'image')} with labels from {names}, not from folders", labeled)
        if left:
            yield Note("guessed", f"{pluralize(left, 'image')} not named in {names}, and so without labels", left)
        if unknown:
            yield Note("skipped", f"{pluralize(unknown, 'row')} of {names} whose files are not here", unknown)


def read_metadata(
    files: Files, paths: Sequence[str], images: Collection[str], options: ListingOptions
) -> FolderMetadata:
    """Read metadata files below a folder.

    Parameters
    ----------
    files : Files
        The folder.
    paths : sequence of str
        The metadata files.
    images : collection of str
        The paths of the images. A file that names none of them is not used.
    options : ListingOptions
        Names of columns that the user chose.

    Raises
    ------
    FeatxError
        If ``options`` name a column that a file does not have. Otherwise, a file that cannot be read is not used, and
        the notes say why.
    """
    tables, notes = list[_Table](), list[Note]()
    listed = StringArray.from_strings(images if paths else ())
    # Files in deeper folders come last: what they say about an image counts.
    for path in sorted(paths, key=lambda path: (path.count("/"), path)):
        folder = path[: path.rfind("/") + 1]
        try:
            table = _read(files, path, open_root(full_path(files.root, folder) if folder else files.root), options)
        except FeatxError as error:
            if options.label_column or options.group_column:
                raise
            notes.append(Note("skipped", f"{path} is not used: {error}", 1))
            continue
        if not (listed.find(StringArray.from_strings(folder + each for each in table.rows.paths)) >= 0).any():
            notes.append(Note("skipped", f"{path} is not used: it names no image that is here", 1))
            continue
        tables.append(_Table(path, folder, table))
        name = path.rpartition("/")[2]
        notes += [replace(note, text=f"{name}: {note.text}") for note in table.notes if note.text != EXPECTED]
    return FolderMetadata(tables, tuple(dict.fromkeys(notes)))


def _read(files: Files, path: str, images: Files, options: ListingOptions) -> ManifestTable:
    if suffix_of(path) == ".parquet":
        return read_parquet_manifests(files, [path], full_path(files.root, path), images, options)
    return read_manifest(files, path, images, options)


def _assign(column: CategoricalArray[T], rows: NDArray[np.int64], values: CategoricalArray[T]) -> CategoricalArray[T]:
    """Replace the values of some rows."""
    joined = CategoricalArray.concatenate([column, values])
    codes = joined.codes[: len(column)].copy()
    codes[rows] = joined.codes[len(column) :]
    return CategoricalArray(joined.categories, codes)
