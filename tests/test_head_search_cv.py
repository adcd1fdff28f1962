"""HeadSearchCV: scikit-learn's own checks, agreement with GridSearchCV, and any matrix as input."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import featx
from featx.errors import DataError, FeatxWarning, NoFolds, SpecError
from featx.heads import BlockNormalizer, HeadSearchCV, make_folds

CS = [0.01, 0.1, 1.0]
ESTIMATORS = [
    HeadSearchCV(),
    HeadSearchCV(("softmax",), cv=3, random_state=0),
    HeadSearchCV(("linear-svc",), normalize="power"),
    HeadSearchCV(("ovr-logistic",), normalize="standard", select="one-se"),
]


def expected_failures(estimator):
    if estimator.normalize != "standard":
        return {}
    reason = "StandardScaler counts all rows alike, as in GridSearchCV over a pipeline, so weights do not repeat rows"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


# Some checks are skipped where SciPy's array API is off.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_passes_the_checks_of_sklearn(estimator, check):
    check(estimator)


def load_rows():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["barolo", "grignolino", "barbera"])[y]


ESTIMATOR_OF = {
    "linear-svc": (LinearSVC(tol=1e-8, max_iter=100_000, random_state=0), "C"),
    "softmax": (LogisticRegression(tol=1e-8, max_iter=10_000), "C"),
    "ovr-logistic": (OneVsRestClassifier(LogisticRegression(tol=1e-8, max_iter=10_000)), "estimator__C"),
}


@pytest.mark.parametrize("head", ESTIMATOR_OF)
def test_it_replaces_grid_search(head):
    X, y = load_rows()
    search = HeadSearchCV((head,), CS).fit(X, y)
    estimator, name = ESTIMATOR_OF[head]
    grid = GridSearchCV(estimator, {name: CS}).fit(X, y)
    for column in ("mean_test_score", "std_test_score", "rank_test_score", *(f"split{n}_test_score" for n in range(5))):
        np.testing.assert_allclose(search.cv_results_[column], grid.cv_results_[column], err_msg=column)
    assert search.best_params_ == {"head": head, "C": grid.best_params_[name], "features": "all"}
    assert (search.best_score_, search.best_index_) == (pytest.approx(grid.best_score_), grid.best_index_)
    np.testing.assert_array_equal(search.predict(X), grid.predict(X))
    np.testing.assert_allclose(search.decision_function(X), grid.decision_function(X), atol=0.05)
    assert search.score(X, y) == grid.score(X, y)
    assert search.classes_.tolist() == grid.classes_.tolist() == ["barbera", "barolo", "grignolino"]
    assert search.n_features_in_ == 13


def test_results_have_a_row_per_candidate():
    X, y = load_rows()
    sets = {"first": slice(0, 5), "all": slice(None)}
    search = HeadSearchCV(Cs={"softmax": [1.0], "linear-svc": [0.1, 1.0]}, heads=("linear-svc", "softmax"),
                          feature_sets=sets, cv=3).fit(X, y)  # fmt: skip
    table = pd.DataFrame(search.cv_results_)
    assert len(table) == len(search.candidates_) == 6
    assert table["param_features"].tolist() == ["first"] * 3 + ["all"] * 3
    assert table["param_head"].tolist() == ["softmax", "linear-svc", "linear-svc"] * 2
    assert table["param_C"].tolist() == [1.0, 0.1, 1.0] * 2
    assert table["n_columns"].tolist() == [5] * 3 + [13] * 3
    assert table["params"][1] == {"head": "linear-svc", "C": 0.1, "features": "first"}
    assert (table["duality_gap"] <= 1e-6).all()
    assert (table["mean_fit_time"] > 0).all()
    assert search.best_params_ == table["params"][search.best_index_]
    assert search.best_candidate_.mean == search.best_score_ == table["mean_test_score"].max()
    assert search.n_splits_ == 3


def test_best_estimator_takes_all_columns_of_x():
    X, y = load_rows()
    search = HeadSearchCV(("softmax",), CS, {"some": [12, 0, 1, 6]}).fit(X, y)
    expected = LogisticRegression(C=search.best_params_["C"], max_iter=10_000).fit(X[:, [12, 0, 1, 6]], y)
    np.testing.assert_allclose(search.predict_proba(X), expected.predict_proba(X[:, [12, 0, 1, 6]]), atol=1e-6)
    np.testing.assert_array_equal(search.best_estimator_.predict_proba(X), search.predict_proba(X))
    assert search.best_estimator_.n_features_in_ == 13


def test_a_data_frame_names_its_columns():
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = X.columns.tolist()
    search = HeadSearchCV(feature_sets={"petal": names[2:], "all": names}, random_state=0).fit(X, y)
    assert search.feature_names_in_.tolist() == names
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        search.predict(X[names[::-1]])
    whole = HeadSearchCV(random_state=0).fit(X, y)
    np.testing.assert_array_equal(
        whole.predict(X), HeadSearchCV(random_state=0).fit(X.to_numpy(), y).predict(X.to_numpy())
    )


def test_column_names_divide_features_into_blocks():
    X, y = load_rows()
    frame = pd.DataFrame(X, columns=[f"block1_avg_{n}" for n in range(5)] + [f"block2_avg_{n}" for n in range(8)])
    by_name = HeadSearchCV(("softmax",), [1.0], normalize="power").fit(frame, y)
    assert by_name.best_estimator_.named_steps["normalizer"].widths == (5, 8)
    by_slice = HeadSearchCV(("softmax",), [1.0], {"all": [slice(0, 5), slice(5, 13)]}, normalize="power").fit(X, y)
    assert by_name.best_score_ == by_slice.best_score_
    assert isinstance(by_slice.best_estimator_.named_steps["normalizer"], BlockNormalizer)


@pytest.mark.parametrize("cv", [KFold(4), StratifiedKFold(4, shuffle=True, random_state=1)])
def test_any_splitter_makes_the_folds(cv):
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    search = HeadSearchCV(("softmax",), CS, cv=cv).fit(X, y)
    expected = [cross_val_score(LogisticRegression(C=C, tol=1e-8, max_iter=10_000), X, y, cv=cv).mean() for C in CS]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    folds = list(cv.split(X, y))
    again = HeadSearchCV(("softmax",), CS, cv=folds).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"])


def test_groups_are_kept_together_by_a_number_of_folds_and_reach_a_splitter():
    X, y = load_rows()
    groups = np.arange(len(y)) // 2
    scores = HeadSearchCV(("softmax",), CS, cv=4, random_state=3).fit(X, y, groups=groups).cv_results_
    folds = make_folds(y, groups, 4, seed=3)
    expected = HeadSearchCV(("softmax",), CS, cv=folds).fit(X, y).cv_results_
    np.testing.assert_array_equal(scores["mean_test_score"], expected["mean_test_score"])
    HeadSearchCV(("softmax",), CS, cv=GroupKFold(3)).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        HeadSearchCV(("softmax",), CS, cv=GroupKFold(3)).fit(X, y)


def test_random_state_shuffles_the_folds():
    X, y = load_breast_cancer(return_X_y=True)
    fit = {seed: HeadSearchCV(("softmax",), CS, random_state=seed).fit(X, y).cv_results_ for seed in (None, 0, 1)}
    assert len({tuple(results["split0_test_score"]) for results in fit.values()}) > 1
    generator = np.random.RandomState(0)
    one, two = (HeadSearchCV(("softmax",), CS, random_state=generator).fit(X, y).cv_results_ for _ in range(2))
    assert not np.array_equal(one["split0_test_score"], two["split0_test_score"])


def test_a_class_with_fewer_rows_than_folds_is_a_warning():
    X, y = load_rows()
    keep = np.flatnonzero((y != "barolo") | (np.arange(len(y)) < 3))
    with pytest.warns(FeatxWarning, match=r"^1 class has fewer rows than the 5 folds, .* tests it: barolo \(3\)$"):
        assert HeadSearchCV(("softmax",), CS).fit(X[keep], y[keep]).n_splits_ == 5
    one = np.flatnonzero((y != "barolo") | (np.arange(len(y)) < 1))
    with pytest.warns(FeatxWarning, match="^class barolo has one row: every fold trains on it and none tests it"):
        search = HeadSearchCV(("softmax",), CS).fit(X[one], y[one])
    assert search.classes_.tolist() == ["barbera", "barolo", "grignolino"]
    with pytest.raises(NoFolds, match="needs a class with two images, or two groups"):
        HeadSearchCV().fit(X, y, groups=y)


@pytest.mark.parametrize("head", ["softmax", "ovr-logistic"])
def test_class_weights_by_name_reach_the_refit(head):
    X, y = load_rows()
    weights = {"barolo": 5.0, "barbera": 0.2}
    search = HeadSearchCV((head,), [0.1], class_weight=weights).fit(X, y)
    by_row = HeadSearchCV((head,), [0.1]).fit(X, y, sample_weight=[weights.get(label, 1.0) for label in y])
    np.testing.assert_allclose(search.predict_proba(X), by_row.predict_proba(X), atol=1e-4)
    assert abs(search.predict_proba(X) - HeadSearchCV((head,), [0.1]).fit(X, y).predict_proba(X)).max() > 0.01


def test_a_scorer_may_be_a_function():
    X, y = load_rows()
    scorer = make_scorer(f1_score, average="macro")
    by_function = HeadSearchCV(("softmax",), CS, scoring=scorer).fit(X, y)
    by_name = HeadSearchCV(("softmax",), CS, scoring="f1_macro").fit(X, y)
    assert by_function.best_score_ == by_name.best_score_
    assert by_function.score(X, y) == by_name.score(X, y) == f1_score(y, by_name.predict(X), average="macro")
    X, y = X[y != "barolo"], y[y != "barolo"]
    binary = HeadSearchCV(("softmax",), CS, scoring=make_scorer(f1_score, pos_label="barbera")).fit(X, y)
    assert binary.score(X, y) == f1_score(y, binary.predict(X), pos_label="barbera")


def test_multilabel_targets_leave_out_softmax():
    X, y = load_rows()
    Y = np.column_stack([y != "barolo", y != "barbera", X[:, 0] > 0]).astype(int)
    search = HeadSearchCV(random_state=0).fit(X, Y)
    assert set(search.cv_results_["param_head"]) == {"linear-svc", "ovr-logistic"}
    assert search.predict(X).shape == search.decision_function(X).shape == Y.shape
    assert 0.9 < search.score(X, Y) <= 1
    assert search.classes_.tolist() == [0, 1, 2]


def test_probabilities_are_there_if_the_head_has_them():
    X, y = load_rows()
    assert not hasattr(HeadSearchCV(), "predict_proba")
    assert hasattr(HeadSearchCV(("softmax",)), "predict_proba")
    assert not hasattr(HeadSearchCV(("linear-svc",), CS).fit(X, y), "predict_proba")
    np.testing.assert_allclose(HeadSearchCV(("softmax",), CS).fit(X, y).predict_proba(X).sum(axis=1), 1)


def test_without_refit_there_are_results_and_no_predictions():
    X, y = load_rows()
    search = HeadSearchCV(("softmax",), CS, refit=False).fit(X, y)
    assert search.best_score_ > 0.9
    assert not hasattr(search, "best_estimator_")
    with pytest.raises(AttributeError, match="fitted with refit=False and cannot predict; fit it with refit=True"):
        search.predict(X)
    with pytest.raises(NotFittedError):
        clone(search).predict(X)
    with pytest.raises(NotFittedError):
        _ = clone(search).best_candidate_


def test_it_is_a_step_of_a_pipeline():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), HeadSearchCV(("softmax",), CS))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.95


def test_one_standard_error_selects_fewer_columns():
    X, y = load_rows()
    X = np.hstack([X, np.random.default_rng(0).normal(size=(len(X), 1))])
    sets = {"all": slice(0, 14), "most": slice(0, 13)}
    best, simple = (HeadSearchCV(("softmax",), CS, sets, select=select).fit(X, y) for select in ("best", "one-se"))
    assert simple.best_params_["features"] == "most"
    assert simple.best_score_ <= best.best_score_
    with pytest.raises(SpecError, match="select must be one of best, one-se, got 'simplest'"):
        HeadSearchCV(("softmax",), CS, select="simplest").fit(X, y)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([(np.arange(120), np.arange(120, 178))], "cv fold 0 has no row of class barbera with a weight above 0"),
        ([(np.arange(178), np.arange(0))], "cv fold 0 tests no row; leave the fold out"),
    ],
)
def test_folds_that_cannot_be_fitted_are_refused(folds, message):
    X, y = load_rows()
    with pytest.raises(DataError, match=message):
        HeadSearchCV(cv=folds).fit(X, y)


def test_it_is_public():
    assert featx.HeadSearchCV is HeadSearchCV
    assert repr(HeadSearchCV(cv=3)) == "HeadSearchCV(cv=3)"
