"""Notice if a solver stops before it has found the best weights, and describe this in one line."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from featx.errors import FeatxWarning
from featx.runtime import pluralize

ATTRIBUTE = "not_converged_"


class HeadNotConverged(FeatxWarning, ConvergenceWarning):  # type: ignore[misc]
    """The solver of a head stopped before it had found the best weights."""


class NotingConvergence:
    """Mixin of a linear classifier of scikit-learn whose ``fit`` sets ``stopped_`` instead of a ConvergenceWarning."""

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Any:
        """Fit the classifier."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().fit(X, y, sample_weight)  # type: ignore[misc]
        self.stopped_ = any(issubclass(one.category, ConvergenceWarning) for one in caught)
        for one in caught:
            if not issubclass(one.category, ConvergenceWarning):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        return self


class _LinearSVC(NotingConvergence, LinearSVC):  # type: ignore[misc]
    pass


class _LogisticRegression(NotingConvergence, LogisticRegression):  # type: ignore[misc]
    pass


NOTING: dict[type, type] = {LinearSVC: _LinearSVC, LogisticRegression: _LogisticRegression}


@contextmanager
def note_convergence(pipeline: Pipeline) -> Iterator[None]:
    """Collect the warnings of a pipeline's solvers for `not_converged` while the ``with`` block fits the pipeline.

    The pipeline must be from `make_head`. This also works if the solvers run in other processes, whose warnings would
    be lost. Afterwards, all parts of the pipeline have the types of scikit-learn again.
    """
    head = pipeline.named_steps["head"]
    one_vs_rest = isinstance(head, OneVsRestClassifier)
    inner = head.estimator if one_vs_rest else head
    plain = type(inner)
    set_not_converged(pipeline, None)
    inner.__class__ = NOTING[plain]
    try:
        yield
    finally:
        inner.__class__ = plain
        # If all rows have a class, or none has it, OneVsRestClassifier fits a constant, which has no solver.
        parts = getattr(head, "estimators_", ()) if one_vs_rest else [head]
        found = [part for part in parts if hasattr(part, "stopped_")]
        for part in found:
            part.__class__ = plain
        stopped = [part for part in found if part.__dict__.pop("stopped_", False)]
    if stopped:
        name = "linear-svc" if plain is LinearSVC else "ovr-logistic" if one_vs_rest else "softmax"
        iterations = max(int(np.max(part.n_iter_)) for part in stopped)
        classes = f" for {len(stopped)} of {len(found)} classes" if len(found) > 1 else ""
        normalized = pipeline.named_steps["normalizer"] != "passthrough"
        text = describe_stop(name, inner.C, iterations, classes, normalized=normalized)
        set_not_converged(pipeline, text)


def describe_stop(head: str, C: float, iterations: int, classes: str = "", *, normalized: bool) -> str:
    """Say in one line that a fit did not converge, and what to change."""
    other = "" if normalized else ", or normalize the features"
    return (
        f"{head} with C = {C:g} did not converge in {pluralize(iterations, 'iteration')}{classes}, so its weights are "
        f"only approximate; give a smaller C{other}"
    )


def set_not_converged(pipeline: Pipeline, text: str | None) -> None:
    """Store in a fitted pipeline how its fit did not converge; None means that it converged."""
    setattr(pipeline, ATTRIBUTE, text)


def not_converged(pipeline: Pipeline) -> str | None:
    """Return one line about the fit of a pipeline that did not converge, or None if the fit converged."""
    text: str | None = getattr(pipeline, ATTRIBUTE, None)
    return text


def warn_not_converged(text: str | None, stacklevel: int = 3) -> None:
    """Warn that a fit did not converge, if there is a text from `describe_stop`."""
    if text:
        warnings.warn(text, HeadNotConverged, stacklevel=stacklevel)
