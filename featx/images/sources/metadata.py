"""What is known of an image besides its bytes: its labels, and the columns that are kept."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from featx.errors import ListingError
from featx.table import BATCH, LABEL_SEPARATOR, CategoricalArray, ImageTable, LabelNames, StringArray, decode_text

KEPT_PREFIXES = ("split", "weight")
"""How the names of columns begin that are kept."""
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders, files and parts that make a split, and the split's name."""
_TOKEN = re.compile(r"[-_./]")


def plain_text(value: object) -> str:
    """What a program stored, as text; None and NaN are empty."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else decode_text(value)
    return "" if value is None or (isinstance(value, Real) and math.isnan(value)) else str(value)


def clean_text(text: str) -> str:
    """A text as a store can hold it, without blanks around; ``ListingError`` if it is not UTF-8 or has a NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ListingError(f"must be UTF-8, got {text!r}; save the file as UTF-8") from None
    if "\0" in text:
        raise ListingError(f"must have no NUL character in labels and columns, got {text!r}")
    return text.strip()


def parse_labels(text: str) -> LabelNames:
    """The labels in a text, once each and sorted; ``ListingError`` if there is a ``|`` without one."""
    labels = {label.strip() for label in clean_text(text).split(LABEL_SEPARATOR)}
    if len(labels) > 1 and "" in labels:
        raise ListingError(f"must have a label on each side of {LABEL_SEPARATOR}, got {text!r}")
    return tuple(sorted(labels - {""}))


def label_names(label: Any, classes: Sequence[str] = ()) -> LabelNames:
    """The labels in what a program stored: a text, a number, None, or several; errors as `parse_labels`.

    A number is one of ``classes``, where these are known; a negative one then stands for none. ``ListingError`` also of
    what names no class, such as an array or a dictionary.
    """
    if isinstance(label, Mapping) or (hasattr(label, "ndim") and label.ndim):
        raise ListingError(f"must have a text, a number or a list of these for a label, got a {type(label).__name__}; "
                           "make the data set with a target_transform to one")  # fmt: skip
    if hasattr(label, "ndim"):
        label = label.item()
    if isinstance(label, list | tuple):
        return tuple(sorted({name for item in label for name in label_names(item, classes)}))
    if hasattr(label, "__index__") and not isinstance(label, bool):
        number = label.__index__()
        if classes and number < len(classes):
            return (check_class_name(str(classes[number])),) if number >= 0 else ()
        return (str(number),)
    return parse_labels(plain_text(label))


def check_class_name(name: str) -> str:
    """The name of one class; ``ListingError`` if a manifest would read it as several, or a store not keep it."""
    if LABEL_SEPARATOR in name or "\0" in name:
        raise ListingError(f"must have no {LABEL_SEPARATOR} in the name of a class, which stands between the labels of an "
                           f"image that has several, and no NUL, got {name!r}; rename it")  # fmt: skip
    return name


@lru_cache(1024)  # The same few names come with every row.
def is_kept_column(column: str) -> bool:
    """Whether a column of this name is kept; ``ListingError`` if its name cannot be one in a store."""
    if not column.startswith(KEPT_PREFIXES):
        return False
    if "/" in clean_text(column):
        raise ListingError(f"must have no / in the names of columns split… and weight…, got {column!r}; rename it")
    return True


def check_distinct_columns(columns: Sequence[str], whose: str) -> None:
    """Raise ``ListingError`` if two columns have one name."""
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ListingError(f"columns of {whose} must have different names, got {repeated[0]!r} more than once")


def kept_columns(columns: Iterable[str], whose: str) -> list[str]:
    """The names of columns that are kept; ``ListingError`` as `is_kept_column`, which begins with ``whose``."""
    try:
        return [column for column in columns if is_kept_column(column)]
    except ListingError as error:
        raise ListingError(f"{whose} {error}") from None


def kept_values(values: Mapping[str, object]) -> dict[str, str]:
    """Those values that are in columns that are kept, as texts; errors as `clean_text` and `is_kept_column`."""
    return {name: clean_text(plain_text(value)) for name, value in values.items() if is_kept_column(name)}


class RowBuilder:
    """Rows as they are found, one after the other; what is found is put into compact columns every so often."""

    def __init__(self) -> None:
        self._done = list[ImageTable]()
        self._found = list[tuple[str, LabelNames, Mapping[str, str]]]()

    def record(self, path: str, values: Mapping[str, Any], classes: Sequence[str] = ()) -> None:
        """One row as a program stored it, with its label among the values; a ``ListingError`` begins with its path."""
        try:
            self.add(path, label_names(values.get("label"), classes), kept_values(values))
        except ListingError as error:
            raise ListingError(f"{path} {error}") from None

    def add(self, path: str, labels: LabelNames, kept: Mapping[str, str]) -> None:
        """One row."""
        self._found.append((path, labels, kept))
        if len(self._found) == BATCH:
            self._compact()

    @property
    def rows(self) -> ImageTable:
        """What was found."""
        self._compact()
        return ImageTable.concatenate(self._done)

    def _compact(self) -> None:
        names = sorted({name for _, _, kept in self._found for name in kept})
        splits = {
            name: CategoricalArray.from_values(kept.get(name, "") for _, _, kept in self._found) for name in names
        }
        paths, labels = (
            StringArray.from_strings(path for path, _, _ in self._found),
            CategoricalArray.from_values(names for _, names, _ in self._found),
        )
        self._done.append(ImageTable(paths, labels, splits))
        self._found = []


def add_file_splits(rows: ImageTable, files: Sequence[str], counts: Sequence[int]) -> ImageTable:
    """The rows of files with so many each; if all files are named ``train…``, ``test…``, these become a split."""
    splits = [split for file in files if (split := _split_of(file))]
    if "split" in rows.columns or len(splits) < len(files) or "train" not in splits:
        return rows
    names = CategoricalArray.from_values(splits)
    return ImageTable(
        rows.paths, rows.labels, {**rows.columns, "split": names.take(np.repeat(np.arange(len(files)), counts))}
    )


def _split_of(file: str) -> str | None:
    return next((SPLITS[token] for token in _TOKEN.split(file.casefold()) if token in SPLITS), None)


def folder_label(path: str) -> LabelNames:
    """The folder at the top of a relative path as a label; none for a file in no folder; errors as `check_class_name`."""
    top, slash, _ = path.partition("/")
    return (check_class_name(top),) if slash else ()
