"""How good a head's decisions are, as numbers that go into JSON and as lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import DataError

BINS = 15
TOP = 5
MAX_TABLE_ROWS = 30
MAX_MATRIX_CLASSES = 20
MAX_PAIRS = 10
NAME_WIDTH = 30
TITLES = {
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
COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1", "average_precision": "AP"}


def score_report(
    y_true: ArrayLike, decision: ArrayLike, classes: Sequence[str], probability: ArrayLike | None = None
) -> dict[str, Any]:
    """Scores of a head on labeled rows; all of it can go into JSON.

    Parameters
    ----------
    y_true : int array (rows,)
        Index into ``classes`` of each row's own class.
    decision : float array (rows, classes), or (rows,) for two classes
        What ``decision_function`` gives; the largest wins, above 0 wins for the second of two.
    classes : sequence of str
    probability : float array (rows, classes), optional

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that have rows), ``macro_f1`` (mean
        over the classes that have rows or were predicted), ``top5_accuracy`` (None up to five classes),
        ``calibration_error`` (None without probabilities; expected calibration error in 15 bins of equal width, Guo
        et al. 2017, "On calibration of modern neural networks"), ``classes`` (a dict a class: ``class``, ``n``,
        ``precision``, ``recall``, ``f1``; a score that would divide by no rows is None) and ``confusion`` (lists of
        counts, a row a true class).

    Raises
    ------
    DataError
        If there are no rows, shapes do not fit, a label is no index of a class, or a decision is not finite.
    """
    truth, scores = np.asarray(y_true), np.asarray(decision)
    count = len(classes)
    _check(truth, scores, count)
    predicted = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
    confusion = np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)
    table = [_class_scores(name, confusion, index) for index, name in enumerate(classes)]
    return {
        "n": len(truth),
        "accuracy": float(np.trace(confusion) / len(truth)),
        "balanced_accuracy": mean_of(row["recall"] for row in table),
        "macro_f1": mean_of(row["f1"] for row in table),
        "top5_accuracy": _top_accuracy(truth, scores) if count > TOP else None,
        "calibration_error": None if probability is None else _calibration_error(truth, probability, count),
        "classes": table,
        "confusion": confusion.tolist(),
    }


def _check(truth: NDArray[Any], scores: NDArray[Any], count: int) -> None:
    if truth.ndim != 1 or not len(truth):
        raise DataError(f"labels to score must be one or more in one dimension, got shape {truth.shape}")
    allowed = [(len(truth), count)] + ([(len(truth),)] if count == 2 else [])
    if scores.shape not in allowed:
        raise DataError(f"decisions for {len(truth)} rows must have shape {allowed[-1]}, got {scores.shape}")
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= count:
        raise DataError(f"labels to score must be whole numbers from 0 to {count - 1}, got {np.unique(truth).tolist()}")
    if not np.isfinite(scores).all():
        raise DataError("decisions to score must be finite, got NaN or infinity")


def _class_scores(name: str, confusion: NDArray[np.intp], index: int) -> dict[str, Any]:
    hits, n, guesses = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    return {
        "class": name,
        "n": int(n),
        "precision": ratio(hits, guesses),
        "recall": ratio(hits, n),
        "f1": ratio(2 * hits, n + guesses),
    }


def ratio(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return float(part / whole) if whole else None


def mean_of(values: Iterator[float | None]) -> float:
    """Mean of the values that there are."""
    return float(np.mean([value for value in values if value is not None]))


def _top_accuracy(truth: NDArray[Any], scores: NDArray[Any]) -> float:
    """Share of rows of which fewer than ``TOP`` classes score above their own."""
    own = scores[np.arange(len(truth)), truth]
    return float(((scores > own[:, np.newaxis]).sum(axis=1) < TOP).mean())


def _calibration_error(truth: NDArray[Any], probability: ArrayLike, count: int) -> float:
    """Mean gap between the confidence in the most probable class and how often it is right."""
    shares = np.asarray(probability, dtype=np.float64)
    if shares.shape != (len(truth), count):
        raise DataError(f"probabilities to score must have shape {(len(truth), count)}, got {shares.shape}")
    return binned_error(shares.argmax(axis=1) == truth, shares.max(axis=1))


def binned_error(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> float:
    """Mean gap between confidence and how often it was right over bins of equal width, each weighted by its rows."""
    return float(np.abs(np.bincount(bins_of(confidence), weights=right - confidence)).sum() / len(right))


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which of the bins of equal width, 0 to 14, each confidence is in; an edge belongs to the bin below it."""
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)


