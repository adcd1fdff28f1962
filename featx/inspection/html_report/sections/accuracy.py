"""Make the section on accuracy. Shares get Wilson's intervals, means over classes get bootstrap intervals."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from featx.heads import SCORE_TITLES
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Headline, Section, percent, sentence
from featx.inspection.html_report.unseen import UnseenDecisions
from featx.runtime import pluralize, shorten_list

LEVEL = 0.95
"""Confidence level of all intervals."""
DRAWS = 2000
"""Bootstrap samples."""
SHARES = ("accuracy", "top5_accuracy", "subset_accuracy")
"""Scores that are a share of the images."""
MEANS = ("balanced_accuracy", "macro_f1")
"""Scores that are means over classes."""


@dataclass(frozen=True)
class ScoreRow:
    """A score with its confidence interval and the method of the interval.

    The interval is None for scores that are neither shares nor means over classes. It is also None for optimistic
    scores, because it would ignore the selection of the model.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    method: str


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a model.

    ``start`` is the value at which the axis of their intervals starts, ``majority`` is a sentence on the most frequent
    class, and ``notes`` are reasons to doubt the scores.
    """

    scores: tuple[ScoreRow, ...]
    start: float
    majority: str
    notes: tuple[str, ...]


def make_accuracy(context: ReportContext) -> Section:
    """List every score of the model on images that it was not fitted on."""
    decisions = context.decisions
    bootstrapped = bootstrap(np.array(decisions.report["confusion"])) if "confusion" in decisions.report else {}
    scores = tuple(
        _score_row(decisions, name, bootstrapped) for name in SCORE_TITLES if decisions.report.get(name) is not None
    )
    lowest = min([1.0, *(score.interval[0] for score in scores if score.interval)])
    start = min(0.9, math.floor(10 * lowest) / 10)
    lead, headline = (_optimistic if decisions.optimistic else _unbiased)(decisions, scores[0])
    table = ScoreTable(scores, start, _majority(decisions), _list_doubts(decisions.model.info))
    return Section(lead, table, headline=headline)


def _list_doubts(info: dict[str, Any]) -> tuple[str, ...]:
    """List reasons to doubt the scores: near-duplicates in other folds, and classes that no fold tests."""
    doubts = []
    if found := info.get("near_duplicates"):
        doubts.append(
            f"{found['images']:,} of {pluralize(found['of'], 'training image')} have near-duplicates in other folds, "
            "so scores may be too high; fit with --group-near-duplicates keeps them together"
        )
    if untested := info.get("rare_classes", {}).get("never_tested"):
        doubts.append(f"no fold tests a class with one image or group: {shorten_list(untested)}")
    return tuple(doubts)


def _unbiased(decisions: UnseenDecisions, main: ScoreRow) -> tuple[str, Headline]:
    """Return lead and headline for held-out images, or for a model that was the only candidate."""
    between = f"{percent(main.interval[0])} to {percent(main.interval[1])}" if main.interval else ""
    interval = f" (95 % interval {between})" if between else ""
    lead = f"{sentence(main.name)} is {percent(main.value)}{interval}, {decisions.how}."
    return lead, Headline(sentence(main.name), percent(main.value), between)


def _optimistic(decisions: UnseenDecisions, main: ScoreRow) -> tuple[str, Headline]:
    """Return lead and headline for a model selected by the same folds, with the nested estimate if there is one."""
    info = decisions.model.info
    why = f"The same folds selected this model among {decisions.candidates:,} candidates, so "
    if "nested" not in info:
        lead = (
            f"{sentence(main.name)} is {percent(main.value)} {decisions.how}. {why}this score is optimistic; for an "
            "unbiased one, fit with --nested or --test-size."
        )
        return lead, Headline(sentence(main.name), percent(main.value), f"optimistic: best of {decisions.candidates:,}")
    scoring = info["search"]["scoring"]
    # scikit-learn's scorers with names neg_… return losses. These are not shares.
    value, error = (
        f"{info['nested'][name]:.4f}" if scoring.startswith("neg_") else percent(info["nested"][name])
        for name in ("mean", "standard_error")
    )
    name = sentence(scoring.replace("_", " "))
    lead = (
        f"{name} is {value} by nested cross-validation (standard error {error}). The scores below are {decisions.how}. "
        f"{why}they are optimistic."
    )
    return lead, Headline(name, value, f"nested, standard error {error}")


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (Wilson 1927). It stays within 0 and 1 and suits small counts."""
    found = binomtest(correct, count).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def bootstrap(confusion: NDArray[np.intp], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of balanced accuracy and macro F1 from images drawn with replacement.

    Parameters
    ----------
    confusion : int array (classes, classes)
        Counts, one row per true class. Drawing images is the same as drawing cells of this matrix.
    seed : int

    Returns
    -------
    dict of str to (float, float)
        Low and high end by name of the score.
    """
    true, predicted = np.nonzero(confusion)
    counts, rng = confusion[true, predicted], np.random.default_rng(seed)
    total, shares = counts.sum(), counts / counts.sum()
    samples = [_class_means(true, predicted, rng.multinomial(total, shares), len(confusion)) for _ in range(DRAWS)]
    low, high = np.percentile(samples, (50 * (1 - LEVEL), 50 * (1 + LEVEL)), axis=0)
    return dict(zip(MEANS, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _class_means(
    true: NDArray[np.intp], predicted: NDArray[np.intp], counts: NDArray[np.int64], classes: int
) -> tuple[float, float]:
    """Return mean recall over classes with images, and mean F1 over classes with images or predictions."""
    support, guessed, correct = (
        np.bincount(codes, weights=counts * weight, minlength=classes)
        for codes, weight in ((true, 1), (predicted, 1), (true, true == predicted))
    )
    present, seen = support > 0, support + guessed > 0
    recall, f1 = correct[present] / support[present], 2 * correct[seen] / (support + guessed)[seen]
    return float(recall.mean()), float(f1.mean())


def _score_row(decisions: UnseenDecisions, name: str, bootstrapped: dict[str, tuple[float, float]]) -> ScoreRow:
    value, count = float(decisions.report[name]), int(decisions.report["n"])
    if not decisions.optimistic and name in SHARES:
        return ScoreRow(SCORE_TITLES[name], value, wilson(round(value * count), count), "Wilson")
    if not decisions.optimistic and name in bootstrapped:
        return ScoreRow(SCORE_TITLES[name], value, bootstrapped[name], f"bootstrap, {DRAWS:,} samples")
    return ScoreRow(SCORE_TITLES[name], value, None, "")


def _majority(decisions: UnseenDecisions) -> str:
    share = percent(decisions.scored.targets.mean(axis=0).max())
    if decisions.model.multilabel:
        return f"The most frequent class is among the labels of {share} of these images."
    return f"Always predicting the most frequent class would be correct for {share} of these images."
