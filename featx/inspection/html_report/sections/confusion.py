"""What is taken for what, and which images those are."""

from dataclasses import dataclass

import numpy as np

from featx.inspection.html_report.decisions import Decisions
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section
from featx.runtime import pluralize

TITLE = "Confusion"
MAX_CLASSES = 40
"""A larger matrix is shown as its pairs alone."""
MAX_PAIRS = 12
EACH = 24
"""The most images of a cell that are shown."""
SHADES = 6
"""Steps of a cell's color."""


@dataclass(frozen=True)
class Cell:
    """How many images of one class are taken for one, its shade, and which they are, surest first."""

    true: str
    guess: str
    count: int
    shade: int
    images: tuple[int, ...]

    @property
    def words(self) -> str:
        """What the cell says."""
        images = f"{pluralize(self.count, 'image')} of {self.true}"
        return f"{images} recognized" if self.true == self.guess else f"{images} taken for {self.guess}"


@dataclass(frozen=True)
class Confusion:
    """The classes, the matrix, a row a true class (empty if there are too many), and the pairs most often confused."""

    classes: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    pairs: tuple[Cell, ...]


def make(run: Run) -> Section:
    """The matrix and its worst pairs."""
    found = run.decisions.single("the confusion matrix")
    matrix = np.array(found.report["confusion"])
    off = matrix - np.diag(np.diag(matrix))
    order = [divmod(int(at), len(matrix)) for at in np.argsort(-off, axis=None, kind="stable")[:MAX_PAIRS]]
    largest = matrix.sum(axis=1).max()
    pairs = tuple(_cell(found, row, column, largest) for row, column in order if off[row, column])
    cells: tuple[tuple[Cell, ...], ...] = ()
    if len(matrix) <= MAX_CLASSES:
        codes = range(len(matrix))
        cells = tuple(tuple(_cell(found, row, column, largest) for column in codes) for row in codes)
    lead = f"{off.sum():,} of {pluralize(matrix.sum(), 'image')} {'is' if off.sum() == 1 else 'are'} taken for another class"
    lead += f"; most often {pairs[0].true} for {pairs[0].guess} ({pairs[0].count})." if pairs else "."
    shown = frozenset(image for cell in (*pairs, *sum(cells, ())) for image in cell.images)
    return Section("confusion", TITLE, lead, Confusion(found.model.classes, cells, pairs), shown)


def _cell(found: Decisions, true: int, guess: int, largest: int) -> Cell:
    rows = np.flatnonzero((found.scored.labels == true) & (found.guesses == guess))
    ranked = rows[np.argsort(-found.confidence[rows], kind="stable")][:EACH]
    shade = int(np.ceil(SHADES * np.sqrt(len(rows) / largest)))
    classes = found.model.classes
    return Cell(classes[true], classes[guess], len(rows), shade, tuple(found.images[ranked].tolist()))
