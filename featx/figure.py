"""Figures in one style, drawn by matplotlib, which is imported when one is made."""

from typing import TYPE_CHECKING

from featx.errors import EngineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def make_figure(xlabel: str, ylabel: str) -> "tuple[Figure, Axes]":
    """An empty figure of one plot; ``EngineError`` if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise EngineError(f"plots need a package: pip install 'featx[plot]' ({error})") from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
