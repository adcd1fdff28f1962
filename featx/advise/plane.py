"""The plane of size and likeness, with the data on it, as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from featx.advise.cases import CASES
from featx.advise.thresholds import BORDER
from featx.figure import make_figure

if TYPE_CHECKING:
    from featx.advise import Advice


def draw_plane(advice: "Advice", path: Path) -> None:
    """The four cases, and where the data lie; ``EngineError`` without matplotlib.

    The bar across is the interval of size; the ticks above and below are the parts of likeness.
    """
    size, likeness = advice.size, advice.likeness
    figure, axes = make_figure("size: images a class, and how flat the learning curve is",
                               "likeness to photographs of things")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for case in CASES:
        x, y = BORDER * case.large, BORDER * case.alike
        chosen = case.name == advice.case
        axes.axvspan(
            x, x + BORDER, y, y + BORDER, color="tab:green" if chosen else "0.5", alpha=0.15 if chosen else 0.04
        )
        axes.text(x + BORDER / 2, y + BORDER - 0.02, f"{case.name}\n{case.way.replace(': ', ':' + chr(10))}",
                  ha="center", va="top", fontsize=7, weight="bold" if chosen else "normal", wrap=True)  # fmt: skip
    y = BORDER if likeness.score is None else likeness.score
    axes.hlines(y, size.low, size.high, color="tab:blue")
    axes.plot([size.score], [y], "o", color="tab:blue", markersize=9)
    for name, part in likeness.parts.items():
        axes.plot([size.score], [part], "_", color="tab:blue", markersize=12)
        axes.annotate(name, (size.score, part), xytext=(8, -3), textcoords="offset points", fontsize=7)
    figure.savefig(path)
