"""Linear heads: what make_head builds, and pipelines that are made from weights."""

import itertools

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.errors import SpecError
from featx.heads.pipeline.linear_heads import HEADS, NORMALIZERS, from_linear_parts, linear_parts, make_head
from featx.heads.pipeline.normalizer import BlockNormalizer

pytestmark = pytest.mark.core

DTYPES = (np.float32, np.float64)
CASES = list(itertools.product(HEADS, NORMALIZERS, (2, 5), DTYPES))
COMPUTED = ("decision_function", "predict", "predict_proba")


def _data(classes, dtype=np.float64, columns=192, rows=90):
    X, y = make_blobs(rows, columns, centers=classes, cluster_std=6.0, random_state=0)
    return (X / 10).astype(dtype), np.array([f"class {index}" for index in y])


def _computed(pipeline, X):
    return {name: getattr(pipeline, name)(X) for name in COMPUTED if hasattr(pipeline, name)}


@pytest.mark.parametrize(("head", "normalize", "classes", "dtype"), CASES)
def test_a_pipeline_made_from_its_weights_gives_equal_results(head, normalize, classes, dtype):
    X, y = _data(classes, dtype)
    original = make_head(head, 0.5, normalize=normalize, class_weight="balanced").fit(X, y)
    normalizer, inner = original.named_steps["normalizer"], {"C": 0.5, "class_weight": "balanced"}
    again = from_linear_parts(head, *linear_parts(original, None), original.classes_, normalizer, **inner)
    # Before 1.9, scikit-learn stores the weights of softmax row by row; all others are stored column by column. BLAS
    # adds up in another order for another layout, so results differ by rounding.
    alike = head == "ovr-logistic" or original.named_steps["head"].coef_.flags.f_contiguous
    # BLAS has different code for one row, a few rows, many rows and other layouts.
    for rows in (X[:1], X[:7], X, np.asfortranarray(X)):
        expected, got = _computed(original, rows), _computed(again, rows)
        assert expected.keys() == got.keys()
        for name, values in expected.items():
            if alike or values.dtype.kind != "f":
                np.testing.assert_array_equal(got[name], values, err_msg=name)
            else:
                np.testing.assert_allclose(got[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
            assert got[name].dtype == values.dtype
    assert again.named_steps["head"].n_features_in_ == 192
    assert repr(again) == repr(original)


@pytest.mark.parametrize(("head", "classes"), [*itertools.product(HEADS, (2, 5))])
def test_linear_parts_give_the_decisions(head, classes):
    X, y = _data(classes, np.float32)
    pipeline = make_head(head).fit(X, y)
    W, b = linear_parts(pipeline)
    rows = 1 if classes == 2 else classes
    assert (W.shape, b.shape, W.dtype, b.dtype) == ((rows, 192), (rows,), np.float64, np.float64)
    expected = pipeline.decision_function(X).reshape(len(X), rows)
    np.testing.assert_allclose(pipeline.named_steps["normalizer"].transform(X) @ W.T + b, expected, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_pipeline_made_from_weights_copies_them(head):
    X, y = _data(5)
    original = make_head(head).fit(X, y)
    W, b = linear_parts(original)
    again = from_linear_parts(head, W, b, original.classes_, original.named_steps["normalizer"])
    before = again.decision_function(X)
    W[:], b[:] = 0, 0
    np.testing.assert_array_equal(again.decision_function(X), before)
    assert before.any()


@pytest.mark.parametrize("head", HEADS)
def test_a_pipeline_made_from_weights_can_be_cloned_and_fitted(head):
    X, y = _data(5)
    original = make_head(head).fit(X, y)
    again = from_linear_parts(head, *linear_parts(original), original.classes_, original.named_steps["normalizer"])
    refitted = clone(again)
    assert not hasattr(refitted.named_steps["head"], "classes_")
    np.testing.assert_array_equal(refitted.fit(X, y).decision_function(X), original.decision_function(X))


@pytest.mark.parametrize(
    ("head", "kind"),
    [("linear-svc", LinearSVC), ("softmax", LogisticRegression), ("ovr-logistic", OneVsRestClassifier)],
)
def test_heads_are_estimators_of_sklearn(head, kind):
    pipeline = make_head(head, 3.0, class_weight={1: 2.0}, random_state=7)
    assert list(pipeline.named_steps) == ["normalizer", "head"]
    step = pipeline.named_steps["head"]
    assert type(step) is kind
    inner = getattr(step, "estimator", step)
    assert (inner.C, inner.class_weight, inner.random_state) == (3.0, {1: 2.0}, 7)


@pytest.mark.parametrize(("columns", "C"), [(30, 1.0), (192, 100.0)], ids=["more rows", "more columns"])
def test_linear_svc_reaches_the_optimum(columns, C):
    X, y = _data(3, columns=columns)
    pipeline = make_head("linear-svc", C, widths=None).fit(X, y)
    rows = pipeline[:-1].transform(X)
    optimum = LinearSVC(C=C, tol=1e-8, max_iter=10**6, random_state=1).fit(rows, y).decision_function(rows)
    np.testing.assert_allclose(pipeline.decision_function(X), optimum, atol=1e-3)


def test_names_select_the_normalizer():
    steps = {
        name: make_head("softmax", normalize=name, widths=(3, 4)).named_steps["normalizer"] for name in NORMALIZERS
    }
    assert isinstance(steps["power"], BlockNormalizer)
    assert steps["power"].widths == (3, 4)
    assert isinstance(steps["standard"], StandardScaler)
    assert steps["none"] == "passthrough"


@pytest.mark.parametrize(("head", "normalize"), [*itertools.product(HEADS, NORMALIZERS)])
def test_heads_converge_without_a_warning_and_predict_well(head, normalize):
    X, y = _data(5)
    assert make_head(head, 10.0, normalize=normalize).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9


def test_a_grid_search_sets_parameters_of_both_steps():
    X, y = _data(3)
    grid = {"head__C": [0.25], "normalizer__power": [0.75], "normalizer__widths": [(100, 92)]}
    best = GridSearchCV(make_head("softmax"), grid, cv=3).fit(X, y).best_estimator_
    assert best.named_steps["head"].C == 0.25
    assert (best.named_steps["normalizer"].power, best.named_steps["normalizer"].widths_) == (0.75, (100, 92))


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("svm", {}, "head must be one of linear-svc, softmax, ovr-logistic, got 'svm'"),
        ("softmax", {"C": 0}, "C of softmax must be above 0, got 0"),
        ("softmax", {"C": float("nan")}, "C of softmax must be above 0, got nan"),
        (
            "ovr-logistic",
            {"class_weight": {"a": 2}},
            "class_weight of ovr-logistic must be 'balanced', None or a dict with keys 0 and 1",
        ),
        ("softmax", {"normalize": "l2"}, "normalize must be one of power, standard, none, got 'l2'"),
    ],
)
def test_bad_options_are_refused(head, options, message):
    with pytest.raises(SpecError, match=message):
        make_head(head, **options)


@pytest.mark.parametrize(
    ("classes", "shapes", "message"),
    [
        (["b", "a"], ((1, 3), (1,)), r"classes of a head must be two or more, sorted and distinct, got \['b', 'a'\]"),
        (["a", "a"], ((1, 3), (1,)), "sorted and distinct"),
        (["a"], ((1, 3), (1,)), "two or more"),
        (["a", "b"], ((2, 3), (2,)), r"of 2 classes must have 1 rows, got shapes \(2, 3\) and \(2,\)"),
        (["a", "b", "c"], ((3, 3), (1,)), r"of 3 classes must have 3 rows, got shapes \(3, 3\) and \(1,\)"),
        (["a", "b", "c"], ((3,), (3,)), r"must have 3 rows, got shapes \(3,\) and \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(classes, shapes, message):
    W, b = map(np.zeros, shapes)
    with pytest.raises(SpecError, match=message):
        from_linear_parts("softmax", W, b, classes, "passthrough")
