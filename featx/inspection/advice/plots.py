"""Draw an advice: the data set among the four cases of transfer learning, and the learning curve."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from featx.drawing import FAINT, INK, PAPER, RULE, SERIES, SMALL, SOFT, make_figure, show_percent
from featx.inspection.advice.cases import CASES, Case
from featx.inspection.advice.dataset_size import DatasetSize
from featx.inspection.advice.thresholds import BORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featx.inspection.advice.advisor import Advice

WIDTH = 26
"""Characters per line in a quarter of the plane."""
LAW_POINTS = 40
"""Number of points at which the power law is drawn."""
ACCENT = SERIES[0]


def plot_plane(advice: "Advice") -> "Figure":
    """Draw the four cases on the plane of size and similarity to photographs, and the data set as a dot.

    The line through the dot is the interval of the size. The marks at the right edge are the parts of similarity. If
    similarity was not measured, a line from bottom to top shows the size.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    size, similarity = advice.size, advice.similarity
    figure, axes = make_figure(
        "size: images per class, and flatness of the learning curve", "similarity to photographs", 3.4
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid(visible=False)
    for case in CASES:
        _draw_quarter(axes, case, advice)
    if similarity.score is None:
        axes.axvspan(size.low, size.high, color=ACCENT, alpha=0.2, linewidth=0)
        axes.axvline(size.score, color=ACCENT, linestyle="dashed")
        axes.annotate("similarity not measured", (size.score, 0.02), xytext=(5, 0), textcoords="offset points",
                      fontsize=SMALL, color=INK)  # fmt: skip
    else:
        axes.hlines(similarity.score, size.low, size.high, color=ACCENT)
        axes.plot([size.score], [similarity.score], "o", color=ACCENT, markersize=9, markeredgecolor=PAPER,
                  clip_on=False)  # fmt: skip
    axes.plot(
        [1] * len(similarity.parts), [*similarity.parts.values()], "_", color=ACCENT, markersize=12, clip_on=False
    )
    for height, names in _grouped(similarity.parts).items():
        axes.annotate(names, (1, height), xytext=(9, 0), textcoords="offset points", va="center", fontsize=SMALL,
                      color=SOFT, annotation_clip=False)  # fmt: skip
    return figure


def plot_learning_curve(size: DatasetSize) -> "Figure":
    """Draw the accuracy by training images per class, the fitted power law, and the forecast.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    now, then = size.forecasts
    figure, axes = make_figure("training images per class", "accuracy", 3.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
    axes.fill_between([now.per_class, then.per_class], [now.low, then.low], [now.high, then.high], color=ACCENT,
                      alpha=0.14, linewidth=0)  # fmt: skip
    first, reached = size.curve[0].per_class, size.curve[-1].per_class
    for start, stop, style in ((first, reached, "solid"), (reached, then.per_class, "dashed")):
        images = np.geomspace(start, max(start, stop), LAW_POINTS)
        axes.plot(images, 1 - size.floor - size.factor * images**-size.exponent, color=ACCENT, linestyle=style)
    axes.errorbar([point.per_class for point in size.curve], [point.mean for point in size.curve],
                  [point.standard_error for point in size.curve], fmt="o", color=ACCENT, markersize=5,
                  capsize=3)  # fmt: skip
    below, above = [[max(then.accuracy - then.low, 0)], [max(then.high - then.accuracy, 0)]]
    axes.errorbar([then.per_class], [then.accuracy], [below, above], fmt="o", color=ACCENT, markersize=5,
                  markerfacecolor=PAPER, capsize=3)  # fmt: skip
    accuracy = f"{100 * then.accuracy:.1f}\N{NO-BREAK SPACE}%"
    axes.annotate(accuracy, (then.per_class, then.high), xytext=(0, 4), textcoords="offset points", ha="right",
                  fontsize=SMALL, color=INK, weight="bold")  # fmt: skip
    axes.margins(y=0.12)
    show_percent(axes.yaxis)
    return figure


def _draw_quarter(axes: "Axes", case: Case, advice: "Advice") -> None:
    x, y = BORDER * case.large, BORDER * case.similar
    chosen = case.name == advice.case
    axes.axvspan(x, x + BORDER, y, y + BORDER, facecolor=ACCENT if chosen else FAINT, edgecolor=RULE,
                 alpha=0.15 if chosen else 0.4)  # fmt: skip
    score = advice.similarity.score
    # The text is in the half of the quarter without the dot.
    top = not chosen or score is None or score < y + BORDER / 2
    text = f"{case.name}\n{textwrap.fill(case.strategy, WIDTH)}"
    axes.text(x + 0.015, y + BORDER - 0.02 if top else y + 0.02, text, ha="left", va="top" if top else "bottom",
              fontsize=SMALL, color=INK if chosen else SOFT)  # fmt: skip


def _grouped(parts: dict[str, float]) -> dict[float, str]:
    """Join the names of parts whose marks are close together, because such names would overlap."""
    groups: dict[float, list[str]] = {}
    for name, value in sorted(parts.items(), key=lambda item: item[1]):
        near = [height for height in groups if value - height < 0.05]
        groups.setdefault(near[-1] if near else value, []).append(name)
    return {height: ", ".join(names) for height, names in groups.items()}
