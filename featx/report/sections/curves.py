"""Fine-tuning, epoch by epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.errors import DataError
from featx.finetune.log import Log
from featx.report.plot import Plot, linear, points
from featx.report.run import Run
from featx.report.section import Section, percent

TITLE = "Fine-tuning"
WIDTH, HEIGHT = 560, 350
LEFT, RIGHT, TOP, BOTTOM = 62, 540, 40, 296
MAX_RUNS = 6
"""Curves that can be told apart."""


@dataclass(frozen=True)
class Curve:
    """One fine-tuning: its name, its epochs, and the points of its validation and training accuracy."""

    name: str
    rows: tuple[dict[str, Any], ...]
    val: str
    train: str

    @property
    def best(self) -> int:
        """The epoch, from 0, of the highest validation accuracy."""
        return max(range(len(self.rows)), key=lambda epoch: float(self.rows[epoch]["val_accuracy"]))

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
    logs = {folder.name.removesuffix(".finetune"): _read(folder) for folder in run.logs[:MAX_RUNS]}
    longest = max(map(len, logs.values()))
    values = [row[key] for rows in logs.values() for row in rows for key in ("val_accuracy", "train_accuracy")]
    x = linear("epoch", [0, max(1, longest - 1)], LEFT, RIGHT)
    y = linear("accuracy", [value for value in values if value is not None], BOTTOM, TOP, share=True)
    plot = Plot(WIDTH, HEIGHT, x, y)
    curves = tuple(_curve(plot, name, rows) for name, rows in logs.items())
    best = max(curves, key=lambda curve: float(curve.rows[curve.best]["val_accuracy"]))
    first, last = (best.rows[epoch]["val_accuracy"] for epoch in (0, best.best))
    lead = f"{best.name} went from {percent(first)} to {percent(last)} on its validation images, at epoch {best.best}."
    return Section("curves", TITLE, lead, Curves(plot, curves))


def _read(folder: Path) -> list[dict[str, Any]]:
    rows = Log(folder).rows
    if not rows:
        raise DataError(
            f"--finetune of report must name folders that featx finetune made, but {folder} has no log.jsonl"
        )
    return rows


def _curve(plot: Plot, name: str, rows: list[dict[str, Any]]) -> Curve:
    def line(key: str) -> str:
        there = [(epoch, row[key]) for epoch, row in enumerate(rows) if row[key] is not None]
        return points(plot, *zip(*there, strict=True)) if there else ""

    return Curve(name, tuple(rows), line("val_accuracy"), line("train_accuracy"))
