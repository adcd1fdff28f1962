"""Make the sections on transfer learning: the depths, the recommendation, and fine-tuning."""

from dataclasses import dataclass
from typing import Any

from featx.drawing import figure_to_svg
from featx.finetuning import count_epochs, plot_training_curves, read_logs
from featx.inspection.advice.advisor import Advice
from featx.inspection.advice.plots import plot_learning_curve, plot_plane
from featx.inspection.depth_probe import Depth, ProbeReport, plot_probe
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Headline, Section, percent, sentence


@dataclass(frozen=True)
class DepthData:
    """The result of `featx.probe`, and its plot of the score by depth as SVG."""

    report: ProbeReport
    svg: str


@dataclass(frozen=True)
class AdviceData:
    """The result of `featx.advise`, and its two plots as SVG."""

    advice: Advice
    plane: str
    learning_curve: str


@dataclass(frozen=True)
class TrainingCurve:
    """One fine-tuning: its name, the rows of its log, and how many epochs had been trained at each row."""

    name: str
    rows: tuple[dict[str, Any], ...]
    epochs: tuple[int, ...]

    @property
    def best(self) -> int:
        """Number of the row with the highest validation accuracy."""
        return max(range(len(self.rows)), key=lambda row: float(self.rows[row]["val_accuracy"]))

    @property
    def seconds(self) -> float:
        """Duration of all epochs."""
        return float(sum(row["seconds"] or 0 for row in self.rows))


@dataclass(frozen=True)
class FinetuningData:
    """The fine-tunings, and their accuracy by epoch as SVG."""

    curves: tuple[TrainingCurve, ...]
    svg: str


def make_depth(context: ReportContext) -> Section:
    """Show the score and the cost of every range of blocks."""
    report = context.probe
    best = report.best
    how = f"by cross-validation on {report.rows:,} training images"
    lead = f"{sentence(report.advice)}. The best score is {_score(best)}, {how}."
    alone = ", ".join(f"{one.name}: {percent(one.mean)}" for one in report.depths if len(one.blocks) == 1)
    title = (
        f"Cross-validated {report.scoring} by depth; best range {best.name}: {percent(best.mean)}; "
        f"single blocks {alone}"
    )
    data = DepthData(report, figure_to_svg(plot_probe(report), "depth-plot", title))
    return Section(lead, data, headline=Headline("Best blocks", best.name, f"{_score(best)} in cross-validation"))


def _score(depth: Depth) -> str:
    return f"{percent(depth.mean)}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{percent(depth.standard_error)}"


def make_advice(context: ReportContext) -> Section:
    """Show the recommended way of transfer learning, and the evidence for it."""
    advice = context.advice
    size, similarity = advice.size, advice.similarity
    then = size.forecasts[-1]
    between = f"{percent(then.low)} to {percent(then.high)}"
    headline = Headline("Forecast", percent(then.accuracy), f"{between} with {size.gain.more:,} more images per class")
    amount, kind = advice.case.split(", ")
    relation = "similar to" if kind == "similar" else "different from"
    lead = (
        f"{sentence(advice.strategy)}. The data set is {amount} and {relation} the images that the "
        "backbone was trained on."
    )
    score = "not measured" if similarity.score is None else f"{similarity.score:.2f}"
    plane = figure_to_svg(plot_plane(advice), "plane-plot", (
        f"The plane of size and similarity: size {size.score:.2f} ({size.low:.2f} to {size.high:.2f}), "
        f"similarity {score}: {advice.case}"))  # fmt: skip
    points = ", ".join(f"{point.per_class:.0f} images per class {percent(point.mean)}" for point in size.curve)
    curve = figure_to_svg(plot_learning_curve(size), "learning-plot", (
        f"Learning curve: {points}; forecast {percent(then.accuracy)} with {then.per_class:.0f}"))  # fmt: skip
    return Section(lead, AdviceData(advice, plane, curve), headline=headline)


def make_finetuning(context: ReportContext) -> Section | None:
    """Show accuracy by epoch of each fine-tuning; None if there is no log."""
    if not context.logs:
        return None
    logs = read_logs(context.logs)
    curves = tuple(TrainingCurve(name, tuple(rows), tuple(count_epochs(rows))) for name, rows in logs.items())
    best = max(curves, key=lambda curve: float(curve.rows[curve.best]["val_accuracy"]))
    first, last = (best.rows[row]["val_accuracy"] for row in (0, best.best))
    rose = f"rose from {percent(first)} to {percent(last)} at epoch {best.epochs[best.best]}"
    lead = f"Validation accuracy of {best.name} {rose if last > first else f'did not rise above {percent(first)}'}."
    title = "Accuracy by epoch: " + "; ".join(
        f"{curve.name} reaches {percent(curve.rows[curve.best]['val_accuracy'])} at epoch {curve.epochs[curve.best]}"
        for curve in curves
    )
    return Section(lead, FinetuningData(curves, figure_to_svg(plot_training_curves(logs), "training-plot", title)))
