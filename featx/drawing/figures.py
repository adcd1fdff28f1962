"""Figures in one style, drawn by matplotlib, which is imported when one is made."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from featx.errors import EngineError, ImageError, SpecError
from featx.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


def make_figure(xlabel: str, ylabel: str) -> "tuple[Figure, Axes]":
    """An empty figure of one plot; ``EngineError`` if matplotlib is not installed."""
    figure = _blank(6, 4)
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def make_panels(rows: int, columns: int, inches: float) -> "tuple[Figure, Any]":
    """A figure of square panels for pictures, as (rows, columns), labels to their left; errors as `make_figure`."""
    figure = _blank((columns + 1) * inches, (rows + 0.3) * inches)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return figure, panels


def color_map(name: str) -> "Colormap":
    """A color map of matplotlib's, from 0 to 1; errors as `make_figure`."""
    return _matplotlib().colormaps[name]  # type: ignore[no-any-return]


def plot_format(path: str | Path) -> str:
    """The format that a plot's name ends in, to be asked for before anything that takes long.

    Raises
    ------
    SpecError
        If matplotlib writes no such format.
    EngineError
        If matplotlib is not installed.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in (kinds := _blank(1, 1).canvas.get_supported_filetypes()):
        raise SpecError(f"name of a plot must end in one of .{', .'.join(sorted(kinds))}, got {path.name!r}")
    return kind


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure, whole or not at all; ``ImageError`` if that fails, other errors as `plot_format`."""
    path, kind = Path(path), plot_format(path)
    with atomic_write(path, ImageError) as temporary:
        figure.savefig(temporary, format=kind)


def _blank(width: float, height: float) -> "Figure":
    return _matplotlib().figure.Figure(figsize=(width, height), layout="constrained")  # type: ignore[no-any-return]


def _matplotlib() -> ModuleType:
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise EngineError(f"plots need a package: pip install 'featx[plot]' ({error})") from error
    return matplotlib
