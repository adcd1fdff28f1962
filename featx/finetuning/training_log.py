"""Write and read the training log: one row per epoch, as CSV and as JSON lines."""

import csv
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from featx.errors import DataError, ModelError
from featx.files import atomic_write, unreadable_error

COLUMNS = ("epoch", "stage", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
           "backbone_learning_rate", "seconds")  # fmt: skip


class TrainingLog:
    """The rows of ``log.jsonl`` and ``log.csv`` in a folder. Each is a dict with the keys `COLUMNS`.

    Raises
    ------
    DataError
        If a line of an existing log is not a row of a training log.
    ModelUnreadable
        If an existing log cannot be read now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "log.jsonl"
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise unreadable_error(path, error, ModelError) or ModelError(
                f"{path} cannot be read: {error.strerror or error}"
            ) from error
        self.rows = [_parse_row(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)]

    def add(self, **row: Any) -> None:
        """Add a row. It replaces a row of the same stage and epoch, which a stopped run may have left."""
        self.rows = [old for old in self.rows if (old["stage"], old["epoch"]) != (row["stage"], row["epoch"])]
        self.rows.append({name: row.get(name) for name in COLUMNS})
        with atomic_write(self.folder / "log.jsonl", ModelError) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        with atomic_write(self.folder / "log.csv", ModelError) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def read_logs(folders: Iterable[str | Path]) -> dict[str, list[dict[str, Any]]]:
    """Read the validated epochs of several fine-tunings, by name.

    The name of a fine-tuning is the name of its folder without ``.finetune``, or the path of the folder if several
    folders have the same name. The epochs of a refit are left out. A refit trains on the validation images, so it has
    no validation accuracy.

    Raises
    ------
    DataError
        If a folder has no log, or its log is damaged.
    """
    paths = {str(Path(folder)).removesuffix(".finetune"): Path(folder) for folder in folders}
    counts = Counter(Path(path).name for path in paths)
    logs = {
        Path(path).name if counts[Path(path).name] == 1 else path: TrainingLog(folder)
        for path, folder in paths.items()
    }  # fmt: skip
    validated = {name: [row for row in log.rows if row["val_accuracy"] is not None] for name, log in logs.items()}
    for name, log in logs.items():
        if not validated[name]:
            raise DataError(
                f"{log.folder} has no training log (log.jsonl); give a folder that featx finetune made"
            )  # fmt: skip
    return validated


def _parse_row(line: bytes, where: str) -> dict[str, Any]:
    """Parse a line of a log. Missing columns become None, because another program may have written the log."""
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
        raise DataError(f"{where} is not a row of a training log; remove the line, or train again")
    return {name: row.get(name) for name in COLUMNS}
