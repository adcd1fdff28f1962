"""Fine-tuning, epoch by epoch."""

from dataclasses import dataclass
from typing import Any

from featx.finetuning import epochs_of, read_logs
from featx.inspection.html_report.plot import BELOW, LEFT, RIGHT, TOP, WIDTH, Plot, linear, points
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section, percent

TITLE = "Fine-tuning"
BOTTOM = 296


@dataclass(frozen=True)
class Curve:
    """One fine-tuning: its name, the rows of its log, the epochs trained by each, and the points of its accuracies."""

    name: str
    rows: tuple[dict[str, Any], ...]
    epochs: tuple[int, ...]
    val: str
    train: str

    @property
    def best(self) -> int:
        """The number of the row of the highest validation accuracy."""
        return max(range(len(self.rows)), key=lambda row: float(self.rows[row]["val_accuracy"]))

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return float(sum(row["seconds"] or 0 for row in self.rows))


@dataclass(frozen=True)
class Curves:
    """All curves on one plot."""

    plot: Plot
    curves: tuple[Curve, ...]


def make(run: Run) -> Section | None:
    """Accuracy by epoch of each log; None without any."""
    if not run.logs:
        return None
    logs = read_logs(run.logs)
    longest = max(epochs_of(rows)[-1] for rows in logs.values())
    values = [row[key] for rows in logs.values() for row in rows for key in ("val_accuracy", "train_accuracy")]
    x = linear("epoch", [0, max(1, longest)], LEFT, RIGHT)
    y = linear("accuracy", [value for value in values if value is not None], BOTTOM, TOP, share=True)
    plot = Plot(WIDTH, BOTTOM + BELOW, x, y)
    curves = tuple(_curve(plot, name, rows) for name, rows in logs.items())
    best = max(curves, key=lambda curve: float(curve.rows[curve.best]["val_accuracy"]))
    first, last = (best.rows[row]["val_accuracy"] for row in (0, best.best))
    when = f"at epoch {best.epochs[best.best]}"
    lead = f"{best.name} went from {percent(first)} to {percent(last)} on its validation images, {when}."
    return Section("curves", TITLE, lead, Curves(plot, curves))


def _curve(plot: Plot, name: str, rows: list[dict[str, Any]]) -> Curve:
    epochs = tuple(epochs_of(rows))

    def line(key: str) -> str:
        there = [(epoch, row[key]) for epoch, row in zip(epochs, rows, strict=True) if row[key] is not None]
        return points(plot, *zip(*there, strict=True)) if there else ""

    return Curve(name, tuple(rows), epochs, line("val_accuracy"), line("train_accuracy"))
