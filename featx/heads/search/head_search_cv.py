"""HeadSearchCV: the cross-validated search as a scikit-learn estimator."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.heads.metrics.scoring import Scoring, default_scoring, make_score
from featx.heads.parallel import count_threads
from featx.heads.pipeline.linear_heads import HEADS, MULTILABEL_HEADS, ClassWeight, make_head
from featx.heads.pipeline.refitting import refit
from featx.heads.search.candidates import Candidate, candidate_params, make_cv_results, select_candidate
from featx.heads.search.cross_validation import cross_validate_sets
from featx.heads.search.feature_sets import Columns
from featx.heads.search.search_folds import draw_seed, make_search_folds
from featx.heads.search.search_space import SearchSpace, make_search_space
from featx.heads.splitting.folds import Fold

DTYPES = (np.float64, np.float32)


class HeadSearchCV(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Choose the head, C and features of a linear classifier by cross-validation.

    It replaces `sklearn.model_selection.GridSearchCV` over LogisticRegression, OneVsRestClassifier(LogisticRegression)
    or LinearSVC. The fits of all folds and classes are solved as one batch of matrix products, which is many times
    faster if there are hundreds of columns or C is large. Each fit is certified by its duality gap, so the scores are
    those that scikit-learn's estimators get on the same folds if they run to convergence. The best candidate is fitted
    on all rows by scikit-learn itself.

    Parameters
    ----------
    heads : sequence of str
        ``linear-svc`` (LinearSVC: squared hinge loss), ``softmax`` (LogisticRegression: multinomial) and
        ``ovr-logistic`` (one LogisticRegression per class). ``softmax`` is left out for multi-label targets.
    Cs : sequence of float, or mapping of head to sequence, optional
        Values of C, the inverse of the strength of the L2 penalty. By default, there are five values per head. They are
        multiplied by a power of ten that fits the variance of the normalized features.
    feature_sets : mapping of name to columns, optional
        Groups of columns to compare. Each is a slice, a list of slices, a list of column numbers or a list of column
        names. By default there is one group, ``all``, with all columns.
    normalize : {"none", "standard", "power"}
        Transformation of the features. ``none``, the default, leaves X as it is: scores and weights are then the same
        as for the plain scikit-learn estimators, and a scaler can precede the search in a pipeline. ``standard`` is
        StandardScaler, fitted on the training rows of each fold. ``power`` is `BlockNormalizer`, for features of a
        network; each slice of a list is a block of its own.
    cv : int, splitter or iterable of (train, test)
        As in GridSearchCV. If it is a number, the folds are stratified and keep ``groups`` together. A class with fewer
        rows or groups than folds is trained on in each fold that does not test it, and a class with one row or group is
        never tested. A warning names such classes.
    n_jobs : int, optional
        Number of threads of the search, and of processes that fit ``ovr-logistic`` on all rows. None is 1, and -1 is
        all cores. Fits with different numbers of threads differ by no more than the tolerance of the solver.
    random_state : int, RandomState instance or None
        Seed of LinearSVC, and of the shuffle of rows before the split into ``cv`` folds. None does not shuffle, so that
        the folds are those of GridSearchCV if there are no groups.
    scoring : str or callable, optional
        One of scikit-learn's scorers. Multi-label targets also allow ``average_precision_macro`` and
        ``average_precision_micro``. The default is ``accuracy``, or ``average_precision_macro`` for multi-label
        targets.
    class_weight : dict, "balanced" or None
        As in scikit-learn. With a dict, ``ovr-logistic`` weights all rows of a class by the entry of that class.
        Multi-label targets take no dict.
    select : {"best", "one-se"}
        ``best`` selects the candidate with the highest mean score. If several have this score, it selects the one with
        the smallest C, then the one with the fewest columns. ``one-se`` is the one-standard-error choice: among the
        candidates whose mean is at most one standard error below the highest, it selects the one with the fewest
        columns, then the one with the smallest C.
    refit : bool
        Fit the best candidate on all rows. Prediction needs this.

    Attributes
    ----------
    best_estimator_ : Pipeline
        The best candidate, fitted on all rows by scikit-learn.
    best_params_ : dict
        ``head``, ``C`` and ``features`` of the best candidate.
    best_score_ : float
        Its mean score.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of arrays (candidates,)
        The columns of GridSearchCV: ``params``, ``param_head``, ``param_C``, ``param_features``, ``mean_test_score``,
        ``std_test_score``, ``rank_test_score``, ``split0_test_score`` and so on, and ``mean_fit_time`` (seconds per
        fold, for fitting and scoring). In addition: ``standard_error`` of the mean, ``n_columns``, and ``duality_gap``
        (the largest of the fits, relative to the objective).
    candidates_ : tuple of Candidate
        The candidates, in the order of ``cv_results_``.
    classes_ : array (classes,)
    n_features_in_ : int
    feature_names_in_ : array of str (columns,)
        Names of the columns, if X is a data frame whose column names are all strings.
    n_splits_ : int
        Number of folds.

    See Also
    --------
    featx.fit : The same search on the features of a store, which saves the model.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx import HeadSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> search = HeadSearchCV(heads=("softmax",), Cs=[0.001, 0.01, 0.1]).fit(X, y)
    >>> search.best_params_
    {'head': 'softmax', 'C': 0.01, 'features': 'all'}
    """

    def __init__(
        self,
        heads: Sequence[str] = tuple(HEADS),
        Cs: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
        feature_sets: Mapping[str, Columns] | None = None,
        *,
        normalize: str = "none",
        cv: int | BaseCrossValidator | Iterable[Fold] = 5,
        n_jobs: int | None = None,
        random_state: Any = None,
        scoring: Scoring | None = None,
        class_weight: ClassWeight = None,
        select: str = "best",
        refit: bool = True,
    ) -> None:
        self.heads = heads
        self.Cs = Cs
        self.feature_sets = feature_sets
        self.normalize = normalize
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.scoring = scoring
        self.class_weight = class_weight
        self.select = select
        self.refit = refit

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "HeadSearchCV":
        """Cross-validate all candidates, and fit the best one on all rows.

        Parameters
        ----------
        X : float array or data frame (rows, columns)
        y : array (rows,), or int or bool array (rows, classes)
            Labels of any type, or a multi-label indicator of 0 and 1.
        groups : array (rows,), optional
            All rows of a group are on the same side of every fold. A splitter given as ``cv`` receives the groups.
        sample_weight : float array (rows,), optional
            Weight of each row in the fits, 0 or more. Scores are not weighted, as in GridSearchCV.

        Returns
        -------
        HeadSearchCV
            The estimator itself.

        Raises
        ------
        SpecError
            If a parameter is out of range.
        DataError
            If rows, labels or groups do not allow the folds, or the scorer does not suit them.
        """
        values, labels = validate_data(self, X, y, dtype=DTYPES, multi_output=True, ensure_min_samples=2)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = column_or_1d(labels, warn=True)
        if labels.ndim == 1:
            check_classification_targets(labels)
        space = make_search_space(self, values, labels, sample_weight)
        seed = draw_seed(self.random_state)
        folds = make_search_folds(self.cv, space.problem, groups, seed)
        threads = count_threads(self.n_jobs)
        self.candidates_ = tuple(cross_validate_sets(space.problem, space.sets, space.grids, folds, jobs=threads))
        self.n_splits_ = len(folds)
        best = select_candidate(self.candidates_, self.select)
        self.best_index_ = self.candidates_.index(best)
        self.best_params_ = candidate_params(best)
        self.best_score_ = best.mean
        self.cv_results_ = make_cv_results(self.candidates_)
        self.classes_ = space.problem.classes
        if self.refit:
            weights = None if sample_weight is None else space.problem.sample_weight
            self.best_estimator_ = self._refit(X, space, best, weights, seed)
        return self

    @property
    def best_candidate_(self) -> Candidate:
        """The best candidate, with its scores."""
        check_is_fitted(self, "candidates_")
        best: Candidate = self.candidates_[self.best_index_]
        return best

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label of each row, or a multi-label indicator (rows, classes), by ``best_estimator_``."""
        pipeline, values = self._check_fitted(X)
        return np.asarray(pipeline.predict(values))

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return the decisions of ``best_estimator_``: (rows, classes), or (rows,) for two classes."""
        pipeline, values = self._check_fitted(X)
        return np.asarray(pipeline.decision_function(values))

    @available_if(lambda self: self._has_probabilities())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probabilities (rows, classes) of ``best_estimator_``. ``linear-svc`` has none."""
        pipeline, values = self._check_fitted(X)
        return np.asarray(pipeline.predict_proba(values))

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the score of ``best_estimator_`` on rows X with labels y, by ``scoring``."""
        decisions = self.decision_function(X)
        labels = np.asarray(y)
        score = make_score(self.scoring or default_scoring(labels))
        return score(self.best_params_["head"], decisions.reshape(len(decisions), -1), labels, self.classes_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "candidates_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = any(head in self.heads for head in MULTILABEL_HEADS)
        return tags

    def _has_probabilities(self) -> bool:
        if hasattr(self, "best_estimator_"):
            return hasattr(self.best_estimator_, "predict_proba")
        return "linear-svc" not in self.heads

    def _check_fitted(self, X: ArrayLike) -> tuple[Pipeline, NDArray[Any]]:
        """Return normalizer and head of the best estimator, and the columns of X that they take."""
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("HeadSearchCV was fitted with refit=False and cannot predict; fit it with refit=True")
        values = validate_data(self, X, dtype=DTYPES, reset=False)
        selector = self.best_estimator_.named_steps.get("columns")
        if selector is None:
            return self.best_estimator_, values
        return self.best_estimator_[1:], values[:, selector.transformers_[0][2]]

    def _refit(
        self, X: ArrayLike, space: SearchSpace, best: Candidate, weights: NDArray[Any] | None, seed: int | None
    ) -> Pipeline:
        """Return the best candidate, fitted by scikit-learn on all rows."""
        problem = space.problem
        chosen = next(item for item in space.sets if item.name == best.feature_set)
        class_weight = self.class_weight
        if isinstance(class_weight, Mapping) and best.head == "ovr-logistic":
            # OneVsRestClassifier does not know the names of classes, so class weights become sample weights.
            factors = np.array([class_weight.get(label, 1.0) for label in problem.classes.tolist()])
            class_weight, weights = None, problem.sample_weight * factors[problem.codes]
        pipeline = make_head(
            best.head,
            best.C,
            normalize=self.normalize,
            widths=chosen.widths or "auto",
            class_weight=class_weight,
            random_state=seed or 0,
            multilabel=problem.multilabel,
        )
        jobs = count_threads(self.n_jobs)
        refit(pipeline, chosen.select(problem.X), problem.y, sample_weight=weights, jobs=jobs)
        if chosen.columns == problem.X.shape[1] and len(chosen.ranges) == 1 and not hasattr(self, "feature_names_in_"):
            return pipeline
        columns = [column for start, stop in chosen.ranges for column in range(start, stop)]
        selector = ColumnTransformer([(chosen.name, "passthrough", columns)]).fit(X)
        return Pipeline([("columns", selector), *pipeline.steps])
