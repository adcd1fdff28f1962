"""Heads on multi-label targets: solver, search, folds and scores agree with scikit-learn."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from featx.errors import DataError, SpecError
from featx.heads.metrics.multilabel import average_precision, multilabel_report
from featx.heads.metrics.report_text import format_report
from featx.heads.pipeline.linear_heads import (
    HEADS,
    MULTILABEL_HEADS,
    from_linear_parts,
    is_multilabel,
    linear_parts,
    make_head,
)
from featx.heads.pipeline.refitting import refit
from featx.heads.search.candidates import select_candidate
from featx.heads.search.cross_validation import cross_validate_sets
from featx.heads.search.feature_sets import block_feature_sets, make_feature_sets
from featx.heads.search.grids import make_grids
from featx.heads.search.head_search_cv import HeadSearchCV
from featx.heads.search.nested_cv import nested_cross_validate
from featx.heads.search.problem import make_problem
from featx.heads.solver.batch import fit_batch
from featx.heads.solver.row_weights import row_weights
from featx.heads.splitting.folds import make_folds
from featx.heads.splitting.holdout import hold_out
from featx.heads.splitting.stratification import stratify_multilabel

pytestmark = pytest.mark.core

ALL = {"all": [slice(0, 4), slice(4, 12)]}
SETS = block_feature_sets({"block1_avg": slice(0, 4), "block2_avg": slice(4, 12)})


def make_rows(n=90, classes=3, seed=0):
    """Return features and a random multi-label indicator, in which some rows have no label."""
    rng = np.random.default_rng(seed)
    Y = rng.random((n, classes)) < 0.4
    X = np.abs(Y @ rng.normal(size=(classes, 12)) + rng.normal(size=(n, 12)))
    return X, Y.astype(int)


def search(X, y, sets=SETS, heads=tuple(HEADS), Cs=None, folds=3, **options):
    problem = make_problem(X, y, **options)
    grids, splits = make_grids(heads, Cs, problem.multilabel), make_folds(problem.y, n_splits=folds)
    return cross_validate_sets(problem, make_feature_sets(sets, X.shape[1]), grids, splits, jobs=1)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", MULTILABEL_HEADS)
def test_the_solver_equals_sklearn(head, classes, class_weight):
    X, Y = make_rows(classes=classes)
    kind = LinearSVC if head == "linear-svc" else LogisticRegression
    expected = OneVsRestClassifier(kind(C=2.0, tol=1e-10, max_iter=100_000, class_weight=class_weight)).fit(X, Y)
    weights = row_weights(Y > 0, np.ones((1, len(X))), head, classes, class_weight)
    fit = fit_batch(X, Y > 0, weights, [2.0], head, classes, tol=1e-10)
    assert fit.converged.all()
    for row, estimator in enumerate(expected.estimators_):
        np.testing.assert_allclose(fit.coefs[0, 0, row], estimator.coef_[0], atol=1e-4)
        np.testing.assert_allclose(fit.intercepts[0, 0, row], estimator.intercept_[0], atol=1e-4)


@pytest.mark.parametrize("scoring", [None, "average_precision", "f1_macro", "accuracy", "roc_auc"])
@pytest.mark.parametrize("head", MULTILABEL_HEADS)
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_equal_those_of_sklearn(head, classes, scoring):
    X, Y = make_rows(classes=classes)
    (found,) = search(X, Y, ALL, [head], [0.3], tol=1e-9, scoring=scoring)
    pipeline = make_head(head, 0.3, widths=(4, 8), multilabel=True).set_params(head__estimator__tol=1e-8)
    expected = cross_val_score(pipeline, X, Y, cv=make_folds(Y, n_splits=3), scoring=scoring or "average_precision")
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one")
def test_probabilities_equal_those_of_sklearn():
    X, Y = make_rows()
    (found,) = search(X, Y, ALL, ["ovr-logistic"], [1.0], tol=1e-9, scoring="neg_brier_score")
    pipeline = make_head("ovr-logistic", widths=(4, 8), multilabel=True).set_params(head__estimator__tol=1e-8)
    expected = cross_val_score(pipeline, X, Y, cv=make_folds(Y, n_splits=3), scoring="neg_brier_score")
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)


def test_all_multilabel_heads_are_searched():
    X, Y = make_rows()
    found = search(X, Y, Cs=[1.0], scoring="average_precision_micro")
    assert {candidate.head for candidate in found} == set(MULTILABEL_HEADS)
    estimator = HeadSearchCV(Cs=[1.0], feature_sets=SETS, normalize="power", random_state=0)
    assert 0.3 < nested_cross_validate(estimator, X, Y, folds=2, outer=3).mean < 1
    weighted = search(X, Y, Cs=[1.0], sample_weight=np.arange(1.0, 91))
    assert select_candidate(weighted, "best").scores != select_candidate(found, "best").scores


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"heads": ["softmax"]}, SpecError, "heads for multi-label targets must be among .*, got softmax"),
        ({"class_weight": {0: 2.0}}, SpecError, "class_weight of multi-label targets must be 'balanced' or None"),
        ({"y": np.full((90, 3), 2)}, DataError, "must be an indicator of 0 and 1"),
        ({"scoring": "balanced_accuracy"}, DataError, "scoring balanced_accuracy cannot score"),
        ({"sample_weight": np.ones((90, 3))}, DataError, "sample_weight must be 90 numbers that are 0 or more"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    X, Y = make_rows()
    with pytest.raises(error, match=message):
        search(X, **{"y": Y, **options})


def test_softmax_and_dicts_of_class_weights_are_refused():
    X, Y = make_rows()
    with pytest.raises(SpecError, match="softmax cannot be fitted to multi-label targets"):
        fit_batch(X, Y > 0, np.ones((1, 90)), [1.0], "softmax", 3)
    with pytest.raises(SpecError, match=r"head for multi-label targets must be one of .*, got 'softmax'"):
        make_head("softmax", multilabel=True)
    with pytest.raises(SpecError, match="must be 'balanced', None or a dict with keys 0 and 1"):
        make_head("linear-svc", multilabel=True, class_weight={"ant": 2.0})
    with pytest.raises(SpecError, match="class_weight of linear-svc must be 'balanced' or None"):
        row_weights(Y > 0, np.ones((1, 90)), "linear-svc", 3, {0: 2.0})


def test_average_precision_needs_multilabel_targets():
    X, _ = make_rows()
    with pytest.raises(DataError, match="macro average precision needs multi-label targets"):
        search(X, np.arange(90) % 3, scoring="average_precision_macro")


@pytest.mark.parametrize("head", MULTILABEL_HEADS)
@pytest.mark.parametrize("classes", [2, 4])
def test_a_pipeline_made_from_its_weights_gives_equal_results(head, classes):
    X, Y = make_rows(classes=classes)
    pipeline = refit(make_head(head, multilabel=True), X, Y)
    assert is_multilabel(pipeline)
    assert not is_multilabel(make_head("ovr-logistic"))
    W, b = linear_parts(pipeline, None)
    assert W.shape == (classes, 12)
    again = from_linear_parts(
        head, W, b, list("abcd")[:classes], pipeline.named_steps["normalizer"], C=1.0, multilabel=True
    )
    for name in ("predict", "decision_function", "predict_proba"):
        assert hasattr(again, name) == hasattr(pipeline, name)
        if hasattr(pipeline, name):
            np.testing.assert_array_equal(getattr(again, name)(X), getattr(pipeline, name)(X))
    np.testing.assert_array_equal(again.predict(X), pipeline.decision_function(X) > 0)


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 99), st.integers(1, 3))
def test_folds_keep_groups_together_and_labels_in_proportion(splits, seed, views):
    rng = np.random.default_rng(seed)
    Y = np.repeat(rng.random((60, 4)) < [0.5, 0.3, 0.25, 0.6], views, axis=0)
    groups = np.repeat(rng.permutation(60), views)
    folds = make_folds(Y, groups, splits, n_repeats=2, seed=seed)
    assert len(folds) == 2 * splits
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(Y)))
        assert (abs(Y[test].sum(axis=0) - Y.sum(axis=0) / splits) <= 4 * views).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds[:splits]])), np.arange(len(Y)))


def test_stratification_depends_on_the_seed_and_allows_rows_without_labels():
    members = np.zeros((40, 2), bool)
    members[:10, 0] = members[5:15, 1] = True
    part = stratify_multilabel(members, (0.75, 0.25), 3)
    assert np.bincount(part).tolist() == [30, 10]
    np.testing.assert_array_equal(part, stratify_multilabel(members, (0.75, 0.25), 3))
    assert not np.array_equal(part, stratify_multilabel(members, (0.75, 0.25), 4))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 10), "label 0 belongs to 0 of 20 images, so it cannot be told from the others"),
        ((10, 20), "label 1 belongs to 20 of 20 images"),
        ((10,), "multi-label targets must have two classes or more, got 1"),
    ],
)
def test_labels_of_no_row_or_of_all_rows_are_refused(counts, message):
    Y = np.zeros((20, len(counts)), int)
    for column, count in enumerate(counts):
        Y[:count, column] = 1
    with pytest.raises(DataError, match=message):
        make_folds(Y, n_splits=5)


def test_held_out_rows_have_their_share_of_each_label():
    _, Y = make_rows(100)
    digests = [str(row // 2) for row in range(100)]
    train, test = hold_out(Y > 0, digests, 0.25, seed=1)
    labeled = np.flatnonzero(Y.any(axis=1))
    np.testing.assert_array_equal(np.sort([*train, *test]), labeled)
    assert not {digests[row] for row in train} & {digests[row] for row in test}
    assert (abs(Y[test].sum(axis=0) - Y.sum(axis=0) / 4) <= 3).all()
    with pytest.raises(DataError, match=r"--test-size 0\.005 leaves no image to test, because every class needs one"):
        hold_out(Y > 0, digests, 0.005, seed=1)


@pytest.fixture
def scored():
    """Return an indicator, decisions and probabilities; the last class has no row."""
    rng = np.random.default_rng(0)
    truth = np.hstack([rng.random((50, 3)) < 0.4, np.zeros((50, 1), bool)])
    decisions = 1.5 * truth - 1 + rng.normal(size=truth.shape)
    return truth, decisions, 1 / (1 + np.exp(-decisions))


def test_the_report_equals_sklearn(scored):
    truth, decisions, shares = scored
    said = decisions > 0
    report = multilabel_report(truth, decisions, list("abcd"), shares)
    macro = metrics.average_precision_score(truth[:, :3], decisions[:, :3], average="macro")
    micro = metrics.average_precision_score(truth, decisions, average="micro")
    assert report["macro_average_precision"] == pytest.approx(macro)
    assert report["micro_average_precision"] == pytest.approx(micro)
    assert average_precision(truth, decisions, "macro") == pytest.approx(macro)
    assert report["subset_accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert report["micro_f1"] == pytest.approx(metrics.f1_score(truth, said, average="micro"))
    assert [row["n"] for row in report["classes"]] == truth.sum(axis=0).tolist()
    for column, row in enumerate(report["classes"][:3]):
        assert row["precision"] == pytest.approx(metrics.precision_score(truth[:, column], said[:, column]))
        assert row["recall"] == pytest.approx(metrics.recall_score(truth[:, column], said[:, column]))
    assert report["classes"][3]["average_precision"] is None
    assert 0 < report["calibration_error"] < 0.5
    exact = multilabel_report(truth, decisions, list("abcd"), truth.astype(float))
    assert exact["calibration_error"] == 0
    assert multilabel_report(truth, decisions, list("abcd"))["calibration_error"] is None


def test_the_report_as_text(scored):
    said = format_report(multilabel_report(*scored[:2], list("abcd"), scored[2]))
    assert re.search(r"macro average precision +0\.", said)
    assert "all labels right" in said
    assert said.splitlines()[-5].split() == ["class", "n", "precision", "recall", "F1", "AP"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth, decisions, shares: (truth, decisions[:, :2], shares), r"must be \(rows, 4\), got \(50, 4\)"),
        (lambda truth, decisions, shares: (truth, decisions * np.nan, shares), "must be finite, got NaN"),
        (lambda truth, decisions, shares: (truth, decisions, shares[:3]), r"must have shape \(50, 4\), got \(3, 4\)"),
        (lambda truth, decisions, shares: (truth & False, decisions, shares), "needs multi-label targets with"),
    ],
)
def test_decisions_that_cannot_be_scored_are_refused(scored, change, message):
    truth, decisions, shares = change(*scored)
    with pytest.raises(DataError, match=message):
        multilabel_report(truth, decisions, list("abcd"), shares)
