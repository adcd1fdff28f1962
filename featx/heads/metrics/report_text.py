"""Format a report of scores as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_TABLE_ROWS = 30
MAX_MATRIX_CLASSES = 20
MAX_PAIRS = 10
NAME_WIDTH = 30
SCORE_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "subset_accuracy": "all labels right",
    "micro_average_precision": "micro average precision",
    "macro_average_precision": "macro average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "top5_accuracy": "top-5 accuracy",
    "calibration_error": "expected calibration error",
}
"""Titles of the scores of a report, by key."""
COLUMN_TITLES = {"precision": "precision", "recall": "recall", "f1": "F1", "average_precision": "AP"}


def format_report(report: Mapping[str, Any]) -> str:
    """Format a report as text: a summary, a table of the classes and, unless it is multi-label, the confusions.

    For more than 30 classes the table shows the 30 with the lowest F1. For more than 20 classes, a list of the most
    frequent confusions replaces the confusion matrix.

    Parameters
    ----------
    report : mapping
        From `score_report` or `multilabel_report`.
    """
    sections = [_format_summary(report), _format_classes(report["classes"])]
    if "confusion" in report:
        sections.append(_format_confusions(report))
    return "\n\n".join("\n".join(section) for section in sections if section)


def _format_summary(report: Mapping[str, Any]) -> list[str]:
    titles = {name: title for name, title in SCORE_TITLES.items() if report.get(name) is not None}
    width = 3 + max(map(len, titles.values()))
    return [
        f"{'rows':<{width}}{report['n']}",
        *(f"{title:<{width}}{report[name]:.4f}" for name, title in titles.items()),
    ]


def _format_classes(table: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = list(table)
    title = "class"
    if len(rows) > MAX_TABLE_ROWS:
        scored = [row for row in rows if row["f1"] is not None]
        rows = sorted(scored, key=lambda row: float(row["f1"]))[:MAX_TABLE_ROWS]
        title = f"class ({len(rows)} worst of {len(table)})"
    names = [_printable(row["class"]) for row in rows]
    width = max(map(len, [title, *names]))
    keys = [key for key in COLUMN_TITLES if key in table[0]]
    lines = [f"{title:<{width}} {'n':>6} " + " ".join(f"{COLUMN_TITLES[key]:>9}" for key in keys)]
    for name, row in zip(names, rows, strict=True):
        scores = " ".join(f"{_format_score(row[key]):>9}" for key in keys)
        lines.append(f"{name:<{width}} {row['n']:>6} {scores}")
    return lines


def _format_confusions(report: Mapping[str, Any]) -> list[str]:
    names = [_printable(row["class"]) for row in report["classes"]]
    if len(names) > MAX_MATRIX_CLASSES:
        return _format_worst_pairs(np.asarray(report["confusion"]), names)
    cell = max(len(str(len(names))), *(len(str(value)) for row in report["confusion"] for value in row))
    title = "true \\ predicted"
    width = max(map(len, [*names, title]))
    header = " ".join(f"{index:>{cell}}" for index in range(1, len(names) + 1))
    lines = [f"   {title:<{width}} {header}"]
    for index, (name, row) in enumerate(zip(names, report["confusion"], strict=True), 1):
        lines.append(f"{index:>2} {name:<{width}} " + " ".join(f"{value:>{cell}}" for value in row))
    return lines


def _format_worst_pairs(confusion: NDArray[np.intp], names: Sequence[str]) -> list[str]:
    errors = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-errors, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [(int(errors[pair]), *pair) for pair in zip(*np.unravel_index(order, errors.shape), strict=True)]
    lines = [f"{n:>6}  {names[true]} taken for {names[predicted]}" for n, true, predicted in pairs if n]
    return ["most often confused", *lines] if lines else []


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _printable(name: str) -> str:
    """Return a class name that fits on one line: unprintable characters are escaped, and a long name is cut."""
    safe = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
    return safe if len(safe) <= NAME_WIDTH else safe[: NAME_WIDTH - 1] + "…"
