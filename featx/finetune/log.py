"""The training log: a row an epoch, as CSV and JSON lines, and learning curves as a picture."""

import csv
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.figure import make_figure, save_figure

COLUMNS = ("epoch", "stage", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
           "trunk_learning_rate", "seconds")  # fmt: skip


class Log:
    """Rows of `COLUMNS`, written to ``log.csv`` and ``log.jsonl`` of a folder as they come; a resumed one goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        path = folder / "log.jsonl"
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, **row: Any) -> None:
        """Add a row; one of the same stage and epoch, from before a stop, is replaced."""
        same = [(old["stage"], old["epoch"]) == (row["stage"], row["epoch"]) for old in self.rows]
        self.rows = [old for old, gone in zip(self.rows, same, strict=True) if not gone]
        self.rows.append({name: row.get(name) for name in COLUMNS})
        (self.folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        with (self.folder / "log.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def draw_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Validation accuracy by epoch, a curve a log, stages one after the other; errors as `featx.figure`'s."""
    figure, axes = make_figure("epoch", "validation accuracy")
    for name, rows in logs.items():
        trained = list(itertools.accumulate(int(row["epoch"] > 0) for row in rows))
        axes.plot(trained, [row["val_accuracy"] for row in rows], marker=".", label=name)
    axes.locator_params(axis="x", integer=True)
    axes.legend()
    save_figure(figure, path)
