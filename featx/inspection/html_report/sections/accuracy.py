"""How good the model is, with intervals: Wilson's for a share of images, the bootstrap's for a mean over classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from featx.heads import TITLES
from featx.inspection.html_report.decisions import Decisions
from featx.inspection.html_report.plot import INTERVAL, Axis, linear
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Figure, Section, percent, sentence

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
    """A score and its interval, which is None where there is none, and how that was made.

    There is none for decisions on the folds that chose the model either: it knows nothing of the choice.
    """

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
    scores = tuple(_score(found, name, drawn) for name in TITLES if found.report.get(name) is not None)
    lows = [
        score.interval[0] if score.interval else score.value
        for score in scores
        if score.name != TITLES["calibration_error"]
    ]
    axis = linear("", [min(lows), 1.0], 0, INTERVAL, share=True, count=4)
    data = Accuracy(scores, axis, _majority(found))
    lead, figure = _flattered(found, scores[0]) if found.flattered else _fair(found, scores[0])
    return Section("accuracy", TITLE, lead, data, figure=figure)


def _fair(found: Decisions, main: Score) -> tuple[str, Figure]:
    """The finding in a sentence, and the figure of the page's head."""
    between = f"{percent(main.interval[0])} to {percent(main.interval[1])}" if main.interval else ""
    interval = f", 95 % interval {between}" if between else ""
    lead = f"{sentence(main.name)} is {percent(main.value)}{interval}, on {found.how}."
    return lead, Figure(sentence(main.name), percent(main.value), between)


def _flattered(found: Decisions, main: Score) -> tuple[str, Figure]:
    """The same of a model that these folds chose: what nested cross-validation found, if it was asked."""
    where = f"on {found.how}, but on the folds that chose the best of {found.candidates:,} candidates"
    info = found.model.info
    if "nested" not in info:
        lead = (
            f"{sentence(main.name)} is {percent(main.value)}, {where}, so that it flatters. For a score that does not, "
            "fit with --nested or --test-size."
        )
        return lead, Figure(sentence(main.name), percent(main.value), f"flattered: best of {found.candidates:,}")
    scoring = info["search"]["scoring"]
    # The scorers of scikit-learn that are no share of anything are losses.
    value, error = (
        f"{info['nested'][name]:.4f}" if scoring.startswith("neg_") else percent(info["nested"][name])
        for name in ("mean", "standard_error")
    )
    name = sentence(scoring.replace("_", " "))
    lead = (
        f"{name} is {value} by nested cross-validation, standard error {error}. The scores here are {where}, so that "
        "they flatter."
    )
    return lead, Figure(name, value, f"nested, standard error {error}")


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


def _score(found: Decisions, name: str, drawn: dict[str, tuple[float, float]]) -> Score:
    value, n = float(found.report[name]), int(found.report["n"])
    if found.flattered:
        return Score(TITLES[name], value, None, "")
    if name in SHARES:
        return Score(TITLES[name], value, wilson(round(value * n), n), "Wilson")
    if name in drawn:
        return Score(TITLES[name], value, drawn[name], f"bootstrap, {DRAWS:,} draws")
    return Score(TITLES[name], value, None, "")


def _majority(found: Decisions) -> str:
    share = percent(found.scored.targets.mean(axis=0).max())
    if found.model.multilabel:
        return f"The most frequent class is one of those of {share} of these images."
    return f"Always naming the most frequent class would be right in {share} of these images."
