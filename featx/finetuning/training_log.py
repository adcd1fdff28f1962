"""Write and read the training log: one row per epoch, as CSV and JSON lines."""

import csv
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from featx.errors import DataError, ModelError
from featx.files import atomic_write

COLUMNS = ("epoch", "stage", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
           "backbone_learning_rate", "seconds")  # fmt: skip


class Log:
    """Rows of `COLUMNS`, written to ``log.csv`` and ``log.jsonl`` of a folder as they come; a resumed one goes on.

    ``DataError`` if a line of a log that is there is no such row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "log.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.rows = [_parse(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)]

    def add(self, **row: Any) -> None:
        """Add a row; one of the same stage and epoch, from before a stop, is replaced."""
        same = [(old["stage"], old["epoch"]) == (row["stage"], row["epoch"]) for old in self.rows]
        self.rows = [old for old, gone in zip(self.rows, same, strict=True) if not gone]
        self.rows.append({name: row.get(name) for name in COLUMNS})
        with atomic_write(self.folder / "log.jsonl", ModelError) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        with atomic_write(self.folder / "log.csv", ModelError) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def read_logs(folders: Iterable[str | Path]) -> dict[str, list[dict[str, Any]]]:
    """Validated rows of each fine-tuning by its name, that of its folder, or the path where several have the same.

    A refit trains on the images that it was validated on, so that its epochs have no place in a curve.

    Raises
    ------
    DataError
        If a folder has no log, or one that is damaged.
    """
    runs = {str(Path(folder)).removesuffix(".finetune"): Path(folder) for folder in folders}
    times = Counter(Path(run).name for run in runs)
    logs = {Path(run).name if times[Path(run).name] == 1 else run: Log(folder) for run, folder in runs.items()}
    found = {name: [row for row in log.rows if row["val_accuracy"] is not None] for name, log in logs.items()}
    for name, log in logs.items():
        if not found[name]:
            raise DataError(f"{log.folder} has no training log, log.jsonl; give folders that featx finetune made")
    return found


def _parse(line: bytes, where: str) -> dict[str, Any]:
    """A row of all columns; None for what a log that was made elsewhere lacks."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if (
        not isinstance(row, dict)
        or not {"stage", "val_accuracy"} <= row.keys()
        or not isinstance(row.get("epoch"), int | float)
        or not isinstance(row["val_accuracy"], int | float | None)
    ):
        raise DataError(f"{where} is no row of a training log; remove it, or train anew")
    return {name: row.get(name) for name in COLUMNS}