def format_report(report: Mapping[str, Any]) -> str:
    """What `score_report` or `featx.heads.multilabel.multilabel_report` found as text.

    A summary, the classes, and, where each row has one, what was taken for what.

    Of more than 30 classes the 30 with the lowest F1 are shown, and for more than 20 the pairs that were confused
    most often stand in for the matrix.
    """
    sections = [_summary(report), _class_table(report["classes"])]
    if "confusion" in report:
        sections.append(_confusions(report))
    return "\n\n".join("\n".join(section) for section in sections if section)


def _summary(report: Mapping[str, Any]) -> list[str]:
    titles = {name: title for name, title in TITLES.items() if report.get(name) is not None}
    width = 3 + max(map(len, titles.values()))
    return [
        f"{'rows':<{width}}{report['n']}",
        *(f"{title:<{width}}{report[name]:.4f}" for name, title in titles.items()),
    ]


def _class_table(table: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = list(table)
    title = "class"
    if len(rows) > MAX_TABLE_ROWS:
        scored = [row for row in rows if row["f1"] is not None]
        rows = sorted(scored, key=lambda row: float(row["f1"]))[:MAX_TABLE_ROWS]
        title = f"class ({len(rows)} worst of {len(table)})"
    names = [_shown(row["class"]) for row in rows]
    width = max(map(len, [title, *names]))
    keys = [key for key in COLUMNS if key in table[0]]
    lines = [f"{title:<{width}} {'n':>6} " + " ".join(f"{COLUMNS[key]:>9}" for key in keys)]
    for name, row in zip(names, rows, strict=True):
        scores = " ".join(f"{_decimal(row[key]):>9}" for key in keys)
        lines.append(f"{name:<{width}} {row['n']:>6} {scores}")
    return lines


def _confusions(report: Mapping[str, Any]) -> list[str]:
    names = [_shown(row["class"]) for row in report["classes"]]
    if len(names) > MAX_MATRIX_CLASSES:
        return _worst_pairs(np.asarray(report["confusion"]), names)
    cell = max(len(str(len(names))), *(len(str(value)) for row in report["confusion"] for value in row))
    title = "true \\ predicted"
    width = max(map(len, [*names, title]))
    header = " ".join(f"{index:>{cell}}" for index in range(1, len(names) + 1))
    lines = [f"   {title:<{width}} {header}"]
    for index, (name, row) in enumerate(zip(names, report["confusion"], strict=True), 1):
        lines.append(f"{index:>2} {name:<{width}} " + " ".join(f"{value:>{cell}}" for value in row))
    return lines


def _worst_pairs(confusion: NDArray[np.intp], names: Sequence[str]) -> list[str]:
    off = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-off, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [(int(off[pair]), *pair) for pair in zip(*np.unravel_index(order, off.shape), strict=True)]
    lines = [f"{n:>6}  {names[true]} taken for {names[predicted]}" for n, true, predicted in pairs if n]
    return ["most often confused", *lines] if lines else []


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _shown(name: str) -> str:
    """A class's name on one line: what a terminal cannot print is escaped, what is too long is cut."""
    safe = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
    return safe if len(safe) <= NAME_WIDTH else safe[: NAME_WIDTH - 1] + "…"
