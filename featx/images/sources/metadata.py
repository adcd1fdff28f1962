"""Read the labels of images and the columns ``split…`` and ``weight…``.

The error messages of this module start with "must". Callers put the name of the row or file before the message.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from featx.errors import ListingError
from featx.images.sources.notes import Note, name_list
from featx.images.sources.split_names import SPLITS, conflicting_words, split_of_file, split_words
from featx.table import BATCH, LABEL_SEPARATOR, CategoricalArray, ImageTable, LabelNames, StringArray, decode_text

KEPT_PREFIXES = ("split", "weight", "group")
"""Columns are kept if their names start with one of these prefixes."""
OUTSIDE = "its name leads out of the shard"
"""The first of three reasons why an image in a shard is not listed. The next two constants are the other reasons."""
NOT_A_FILE = "a link or device in the shard, not followed"
DUPLICATE = "occurs earlier in the shard; the first one is used"


def to_text(value: object) -> str:
    """Convert a value of a label or a column to text; None and NaN become ``""``."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else decode_text(value)
    return "" if value is None or (isinstance(value, Real) and math.isnan(value)) else str(value)


def cell_text(value: object) -> str:
    """Convert a value of a table's cell to text; the values of a list are separated by ``|``, as labels are."""
    return LABEL_SEPARATOR.join(filter(None, map(cell_text, value))) if isinstance(value, list) else to_text(value)


