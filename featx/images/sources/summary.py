"""Summarize a listing: how its source was read, and which classes and splits were found."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featx.images.sources.notes import Note, count_list
from featx.runtime import pluralize

SHOWN_CLASSES = 20


@dataclass(frozen=True)
class ListingSummary:
    """How a source was read, before any image is decoded.

    Attributes
    ----------
    images : int
        Number of images.
    unlabeled : int
        Number of images without a label.
    classes : dict of str to int
        Number of images of each class, sorted by name. An image with several labels counts for each of them.
    splits : dict of str to int
        Number of images with each value of the column ``split``, sorted; empty if there is no such column.
    columns : dict of str to str
        The columns that are kept, with the name that each one has in the source: ``{"group": "patient"}``. It has
        ``label`` only if the labels are from a column of another name.
    layout : str
        How the source was read: ``"class folders"``, ``"split folders with class folders"``, ``"manifest"``.
    failures : int
        Number of files that could not be listed.
    notes : tuple of Note
        What was skipped, guessed, merged or converted. If there is no note, nothing was.
    """

    images: int
    unlabeled: int
    classes: Mapping[str, int]
    splits: Mapping[str, int]
    columns: Mapping[str, str]
    layout: str
    failures: int = 0
    notes: tuple[Note, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as values that JSON can hold."""
        return dataclasses.asdict(self)

    @property
    def origin(self) -> dict[str, Any]:
        """The facts that a store keeps, because they do not follow from its rows: layout, renamed columns, notes."""
        columns = {name: source for name, source in self.columns.items() if name != source}
        return {"layout": self.layout, "columns": columns, "notes": list(map(dataclasses.asdict, self.notes))}

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        lines = [f"{pluralize(self.images, 'image')} listed" + (f": {self.layout}" if self.layout else "")]
        if self.classes:
            lines.append(
                f"{pluralize(len(self.classes), 'class', 'classes')}: {count_list(self.classes, SHOWN_CLASSES)}"
            )
        if self.unlabeled:
            lines.append(f"{pluralize(self.unlabeled, 'image')} without a label")
        if self.splits:
            lines.append(f"{pluralize(len(self.splits), 'split')}: {count_list(self.splits)}")
        renamed = [f"{name} (from {source})" for name, source in self.columns.items() if name != source]
        if renamed:
            lines.append(f"columns: {', '.join(renamed)}")
        if self.failures:
            lines.append(f"{pluralize(self.failures, 'file')} could not be listed")
        return [*lines, *map(str, self.notes)]
