"""How good the model is, with intervals: Wilson's for a share of images, the bootstrap's for a mean over classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from featx.heads.metrics import TITLES
from featx.report.decisions import Decisions
from featx.report.plot import INTERVAL, Axis, linear
from featx.report.run import Run
from featx.report.section import Figure, Section, percent, sentence

TITLE = "Accuracy"
LEVEL = 0.95
DRAWS = 2000
"""Of the bootstrap."""
SHARES = ("accuracy", "top5_accuracy", "subset_accuracy")
"""Scores that are a share of the images."""
MEANS = ("balanced_accuracy", "macro_f1")
"""Scores that are means over classes."""


@dataclass(frozen=True)
class Score:
    """A score and its interval, which is None where there is none, and how that was made."""

    name: str
    value: float
    interval: tuple[float, float] | None
    how: str


@dataclass(frozen=True)
class Accuracy:
    """The scores on a common axis, and what naming the most frequent class would be right in."""

    scores: tuple[Score, ...]
    axis: Axis
    majority: str


def make(run: Run) -> Section:
    """Every score that the model has on images that it has not seen."""
    found = run.decisions
    drawn = bootstrap(np.array(found.report["confusion"])) if "confusion" in found.report else {}
    scores = tuple(_score(found.report, name, drawn) for name in TITLES if found.report.get(name) is not None)
    main = scores[0]
    between = f"{percent(main.interval[0])} to {percent(main.interval[1])}" if main.interval else ""
    lead = f"{sentence(main.name)} is {percent(main.value)}" + (f", 95 % interval {between}" if between else "")
    lows = [
        score.interval[0] if score.interval else score.value
        for score in scores
        if score.name != TITLES["calibration_error"]
    ]
    axis = linear("", [min(lows), 1.0], 0, INTERVAL, share=True, count=4)
    data = Accuracy(scores, axis, _majority(found))
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
    true, guess = np.nonzero(confusion)
    counts, rng = confusion[true, guess], np.random.default_rng(seed)
    total, shares = counts.sum(), counts / counts.sum()
    drawn = [_class_means(true, guess, rng.multinomial(total, shares), len(confusion)) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, (50 * (1 - LEVEL), 50 * (1 + LEVEL)), axis=0)
    return dict(zip(MEANS, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _class_means(
    true: NDArray[np.intp], guess: NDArray[np.intp], counts: NDArray[np.int64], classes: int
) -> tuple[float, float]:
    """Mean recall of the classes that have images, and mean F1 of those that have some or are guessed."""
    own, guessed, right = (
        np.bincount(codes, weights=counts * weight, minlength=classes)
        for codes, weight in ((true, 1), (guess, 1), (true, true == guess))
    )
    there, seen = own > 0, own + guessed > 0
    recall, f1 = right[there] / own[there], 2 * right[seen] / (own + guessed)[seen]
    return float(recall.mean()), float(f1.mean())


def _score(report: dict[str, Any], name: str, drawn: dict[str, tuple[float, float]]) -> Score:
    value, n = float(report[name]), int(report["n"])
    if name in SHARES:
        return Score(TITLES[name], value, wilson(round(value * n), n), "Wilson")
    if name in drawn:
        return Score(TITLES[name], value, drawn[name], f"bootstrap, {DRAWS:,} draws")
    return Score(TITLES[name], value, None, "")


def _majority(found: Decisions) -> str:
    share = percent(found.scored.member.mean(axis=0).max())
    if found.model.multilabel:
        return f"The most frequent class is one of those of {share} of these images."
    return f"Always naming the most frequent class would be right in {share} of these images."
