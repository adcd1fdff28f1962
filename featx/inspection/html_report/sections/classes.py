"""Make the sections on classes: the confusion matrix with its images, and the scores of each class."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections.accuracy import wilson
from featx.inspection.html_report.unseen import UnseenDecisions
from featx.runtime import pluralize

MAX_CLASSES = 40
"""Largest number of classes with a matrix. For more classes, only the most confused pairs are shown."""
MAX_PAIRS = 12
MAX_IMAGES = 24
"""Images shown per cell."""
SHADES = 6
"""Number of background colors of cells."""


@dataclass(frozen=True)
class ConfusionCell:
    """The images of class ``true`` that are classified as ``predicted``, most confident first, and their number."""

    true: str
    predicted: str
    count: int
    shade: int
    images: tuple[int, ...]

    @property
    def text(self) -> str:
        """The content of the cell in words."""
        images = f"{pluralize(self.count, 'image')} of {self.true}"
        correct = self.true == self.predicted
        return f"{images} classified correctly" if correct else f"{images} classified as {self.predicted}"


@dataclass(frozen=True)
class ConfusionMatrix:
    """The classes, the cells by true class (empty if there are too many), and the most confused pairs."""

    classes: tuple[str, ...]
    cells: tuple[tuple[ConfusionCell, ...], ...]
    pairs: tuple[ConfusionCell, ...]


@dataclass(frozen=True)
class ClassRow:
    """Scores of one class. ``last`` is F1 or average precision, ``confused_with`` is the most frequent wrong class."""

    name: str
    n: int
    precision: float | None
    recall: float | None
    interval: tuple[float, float] | None
    last: float | None
    confused_with: str


@dataclass(frozen=True)
class ClassTable:
    """The rows, and the name of their last score."""

    rows: tuple[ClassRow, ...]
    last: str


def make_confusion(context: ReportContext) -> Section:
    """Build the confusion matrix and list its largest off-diagonal cells."""
    decisions = context.decisions.require_single_label("the confusion matrix")
    matrix = np.array(decisions.report["confusion"])
    wrong = matrix - np.diag(np.diag(matrix))
    order = [divmod(int(at), len(matrix)) for at in np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]]
    largest = matrix.sum(axis=1).max()
    pairs = tuple(_cell(decisions, row, column, largest) for row, column in order if wrong[row, column])
    cells: tuple[tuple[ConfusionCell, ...], ...] = ()
    if len(matrix) <= MAX_CLASSES:
        codes = range(len(matrix))
        cells = tuple(tuple(_cell(decisions, row, column, largest) for column in codes) for row in codes)
    verb = "is" if wrong.sum() == 1 else "are"
    lead = f"{wrong.sum():,} of {pluralize(matrix.sum(), 'image')} {verb} misclassified"
    lead += f", most often {pairs[0].true} as {pairs[0].predicted} ({pairs[0].count})." if pairs else "."
    shown = frozenset(image for cell in (*pairs, *sum(cells, ())) for image in cell.images)
    return Section(lead, ConfusionMatrix(decisions.model.classes, cells, pairs), shown)


def _cell(decisions: UnseenDecisions, true: int, predicted: int, largest: int) -> ConfusionCell:
    rows = np.flatnonzero((decisions.scored.labels == true) & (decisions.predictions == predicted))
    ranked = rows[np.argsort(-decisions.confidence[rows], kind="stable")][:MAX_IMAGES]
    shade = int(np.ceil(SHADES * np.sqrt(len(rows) / largest)))
    classes = decisions.model.classes
    return ConfusionCell(classes[true], classes[predicted], len(rows), shade, tuple(decisions.images[ranked].tolist()))


def make_classes(context: ReportContext) -> Section:
    """List the scores of each class, the lowest first."""
    report = context.decisions.report
    single = "f1" in report["classes"][0] and not context.decisions.model.multilabel
    key, title = ("f1", "F1") if single else ("average_precision", "average precision")
    rows = [_class_row(report, code, entry, key) for code, entry in enumerate(report["classes"])]
    rows.sort(key=lambda row: (row.last is None, row.last))
    worst, best = rows[0], max(rows, key=lambda row: -1 if row.last is None else row.last)
    lead = (
        f"{worst.name} has the lowest {title} ({_percent_or_dash(worst.last)}), {best.name} the highest "
        f"({_percent_or_dash(best.last)})."
    )
    return Section(lead, ClassTable(tuple(rows), title))


def _class_row(report: dict[str, Any], code: int, entry: dict[str, Any], key: str) -> ClassRow:
    recall, n = entry["recall"], entry["n"]
    interval = None if recall is None else wilson(round(recall * n), n)
    return ClassRow(entry["class"], n, entry["precision"], recall, interval, entry[key], _confused_with(report, code))


def _confused_with(report: dict[str, Any], code: int) -> str:
    if "confusion" not in report:
        return ""
    counts = np.array(report["confusion"][code])
    counts[code] = 0
    most = int(counts.argmax())
    return f"{report['classes'][most]['class']} ({counts[most]})" if counts[most] else ""


def _percent_or_dash(value: float | None) -> str:
    return "–" if value is None else percent(value, 0)
