"""How good the model is, with intervals: Wilson's for a share of images, the bootstrap's for a mean over classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from featx.heads.metrics import TITLES
from featx.report.decisions import Decisions
from featx.report.plot import Axis, linear
from featx.report.run import Run
from featx.report.section import Figure, Section, percent, sentence

TITLE = "Accuracy"
LEVEL = 0.95
DRAWS = 2000
"""Of the bootstrap."""
SHARES = ("accuracy", "top5_accuracy", "subset_accuracy")
"""Scores that are a share of the images."""
WIDTH = 150
"""Of the axis, in the units of its SVG."""


@dataclass(frozen=True)
class Score:
    """A score and its interval, which is None where there is none, and how that was made."""

    name: str
    value: float
    interval: tuple[float, float] | None
    how: str


@dataclass(frozen=True)
class Accuracy:
    """The scores on ``how`` many images, on a common axis; the share that guessing would get right."""

    scores: tuple[Score, ...]
    how: str
    axis: Axis
    majority: float


def make(run: Run) -> Section:
    """Every score that the model has on images that it has not seen."""
    found = run.decisions
    scores = tuple(_score(found, name) for name in TITLES if found.report.get(name) is not None)
    main = scores[0]
    between = f"{percent(main.interval[0])} to {percent(main.interval[1])}" if main.interval else ""
    lead = f"{sentence(main.name)} is {percent(main.value)}" + (f", 95 % interval {between}" if between else "")
    lows = [
        score.interval[0] if score.interval else score.value for score in scores if score.name != "calibration error"
    ]
    axis = linear("", [min(lows), 1.0], 0, WIDTH, share=True, count=4)
    data = Accuracy(scores, found.how, axis, _majority(found))
    figure = Figure(sentence(main.name), percent(main.value), between)
    return Section("accuracy", TITLE, f"{lead}, on {found.how}.", data, figure=figure)


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927), which stays within 0 and 1 and is fair for few images."""
    found = binomtest(right, count).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def bootstrap(confusion: NDArray[np.intp], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Percentile intervals of balanced accuracy and macro F1: images drawn anew, with replacement.

    Parameters
    ----------
    confusion : int array (classes, classes)
        Counts, a row a true class. Drawing images is drawing its cells.
    """
    rows, columns = np.nonzero(confusion)
    counts, classes = confusion[rows, columns], len(confusion)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), DRAWS)
    own, guessed = (drawn @ np.eye(classes)[axis] for axis in (rows, columns))
    right = drawn @ (np.eye(classes)[rows] * (rows == columns)[:, np.newaxis])
    with np.errstate(invalid="ignore"):
        recall, f1 = right / own, 2 * right / (own + guessed)
    ends = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    means = {"balanced_accuracy": np.nanmean(recall, axis=1), "macro_f1": np.nanmean(f1, axis=1)}
    return {name: tuple(np.percentile(values, ends).tolist()) for name, values in means.items()}


def _score(found: Decisions, name: str) -> Score:
    value, n = float(found.report[name]), int(found.report["n"])
    if name in SHARES:
        return Score(TITLES[name], value, wilson(round(value * n), n), "Wilson")
    if name in ("balanced_accuracy", "macro_f1") and "confusion" in found.report:
        return Score(TITLES[name], value, _drawn(found)[name], f"bootstrap, {DRAWS:,} draws")
    return Score(TITLES[name], value, None, "")


def _drawn(found: Decisions) -> dict[str, Any]:
    return bootstrap(np.array(found.report["confusion"]))


def _majority(found: Decisions) -> float:
    return float(found.scored.member.mean(axis=0).max())
