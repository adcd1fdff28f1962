"""Draw plots in one style with matplotlib, and write them to files.

matplotlib is imported when the first figure is made, because most commands run without it.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from featx.errors import EngineError, ImageError, SpecError
from featx.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, SOFT, RULE, FAINT, PAPER = "#1b2023", "#5a646b", "#dfe3e2", "#eef1f0", "#ffffff"
"""Colors of text, secondary text, axes, grid lines and background."""
SERIES = ("#0a6b66", "#7c6a2a", "#b0411c", "#6a5acd", "#3a7bd5", "#b0488f")
"""Colors of data series; the first is the accent color. The report page has the same colors (style.css)."""
FONT_SIZE, SMALL = 9.0, 8.0
"""Sizes of text, in points."""
DOTS_PER_INCH = 200
"""Resolution of a figure that is written as PNG."""


def make_figure(xlabel: str, ylabel: str, height: float = 3.0) -> "tuple[Figure, Axes]":
    """Make an empty figure with one plot, 4.4 inches wide.

    ``height`` is in inches; ``ylabel`` is written horizontally above the plot.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    figure = _blank_figure(4.4, height)
    axes = figure.subplots()
    axes.set_xlabel(xlabel, fontsize=FONT_SIZE, color=SOFT)
    axes.set_title(ylabel, loc="left", fontsize=FONT_SIZE, color=SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=SOFT)
    axes.grid(axis="y", color=FAINT)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6)
    axes.set_prop_cycle(color=SERIES)
    return figure, axes


def make_panels(rows: int, columns: int, inches: float) -> "tuple[Figure, Any]":
    """Make a figure of square panels for images, with room for labels at the left.

    The width of each panel is ``inches``. Returns the figure and an array (rows, columns) of axes.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    figure = _blank_figure((columns + 1) * inches, (rows + 0.3) * inches)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return figure, panels


def add_legend(figure: "Figure", axes: "Axes") -> None:
    """Add a legend below the plot. Its labels are plain text: a dollar sign does not start a formula."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=SMALL, labelcolor=SOFT)
    for text in legend.get_texts():
        text.set_parse_math(False)


def show_percent(axis: Any) -> None:
    """Show the numbers of a matplotlib axis, which are fractions from 0 to 1, in percent."""
    axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}\N{NO-BREAK SPACE}%")


def color_map(name: str) -> "Colormap":
    """Return one of matplotlib's color maps by name. It maps numbers from 0 to 1 to RGBA.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    return _matplotlib().colormaps[name]  # type: ignore[no-any-return]


def plot_format(path: str | Path) -> str:
    """Return the format that the suffix of a path stands for, such as ``png``.

    Call this before a long computation, so that a wrong suffix raises its error early.

    Raises
    ------
    SpecError
        If matplotlib cannot write a format of that suffix.
    EngineError
        If matplotlib is not installed.
    """
    path = Path(path)
    name = path.suffix.lower().removeprefix(".")
    if name not in (names := _blank_figure(1, 1).canvas.get_supported_filetypes()):
        raise SpecError(f"name of a plot must end in one of .{', .'.join(sorted(names))}, got {path.name!r}")
    return name


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a file, completely or not at all; the suffix of the path chooses the format.

    Raises
    ------
    SpecError
        If matplotlib cannot write a format of that suffix.
    ImageError
        If the file cannot be written.
    """
    path, name = Path(path), plot_format(path)
    with atomic_write(path, ImageError) as temporary:
        figure.savefig(temporary, format=name, dpi=DOTS_PER_INCH)


def _blank_figure(width: float, height: float) -> "Figure":
    return _matplotlib().figure.Figure(figsize=(width, height), layout="constrained")  # type: ignore[no-any-return]


def _matplotlib() -> ModuleType:
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise EngineError(f"plots need a package: pip install 'featx[plot]' ({error})") from error
    return matplotlib
