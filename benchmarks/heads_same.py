"""Check on Flowers-17 that a head search finds the same fits as scikit-learn, for all problems of its grid.

    python benchmarks/heads_same.py FLOWERS17 WORK

scikit-learn runs with tol = 1e-8 in float64. The problems are four values of C × five folds (× 17 classes for heads
that fit each class separately), with 1,280 and with 25,088 columns. The script prints one line per head and data
set: the largest relative difference of an objective, the largest difference of a mean over folds, and the best C of
featx and of scikit-learn.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from heads import flowers_data
from joblib import Parallel, delayed
from reporting import say
from scipy.special import logsumexp
from sklearn.base import BaseEstimator

from featx.heads import HEADS, fit_path, make_head, make_principal_axes, penalizes_intercept

OBJECTIVES, POINTS = 1e-4, 0.3
"""The largest allowed relative difference of objectives, and difference of means in percentage points."""


def exact(head: str, C: float) -> BaseEstimator:
    """Make the estimator of scikit-learn for a head, with a tolerance near zero."""
    pipeline, to_the_end = make_head(head, C, normalize="none"), {"tol": 1e-8, "max_iter": 1_000_000}
    pipeline.set_params(**{name: to_the_end[last] for name in pipeline.get_params()
                           if (last := name.rpartition("__")[2]) in to_the_end})  # fmt: skip
    return pipeline.named_steps["head"]


def objectives(head: str, C: float, fitted: Any, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Compute the objective of scikit-learn for each problem, at the weights that it found."""
    parts = fitted.estimators_ if head == "ovr-logistic" else [fitted]
    W, b = np.vstack([part.coef_ for part in parts]), np.concatenate([part.intercept_ for part in parts])
    Z, norms = X @ W.T + b, (W**2).sum(axis=1)
    if head == "softmax":
        losses = logsumexp(Z, axis=1) - Z[np.arange(len(Z)), codes]
        return np.array([C * losses.sum() + norms.sum() / 2])
    margins = np.where(codes[:, np.newaxis] == np.arange(len(W)), Z, -Z)
    if head == "linear-svc":
        return C * (np.maximum(1 - margins, 0) ** 2).sum(axis=0) + (norms + b**2) / 2
    return C * np.logaddexp(0, -margins).sum(axis=0) + norms / 2


def by_sklearn(head: str, C: float, X: np.ndarray, codes: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit with scikit-learn, and return the objectives and the accuracy on the held-out rows."""
    fitted = exact(head, C).fit(X[~test], codes[~test])
    return objectives(head, C, fitted, X[~test], codes[~test]), float(fitted.score(X[test], codes[test]))


def compare(path: Path, head: str) -> str:
    """Compare the fits of one head on a file of `heads.flowers_data`, and describe the result in one line."""
    data = np.load(path)
    X, folds, Cs = data["X"][data["train"]], data["folds"], data[f"Cs_{head}"].tolist()
    codes, tests = np.unique(data["y"][data["train"]], return_inverse=True)[1], [folds == fold for fold in range(5)]
    held_in = np.array([~test for test in tests], float)
    fits = list(fit_path(make_principal_axes(X, penalizes_intercept(head)), codes, held_in, Cs, head, codes.max() + 1))
    ours = np.array([fit.objective for fit in fits])
    right = [[(fit.decisions[fold].argmax(0) == codes)[test].mean() for fold, test in enumerate(tests)] for fit in fits]
    tasks = (delayed(by_sklearn)(head, C, X.astype(float), codes, test) for C in Cs for test in tests)
    found = Parallel(-1)(tasks)
    theirs = np.array([values for values, _ in found]).reshape(ours.shape)
    means, theirs_means = np.mean(right, axis=1), np.array([score for _, score in found]).reshape(len(Cs), 5).mean(1)
    apart, points = ours / theirs - 1, 100 * np.abs(means - theirs_means)
    ties = theirs_means.max() - theirs_means[means.argmax()] <= POINTS / 100
    holds = np.abs(apart).max() <= OBJECTIVES and points.max() <= POINTS and ties
    return (
        f"{path.stem} {head}: {ours.size} problems, objectives differ by {apart.min():+.1e} to {apart.max():+.1e}, "
        f"means by at most {points.max():.2f} points, C = {Cs[means.argmax()]:g} and {Cs[theirs_means.argmax()]:g}: "
        f"{'holds' if holds else 'FAILS'}"
    )


def main() -> None:
    """Compare every head on both data sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of Flowers-17, with jpg/ and splits.csv")
    parser.add_argument("work", type=Path, help="folder for stores and data")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for blocks, pool in (((3, 4, 5), "avg"), ((5,), "flat")):
        data = flowers_data(options.flowers, options.work, f"{pool}-power", "power", blocks, pool)
        for head in HEADS:
            say(compare(data, head))


if __name__ == "__main__":
    main()
