"""The plane of size and likeness, with the data on it, as a picture."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from featx.drawing import make_figure, save_figure
from featx.inspection.advice.cases import CASES
from featx.inspection.advice.thresholds import BORDER

if TYPE_CHECKING:
    from featx.inspection.advice.advisor import Advice

WIDTH = 18
"""Characters a line in a quarter of the plane."""


def draw_plane(advice: "Advice", path: Path) -> None:
    """The four cases, and where the data lie; ``EngineError`` without matplotlib.

    The bar across is the interval of size; the ticks above and below are the parts of likeness.
    Likeness that was not measured is a line from end to end.
    """
    size, likeness = advice.size, advice.likeness
    figure, axes = make_figure("size: images a class, and how flat the learning curve is", "likeness to photographs")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for case in CASES:
        x, y = BORDER * case.large, BORDER * case.alike
        chosen = case.name == advice.case
        color, alpha = ("tab:green", 0.15) if chosen else ("0.5", 0.04)
        axes.axvspan(x, x + BORDER, y, y + BORDER, color=color, alpha=alpha)
        side, edge = ("right", 0.99) if case.large else ("left", 0.01)
        axes.text(edge, y + BORDER / 2, f"{case.name}\n\n{textwrap.fill(case.way, WIDTH)}", ha=side, va="center",
                  fontsize=8, weight="bold" if chosen else "normal")  # fmt: skip
    if likeness.score is None:
        axes.axvspan(size.low, size.high, color="tab:blue", alpha=0.2)
        axes.axvline(size.score, color="tab:blue", linestyle="dashed", label="likeness not measured")
        axes.legend(loc="lower center")
    else:
        axes.hlines(likeness.score, size.low, size.high, color="tab:blue")
        axes.plot([size.score], [likeness.score], "o", color="tab:blue", markersize=9)
    names: dict[float, list[str]] = {}
    for name, part in likeness.parts.items():
        names.setdefault(round(part, 2), []).append(name)
    for part, alike in names.items():
        axes.plot([size.score], [part], "_", color="tab:blue", markersize=12, clip_on=False)
        axes.annotate(", ".join(alike), (size.score, part), xytext=(9, -3), textcoords="offset points", fontsize=8)
    save_figure(figure, path)
