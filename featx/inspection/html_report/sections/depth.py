"""How good every depth of the backbone is, and what it costs."""

from dataclasses import dataclass

from featx.inspection.depth_probe import Depth, ProbeReport
from featx.inspection.html_report.plot import BELOW, LEFT, RIGHT, TOP, WIDTH, Plot, linear
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Figure, Section, percent, sentence

TITLE = "Depth"
BOTTOM = 296


@dataclass(frozen=True)
class Depths:
    """The probe's report; for each last block the run that is best among those that end there, and the block alone."""

    report: ProbeReport
    plot: Plot
    best: tuple[Depth, ...]
    alone: tuple[Depth, ...]

    def x(self, depth: Depth) -> float:
        """Where a depth stands: every last block at the same distance."""
        lasts = [one.blocks[-1] for one in self.alone]
        return round(LEFT + (lasts.index(depth.blocks[-1]) + 0.5) * (RIGHT - LEFT) / len(lasts), 1)


def make(run: Run) -> Section:
    """The probe as a plot and a table."""
    report = run.probe
    lasts = sorted({depth.blocks[-1] for depth in report.depths})
    best = tuple(
        max((depth for depth in report.depths if depth.blocks[-1] == last), key=lambda depth: depth.mean)
        for last in lasts
    )
    alone = tuple(depth for depth in report.depths if len(depth.blocks) == 1)
    values = [depth.mean + sign * depth.standard_error for depth in (*best, *alone) for sign in (-1, 1)]
    y = linear(f"cross-validated {report.scoring}", values, BOTTOM, TOP, share=True)
    plot = Plot(WIDTH, BOTTOM + BELOW, linear("", lasts, LEFT, RIGHT), y)
    found = report.best
    figure = Figure("Best blocks", found.name, f"{_score(found)} cross-validated")
    return Section("depth", TITLE, _lead(report), Depths(report, plot, best, alone), figure=figure)


def _lead(report: ProbeReport) -> str:
    found = report.best
    return f"{sentence(report.advice)}. {found.name} has {_score(found)} on {report.rows:,} training images."


def _score(depth: Depth) -> str:
    return f"{percent(depth.mean)} ± {percent(depth.standard_error)}"
