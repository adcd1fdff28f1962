"""Make the section on reliability: the share of correct predictions by the confidence of the model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featx.drawing import RULE, SERIES, SOFT, add_legend, figure_to_svg, make_figure, show_percent
from featx.errors import DataError
from featx.heads import CALIBRATION_BINS, bin_confidences
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections.accuracy import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ConfidenceBin:
    """Images of similar confidence: their number, mean confidence, and share of correct predictions with interval."""

    low: float
    high: float
    n: int
    confidence: float
    correct: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class ReliabilityDiagram:
    """The bins that contain images, the expected calibration error, and the diagram as SVG."""

    bins: tuple[ConfidenceBin, ...]
    error: float
    svg: str


def make_reliability(context: ReportContext) -> Section:
    """Build the reliability diagram of DeGroot & Fienberg (1983), with the bins of the expected calibration error."""
    decisions = context.decisions.require_single_label("the reliability diagram")
    if decisions.scored.probabilities is None:
        raise DataError("the model has no probabilities; fit it with --calibrate, or use softmax or ovr-logistic")
    correct = decisions.predictions == decisions.scored.labels
    confidence = decisions.confidence
    numbers = bin_confidences(confidence)
    bins = tuple(
        _make_bin(index, correct[numbers == index], confidence[numbers == index])
        for index in np.unique(numbers).tolist()
    )
    error = float(decisions.report["calibration_error"])
    over = "overconfident" if confidence.mean() > correct.mean() else "underconfident"
    lead = (
        f"The model is {over}: its mean confidence is {percent(confidence.mean())}, and {percent(correct.mean())} of "
        f"its predictions are correct. Expected calibration error {percent(error)}."
    )
    if decisions.candidates and decisions.model.calibration:
        lead += " The probabilities were calibrated on decisions for these same images, so this is optimistic."
    title = "Share of correct predictions by confidence: " + ", ".join(
        f"{percent(one.correct, 0)} of {one.n} at {percent(one.confidence, 0)}" for one in bins
    )
    svg = figure_to_svg(plot_reliability(bins), "reliability-plot", title)
    return Section(lead, ReliabilityDiagram(bins, error, svg))


def plot_reliability(bins: tuple[ConfidenceBin, ...]) -> "Figure":
    """Draw the share of correct predictions by confidence, and below it the number of images in each bin."""
    figure, axes = make_figure("confidence", "share of correct predictions", 3.4)
    most = max(one.n for one in bins)
    # Bars take the lowest fifth of the plot, below 0.
    axes.bar([one.low for one in bins], [0.2 * one.n / most for one in bins], 1 / CALIBRATION_BINS, bottom=-0.25,
             align="edge", color=SERIES[0], alpha=0.35, linewidth=0, label="number of images")  # fmt: skip
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle="dashed", linewidth=1, label="perfect calibration")
    x, y = [one.confidence for one in bins], [one.correct for one in bins]
    errors = [[one.correct - one.interval[0] for one in bins], [one.interval[1] - one.correct for one in bins]]
    axes.errorbar(x, y, np.maximum(errors, 0), fmt="o-", color=SERIES[0], markersize=5, capsize=3,
                  label="correct, with Wilson's 95 % interval")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(-0.25, 1.03), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.spines["bottom"].set_visible(False)
    show_percent(axes.xaxis)
    show_percent(axes.yaxis)
    add_legend(figure, axes)
    return figure


def _make_bin(index: int, correct: np.ndarray, confidence: np.ndarray) -> ConfidenceBin:
    n, hits = len(correct), int(correct.sum())
    return ConfidenceBin(
        index / CALIBRATION_BINS, (index + 1) / CALIBRATION_BINS, n, float(confidence.mean()), hits / n, wilson(hits, n)
    )
