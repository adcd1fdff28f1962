"""How good every depth of the trunk is, and what it costs."""

from dataclasses import dataclass

from featx.probe import Depth, ProbeReport
from featx.report.plot import Plot, linear
from featx.report.run import Run
from featx.report.section import Section, percent

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 548, 16, 262


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
    y = linear(f"cross-validated {report.scoring}", values, BOTTOM, TOP, share=report.scoring == "accuracy")
    plot = Plot(WIDTH, HEIGHT, linear("", lasts, LEFT, RIGHT), y)
    return Section("depth", "Depth", _lead(report), Depths(report, plot, best, alone))


def _lead(report: ProbeReport) -> str:
    found = report.best
    score = f"{percent(found.mean)} ± {percent(found.standard_error)}" if report.scoring == "accuracy" else f"{found.mean:.4f}"
    return f"Blocks {found.name} are the best: {score} by cross-validation on {report.rows:,} training rows. " + (
        f"{report.advice[0].upper()}{report.advice[1:]}." if report.frugal is not found else "No shallower run comes near."
    )
