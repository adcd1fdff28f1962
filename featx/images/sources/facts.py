"""What is known of an image besides its bytes: its labels, and the columns that are kept."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx.errors import ListingError
from featx.images.sources.folder import SPLITS
from featx.rows import Names, Rows
from featx.texts import BATCH, Column, Texts

KEPT = ("split", "weight")
"""How the names of columns begin that are kept."""
SEPARATOR = "|"
"""Between the labels of an image that has several."""
_TOKEN = re.compile(r"[-_./]")


def names_in(text: str) -> Names:
    """The labels in a text, once each and sorted; ``ListingError`` if there is a ``|`` without one."""
    labels = {label.strip() for label in text.split(SEPARATOR)}
    if len(labels) > 1 and "" in labels:
        raise ListingError(f"must have a label on each side of {SEPARATOR}, got {text!r}")
    return tuple(sorted(labels - {""}))


def label_names(value: object) -> Names:
    """The labels in what a program stored: a text, a number, None, or several; errors as `names_in`."""
    if isinstance(value, list | tuple):
        return tuple(sorted({name for item in value for name in label_names(item)}))
    return () if value is None else names_in(str(value))


def text_of(value: object) -> str:
    """A kept value as text; None is empty."""
    return "" if value is None else str(value).strip()


class Collected:
    """Rows as they are found, one after the other; what is found is put into compact columns every so often."""

    def __init__(self) -> None:
        self._done = list[Rows]()
        self._found = list[tuple[str, Names, dict[str, str]]]()

    def add(self, path: str, labels: Names, values: Mapping[str, Any]) -> None:
        """One row, and of its values those of columns that are kept."""
        kept = {name: text_of(value) for name, value in values.items() if name.startswith(KEPT)}
        self._found.append((path, labels, kept))
        if len(self._found) == BATCH:
            self._compact()

    @property
    def rows(self) -> Rows:
        """What was found."""
        self._compact()
        return Rows.joined(self._done)

    def _compact(self) -> None:
        names = sorted({name for _, _, kept in self._found for name in kept})
        splits = {name: Column.of(kept.get(name, "") for _, _, kept in self._found) for name in names}
        paths, labels = (Texts.of(path for path, _, _ in self._found), Column.of(names for _, names, _ in self._found))
        self._done.append(Rows(paths, labels, splits))
        self._found = []


def with_file_splits(rows: Rows, files: Sequence[str], counts: Sequence[int]) -> Rows:
    """The rows of files with so many each; if all files are named ``train…``, ``test…``, these become a split."""
    splits = [split for file in files if (split := _split_of(file))]
    if "split" in rows.splits or len(splits) < len(files) or "train" not in splits:
        return rows
    names = Column.of(splits)
    return Rows(rows.paths, rows.labels, {**rows.splits, "split": names.take(np.repeat(np.arange(len(files)), counts))})


def _split_of(file: str) -> str | None:
    return next((SPLITS[token] for token in _TOKEN.split(file) if token in SPLITS), None)


def top_folder(path: str) -> Names:
    """The folder at the top of a relative path as a label; none for a file in no folder."""
    top, slash, _ = path.partition("/")
    return (top,) if slash else ()