def clean_text(text: str) -> str:
    """Strip blanks from a text, and check that a store can hold the text.

    ``ListingError`` is raised if the text is not UTF-8 or contains a NUL character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ListingError(f"must be UTF-8, got {text!r}; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    if "\0" in text:
        raise ListingError(f"must have no NUL character in labels and columns, got {text!r}")
    return text.strip()


def parse_labels(text: str) -> LabelNames:
    """Split a text such as ``a|b`` into its labels, sorted and without duplicates.

    Raises
    ------
    ListingError
        If a label beside a ``|`` is empty, or `clean_text` refuses the text.
    """
    labels = {label.strip() for label in clean_text(text).split(LABEL_SEPARATOR)}
    if len(labels) > 1 and "" in labels:
        raise ListingError(f"must have a label on each side of {LABEL_SEPARATOR}, got {text!r}")
    return tuple(sorted(labels - {""}))


def label_names(label: Any, classes: Sequence[str] = ()) -> LabelNames:
    """Convert a label of a data set to class names.

    Parameters
    ----------
    label : str, number, None, or a list of these
        A text is parsed by `parse_labels`.
    classes : sequence of str
        Names of the classes, if known. Then a number is an index into ``classes``, and a negative number means no
        label.

    Raises
    ------
    ListingError
        If the label is of another type, such as an array or a dictionary, or if `parse_labels` refuses it.
    """
    if isinstance(label, Mapping) or (hasattr(label, "ndim") and label.ndim):
        raise ListingError(
            f"must have a text, a number or a list of these as its label, got {type(label).__name__}; "
            "convert it with a target_transform of the data set"
        )
    if hasattr(label, "ndim"):
        label = label.item()
    if isinstance(label, list | tuple):
        return tuple(sorted({name for item in label for name in label_names(item, classes)}))
    if hasattr(label, "__index__") and not isinstance(label, bool):
        number = label.__index__()
        if classes and number < len(classes):
            return (check_class_name(str(classes[number])),) if number >= 0 else ()
        return (str(number),)
    return parse_labels(to_text(label))


def check_class_name(name: str) -> str:
    """Return the name of a class; raise ``ListingError`` if a manifest or a store could not hold the name."""
    if LABEL_SEPARATOR in name or "\0" in name:
        raise ListingError(
            f"must have no {LABEL_SEPARATOR}, which separates several labels, and no NUL in the name of a class, "
            f"got {name!r}; rename it"
        )
    return name


def folder_label(path: str) -> LabelNames:
    """Return the first folder of a relative path as the label; a file that is in no folder has no label.

    Raises
    ------
    ListingError
        If `clean_folder_name` refuses the name of the folder.
    """
    folder, slash, _ = path.partition("/")
    return (clean_folder_name(folder),) if slash else ()


def clean_folder_name(folder: str) -> str:
    """Return the class that a folder stands for. Blanks around its name do not count, as in a manifest.

    ``ListingError`` is raised if `check_class_name` refuses the name, or if it is blank.
    """
    name = check_class_name(folder).strip()
    if not name:
        raise ListingError(f"must have no blank name of a class, got the folder {folder!r}; rename it")
    return name


def is_hidden(name: str) -> bool:
    """Return whether a relative path is that of a hidden file, or leads through a hidden folder."""
    # Most names have no such part at all, and that is found out much faster.
    suspicious = name.startswith(".") or "/." in name
    return suspicious and any(part.startswith(".") and part != ".." for part in name.split("/"))


@lru_cache(1024)  # This is called for every row, with the same few names.
def is_kept_column(column: str) -> bool:
    """Return whether a column is kept, by its name; raise ``ListingError`` if a store cannot have such a name."""
    if not column.startswith(KEPT_PREFIXES):
        return False
    if "/" in clean_text(column):
        raise ListingError(
            f"must have no / in the names of columns split…, weight… and group…, got {column!r}; rename it"
        )
    return True


def kept_columns(columns: Iterable[str], whose: str) -> list[str]:
    """Select the names of the columns that are kept.

    ``ListingError`` is raised in the same cases as by `is_kept_column`; its message starts with ``whose``.
    """
    try:
        return [column for column in columns if is_kept_column(column)]
    except ListingError as error:
        raise ListingError(f"{whose} {error}") from None


def kept_values(values: Mapping[str, object]) -> dict[str, str]:
    """Select the values of the columns that are kept, as text.

    ``ListingError`` is raised in the same cases as by `is_kept_column` and `clean_text`.
    """
    return {name: clean_text(to_text(value)) for name, value in values.items() if is_kept_column(name)}


def check_distinct_columns(columns: Sequence[str], whose: str) -> None:
    """Raise ``ListingError`` if two columns have the same name."""
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ListingError(f"columns of {whose} must have different names, got {repeated[0]!r} more than once")


def canonical_splits(table: ImageTable) -> tuple[ImageTable, list[Note]]:
    """Replace values of split columns, such as ``Training`` and ``dev``, by ``train``, ``val`` and ``test``.

    A column is not changed if one of its values is not a usual name of a split, or if two of its values may be two
    splits, such as ``eval`` and ``test``.

    Returns
    -------
    table : ImageTable
    notes : list of Note
        Which values were replaced.
    """
    columns, notes = dict(table.columns), list[Note]()
    for name in [name for name in columns if name.startswith("split")]:
        used = sorted(set(columns[name].used_categories()) - {""})
        words = split_words(used)
        splits = {value: SPLITS[word] for value, word in words.items()}
        changes = any(value != split for value, split in splits.items())
        if changes and len(words) == len(used) and not conflicting_words(words):
            values = [splits.get(value, "") for value in columns[name].categories]
            # Two values may now be equal, so concatenate, which joins equal categories.
            columns[name] = CategoricalArray.concatenate([CategoricalArray(values, columns[name].codes)])
            pairs = [f"{value} as {split}" for value, split in splits.items() if value != split]
            notes.append(Note("converted", f"values of {name} read by their usual meaning: {name_list(pairs)}"))
    return ImageTable(table.paths, table.labels, columns), notes


class RowBuilder:
    """Collect the rows of a table one by one. After every `BATCH` rows, convert these rows to compact columns."""

    def __init__(self) -> None:
        self._tables = list[ImageTable]()
        self._rows = list[tuple[str, LabelNames, Mapping[str, str]]]()

    def add(self, path: str, labels: LabelNames, columns: Mapping[str, str]) -> None:
        """Add a row."""
        self._rows.append((path, labels, columns))
        if len(self._rows) == BATCH:
            self._compact()

    def add_record(self, path: str, values: Mapping[str, Any], classes: Sequence[str] = ()) -> None:
        """Add a row from a mapping of names to values, which includes the label.

        The message of a ``ListingError`` starts with the path.
        """
        try:
            self.add(path, label_names(values.get("label"), classes), kept_values(values))
        except ListingError as error:
            raise ListingError(f"{path} {error}") from None

    @property
    def table(self) -> ImageTable:
        """The rows so far."""
        self._compact()
        return ImageTable.concatenate(self._tables)

    def _compact(self) -> None:
        names = sorted({name for _, _, columns in self._rows for name in columns})
        paths = StringArray.from_strings(path for path, _, _ in self._rows)
        labels = CategoricalArray.from_values(labels for _, labels, _ in self._rows)
        columns = {
            name: CategoricalArray.from_values(columns.get(name, "") for _, _, columns in self._rows) for name in names
        }
        self._tables.append(ImageTable(paths, labels, columns))
        self._rows = []


def add_file_splits(
    table: ImageTable, files: Sequence[str], counts: Sequence[int]
) -> tuple[ImageTable, tuple[Note, ...]]:
    """Add the column ``split`` if the names of all files stand for splits, and one name stands for ``train``.

    Parameters
    ----------
    table : ImageTable
        The rows of all files, in the order of ``files``. A table that already has a column ``split`` is not changed.
    files : sequence of str
        Names of the files, such as ``train-0.tar``.
    counts : sequence of int
        Number of rows of each file.

    Returns
    -------
    table : ImageTable
    notes : tuple of Note
        Which splits were found in the names of the files.
    """
    splits = [split for file in files if (split := split_of_file(file))]
    if "split" in table.columns or len(splits) < len(files) or "train" not in splits:
        return table, ()
    names = CategoricalArray.from_values(splits)
    column = names.take(np.repeat(np.arange(len(files)), counts))
    note = Note("guessed", f"the splits {name_list(sorted(set(splits)))} are from the names of the files")
    return ImageTable(table.paths, table.labels, {**table.columns, "split": column}), (note,)
