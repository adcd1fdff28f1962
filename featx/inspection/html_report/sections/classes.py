"""Scores a class, as a table that sorts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections.accuracy import wilson

TITLE = "Class by class"


@dataclass(frozen=True)
class ClassScores:
    """One class: images, precision, recall with its interval, F1 or average precision, and what it is taken for."""

    name: str
    n: int
    precision: float | None
    recall: float | None
    interval: tuple[float, float] | None
    last: float | None
    taken_for: str


@dataclass(frozen=True)
class Classes:
    """The rows, and the name of their last score."""

    rows: tuple[ClassScores, ...]
    last: str


def make(run: Run) -> Section:
    """The table, the worst class first."""
    report = run.decisions.report
    key = "f1" if "f1" in report["classes"][0] and not run.decisions.model.multilabel else "average_precision"
    rows = [_row(report, code, entry, key) for code, entry in enumerate(report["classes"])]
    rows.sort(key=lambda row: (row.last is None, row.last))
    worst, best = rows[0], max(rows, key=lambda row: -1 if row.last is None else row.last)
    title = "F1" if key == "f1" else "average precision"
    lead = f"Hardest is {worst.name} ({title} {_shown(worst.last)}), easiest {best.name} ({_shown(best.last)})."
    return Section("classes", TITLE, lead, Classes(tuple(rows), title))


def _row(report: dict[str, Any], code: int, entry: dict[str, Any], key: str) -> ClassScores:
    recall, n = entry["recall"], entry["n"]
    interval = None if recall is None else wilson(round(recall * n), n)
    return ClassScores(entry["class"], n, entry["precision"], recall, interval, entry[key], _taken_for(report, code))


def _taken_for(report: dict[str, Any], code: int) -> str:
    if "confusion" not in report:
        return ""
    counts = np.array(report["confusion"][code])
    counts[code] = 0
    most = int(counts.argmax())
    return f"{report['classes'][most]['class']} ({counts[most]})" if counts[most] else ""


def _shown(value: float | None) -> str:
    return "–" if value is None else percent(value, 0)
