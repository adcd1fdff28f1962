"""Candidates of a search with their scores, and the selection of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from featx.errors import SpecError

SELECT = ("best", "one-se")
TIE = 1e-9
"""Mean scores that differ by no more than this count as equal, because the difference is rounding."""


@dataclass(frozen=True)
class Candidate:
    """One combination of head, C and feature set, with its cross-validated scores.

    Parameters
    ----------
    head : str
    C : float
    rank : int
        Position of C in the grid of the head. 0 is the smallest C.
    feature_set : str
    columns : int
        Number of columns of the feature set.
    mean, standard_error : float
        Mean of the scores, and its standard error. For k-fold cross-validation, the standard error is the standard
        deviation of the scores divided by √k. Repeats use the same rows again, so they do not reduce it.
    scores : tuple of float
        One score per fold.
    gradient_norm, gap : float
        Largest norm of the gradient and largest duality gap over all folds and classes. The gap is relative to the
        objective.
    seconds : float
        Time spent on solving and scoring. It is 0 for a candidate from a saved model, because models do not store it.
    """

    head: str
    C: float
    rank: int
    feature_set: str
    columns: int
    mean: float
    standard_error: float
    scores: tuple[float, ...]
    gradient_norm: float
    gap: float
    seconds: float = 0.0


def select_candidate(candidates: Sequence[Candidate], select: str) -> Candidate:
    """Return the best candidate, or the simplest one that is not clearly worse.

    Parameters
    ----------
    candidates : sequence of Candidate
    select : {"best", "one-se"}
        ``best`` selects the candidate with the highest mean score. If several have this score, it selects the one with
        the lowest ``rank``, then the one with the fewest columns. ``one-se`` is the one-standard-error choice: among
        the candidates whose mean is at most one standard error below the highest, it selects the one with the fewest
        columns, then the one with the lowest ``rank``.

    Raises
    ------
    SpecError
        If ``select`` is neither of these.
    """
    if select not in SELECT:
        raise SpecError(f"select must be one of {', '.join(SELECT)}, got {select!r}")
    highest = max(candidates, key=lambda candidate: candidate.mean)
    if select == "best":
        tied = [candidate for candidate in candidates if candidate.mean >= highest.mean - TIE]
        return min(tied, key=lambda candidate: (candidate.rank, candidate.columns))
    lowest = highest.mean - highest.standard_error - TIE
    near = [candidate for candidate in candidates if candidate.mean >= lowest]
    return min(near, key=lambda candidate: (candidate.columns, candidate.rank, -candidate.mean))


def candidate_params(candidate: Candidate) -> dict[str, Any]:
    """Return head, C and features of a candidate, as a row of ``params`` in ``cv_results_``."""
    return {"head": candidate.head, "C": candidate.C, "features": candidate.feature_set}


def make_cv_results(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the candidates as columns, with the names that GridSearchCV uses in ``cv_results_``."""
    scores = np.array([candidate.scores for candidate in candidates])
    means = np.array([candidate.mean for candidate in candidates])
    params = [candidate_params(candidate) for candidate in candidates]
    return {
        "mean_fit_time": np.array([candidate.seconds / scores.shape[1] for candidate in candidates]),
        "param_head": np.ma.array([item["head"] for item in params], dtype=object),
        "param_C": np.ma.array([item["C"] for item in params], dtype=np.float64),
        "param_features": np.ma.array([item["features"] for item in params], dtype=object),
        "params": params,
        **{f"split{fold}_test_score": scores[:, fold] for fold in range(scores.shape[1])},
        "mean_test_score": means,
        "std_test_score": scores.std(axis=1),
        "rank_test_score": rankdata(-means, method="min").astype(np.int32),
        "standard_error": np.array([candidate.standard_error for candidate in candidates]),
        "n_columns": np.array([candidate.columns for candidate in candidates]),
        "duality_gap": np.array([candidate.gap for candidate in candidates]),
    }
