"""Draw the accuracy of fine-tunings after each epoch."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.drawing import SERIES, add_legend, make_figure, show_percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def count_epochs(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return how many epochs had been trained before each row of a log was written.

    The first row of a stage has epoch 0. It has the accuracy before the stage began.
    """
    return list(itertools.accumulate(int(row["epoch"] > 0) for row in rows))


def plot_training_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Draw validation accuracy by epoch (thick) and training accuracy (thin), one color per fine-tuning.

    Parameters
    ----------
    logs : mapping of str to sequence of rows
        The logs, as `featx.finetuning.read_logs` returns them. The epochs of the second stage are drawn after those of
        the first. A dot marks the best epoch.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    figure, axes = make_figure("epoch", "accuracy")
    for number, (name, rows) in enumerate(logs.items()):
        epochs, color = count_epochs(rows), SERIES[number % len(SERIES)]
        accuracies = [row["val_accuracy"] for row in rows]
        trained = [(epoch, row["train_accuracy"]) for epoch, row in zip(epochs, rows, strict=True)
                   if row["train_accuracy"] is not None]  # fmt: skip
        if trained:
            axes.plot(*zip(*trained, strict=True), color=color, linewidth=0.8, alpha=0.6)
        axes.plot(epochs, accuracies, color=color, linewidth=2, label=name)
        best = max(range(len(rows)), key=lambda row: accuracies[row])
        axes.plot([epochs[best]], [accuracies[best]], "o", color=color, markersize=5)
    axes.locator_params(axis="x", integer=True)
    axes.margins(y=0.08)
    show_percent(axes.yaxis)
    add_legend(figure, axes)
    return figure
