"""How far the model's probabilities can be trusted: how often it is right, by how sure it says it is."""

from dataclasses import dataclass

import numpy as np

from featx.errors import DataError
from featx.heads import BINS, bins_of
from featx.inspection.html_report.plot import BELOW, LEFT, RIGHT, TOP, WIDTH, Plot, linear
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections.accuracy import wilson

TITLE = "Reliability"
BOTTOM, FLOOR = 320, 386
"""Where the axes and the bars of the counts stand."""


@dataclass(frozen=True)
class Bin:
    """Images of like confidence: how many, the mean confidence, the share that is right and its interval."""

    low: float
    high: float
    n: int
    confidence: float
    right: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Reliability:
    """The bins that have images."""

    bins: tuple[Bin, ...]
    plot: Plot
    error: float
    floor: int = FLOOR

    @property
    def most(self) -> int:
        """Images of the fullest bin."""
        return max(found.n for found in self.bins)


def make(run: Run) -> Section:
    """The reliability diagram of DeGroot & Fienberg (1983), with the bins of the expected calibration error."""
    found = run.decisions.single("the reliability diagram")
    if found.scored.probabilities is None:
        raise DataError("the model has no probabilities; fit it with --calibrate, or take softmax or ovr-logistic")
    # The most probable class, as the calibration error has it; of a calibrated head it need not be the one decided on.
    right = found.scored.probabilities.argmax(axis=1) == found.scored.labels
    confidence = found.scored.probabilities.max(axis=1)
    bins = tuple(_bin(index, right[rows], confidence[rows]) for index, rows in _dealt(confidence))
    axes = (
        linear("confidence", [0, 1], LEFT, RIGHT, share=True),
        linear("how often it is right", [0, 1], BOTTOM, TOP, share=True),
    )
    error = float(found.report["calibration_error"])
    says = "surer than it may be" if confidence.mean() > right.mean() else "less sure than it could be"
    lead = (
        f"The model is {says}: it claims {percent(confidence.mean())} on average and is right in "
        f"{percent(right.mean())}. Expected calibration error {percent(error)}."
    )
    if found.candidates and found.model.calibration:
        lead += " The sigmoids were fitted to decisions on these very images, so that this flatters the probabilities."
    return Section("reliability", TITLE, lead, Reliability(bins, Plot(WIDTH, FLOOR + BELOW, *axes), error))


def _dealt(confidence: np.ndarray) -> list[tuple[int, np.ndarray]]:
    bins = bins_of(confidence)
    return [(index, bins == index) for index in np.unique(bins).tolist()]


def _bin(index: int, right: np.ndarray, confidence: np.ndarray) -> Bin:
    n, hits = len(right), int(right.sum())
    return Bin(index / BINS, (index + 1) / BINS, n, float(confidence.mean()), hits / n, wilson(hits, n))
