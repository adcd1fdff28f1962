"""The search scores what sklearn's estimators score on the same folds, and chooses as it says."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import cross_val_score

from featx.errors import DataError, SpecError
from featx.heads import cross_validate
from featx.heads.cross_validation import DEFAULT_CS, SearchRow, default_grid
from featx.heads.feature_sets import default_feature_sets, make_feature_sets
from featx.heads.folds import make_folds
from featx.heads.head_search import choose, search
from featx.heads.nested_cv import nested
from featx.heads.pipelines import HEADS, make_head
from featx.heads.scoring import OF_TWO, PrecomputedDecisions
from featx.heads.solver.batch import CELLS

FEATURES = {"block1_avg": (0, 4), "block2_avg": slice(4, 12), "block2_max": (12, 20)}


def make_rows(n=90, classes=3, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = np.abs(rng.normal(size=(classes, 20))[codes] + 1.5 * rng.normal(size=(n, 20)))
    return X.astype(dtype), np.array(["ant", "bee", "cat", "dog"])[codes]


def sklearn_scores(row, X, y, folds, normalize="power", scoring="accuracy", class_weight=None):
    chosen = next(item for item in make_feature_sets(FEATURES, None, 20) if item.name == row.feature_set)
    head = make_head(row.head, row.C, normalize=normalize, widths=chosen.widths, class_weight=class_weight)
    head.set_params(**{name: 1e-8 for name in head.get_params() if name.endswith("__tol")})
    return cross_val_score(head, chosen.select(X).astype(float), y, cv=folds, scoring=scoring)


@pytest.mark.parametrize("normalize", ["power", "standard", "none"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_scores_are_those_of_sklearn(normalize, classes, class_weight):
    X, y = make_rows(classes=classes, dtype=np.float64)
    keep = np.r_[0:60, 60 : len(y) : 2]
    X, y = X[keep], y[keep]
    result = search(
        X, y, features=FEATURES, Cs=[0.1, 3.0], normalize=normalize, folds=3, class_weight=class_weight, tol=1e-9
    )
    folds = make_folds(y, n_splits=3)
    assert len(result.rows) == 3 * 3 * 2
    for row in result.rows[::2] if normalize == "none" else result.rows:
        np.testing.assert_allclose(row.scores, sklearn_scores(row, X, y, folds, normalize, "accuracy", class_weight))
        assert row.mean == pytest.approx(np.mean(row.scores))
        assert row.standard_error == pytest.approx(np.std(row.scores, ddof=1) / np.sqrt(3))
        assert row.gap <= 1e-9
        assert row.gradient_norm >= 0
        assert row.seconds > 0


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr", "top_k_accuracy"])
@pytest.mark.parametrize("head", HEADS)
def test_any_scorer(scoring, head):
    X, y = make_rows()
    options = {"features": FEATURES, "feature_sets": {"block2": ["block2_avg", "block2_max"]}, "heads": [head]}
    if head == "linear-svc" and scoring in ("neg_log_loss", "roc_auc_ovr"):
        with pytest.raises(DataError, match=f"{scoring} cannot score linear-svc, which has no probabilities; give"):
            search(X, y, **options, scoring=scoring, folds=3)
        return
    result = search(X, y, **options, scoring=scoring, folds=3, Cs=[1.0])
    expected = sklearn_scores(result.best, X, y, make_folds(y, n_splits=3), scoring=scoring)
    np.testing.assert_allclose(result.best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize("head", ["softmax", "ovr-logistic"])
def test_probabilities_of_two_classes(head):
    X, y = make_rows(classes=2)
    sets = {"block2": ["block2_avg", "block2_max"]}
    result = search(X, y, features=FEATURES, feature_sets=sets, heads=[head], scoring="neg_log_loss", folds=3, Cs=[1.0])
    expected = sklearn_scores(result.best, X, y, make_folds(y, n_splits=3), scoring="neg_log_loss")
    np.testing.assert_allclose(result.best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize("scoring", ["f1", "average_precision", "precision", "recall", "jaccard", "neg_brier_score"])
def test_of_two_classes_the_second_is_looked_for(scoring):
    """Which scikit-learn knows by itself of 0 and 1 alone, and not of names."""
    X, y = make_rows(classes=2)
    options = {"features": FEATURES, "feature_sets": {"block2": ["block2_avg", "block2_max"]}, "heads": ["softmax"]}
    result = search(X, y, **options, scoring=scoring, folds=3, Cs=[1.0])
    expected = sklearn_scores(result.best, X, (y == "bee").astype(int), make_folds(y, n_splits=3), scoring=scoring)
    np.testing.assert_allclose(result.best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize(("scoring", "other"), OF_TWO.items())
def test_scorers_of_two_classes_say_what_is_for_more(scoring, other):
    X, y = make_rows()
    with pytest.raises(DataError, match=f"scoring {scoring} is for two classes, got 3; give {other}$"):
        search(X, y, features=FEATURES, heads=["softmax"], folds=3, scoring=scoring)
    assert other in get_scorer_names()


def test_decisions_are_an_estimator_that_can_be_cloned():
    decided = clone(PrecomputedDecisions("softmax", np.array(["ant", "bee"])))
    assert decided.get_params()["classes"].tolist() == decided.classes_.tolist() == ["ant", "bee"]


def test_class_weights_by_label_and_sample_weights():
    X, y = make_rows()
    weights = {"ant": 5.0, "bee": 0.5}
    common = {"features": FEATURES, "feature_sets": {"block1": ["block1_avg"]}, "heads": ["softmax"], "Cs": [1.0]}
    by_class = search(X, y, **common, scoring="neg_log_loss", class_weight=weights).best
    by_row = search(X, y, **common, scoring="neg_log_loss", sample_weight=[weights.get(label, 1) for label in y]).best
    plain = search(X, y, **common, scoring="neg_log_loss").best
    np.testing.assert_allclose(by_class.scores, by_row.scores, rtol=1e-3)
    assert abs(by_class.mean - plain.mean) > 1e-2


def test_views_of_an_image_do_not_flatter():
    X, _ = make_rows()
    y = np.random.default_rng(0).permutation(np.arange(45) % 3)
    X, y, groups = np.repeat(X[:45], 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(45), 2)
    common = {"features": FEATURES, "heads": ["linear-svc"], "Cs": [1000.0], "feature_sets": {"all": list(FEATURES)}}
    assert search(X, y, **common).best.mean > search(X, y, **common, groups=groups).best.mean + 0.2


def test_repeats_do_not_shrink_the_standard_error():
    X, y = make_rows()
    row = search(X, y, features=FEATURES, heads=["softmax"], Cs=[1.0], folds=3, repeats=4).best
    assert len(row.scores) == 12
    assert row.standard_error == pytest.approx(np.std(row.scores, ddof=1) / np.sqrt(3))


def test_result_goes_into_json():
    X, y = make_rows()
    result = search(
        X.astype(int), y, features=FEATURES, folds=3, Cs={"softmax": [1.0]}, heads=["softmax", "linear-svc"]
    )
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["best"]["head"] == result.best.head
    assert plain["rows"][0]["scores"] == list(result.rows[0].scores)
    assert plain["feature_sets"]["block1+block2"] == ["block1_avg", "block2_avg", "block2_max"]
    assert len(plain["rows"]) == 3 * (1 + len(DEFAULT_CS["linear-svc"]))


@pytest.mark.parametrize(("scale", "factor"), [(1, 1), (0.1, 100), (100, 1e-4), (0, 1)])
def test_default_grid_goes_with_the_variance(scale, factor):
    X = np.random.default_rng(0).normal(size=(2000, 1)) * np.sqrt(0.5) * scale
    assert default_grid("softmax", X) == pytest.approx([C * factor for C in DEFAULT_CS["softmax"]])


def row(mean, rank, columns, error=0.02):
    return SearchRow("softmax", 10.0**rank, rank, "", columns, mean, error, (mean,), 0.0, 0.0, 0.0)


def test_rules():
    rows = [row(0.90, 0, 10), row(0.95, 1, 20), row(0.96, 2, 20), row(0.96, 1, 40), row(0.96, 1, 30), row(0.945, 1, 20)]
    assert choose(rows, "best") == rows[4]
    assert choose(rows, "one-se") == rows[1]
    exact = [dataclasses.replace(item, standard_error=0.0) for item in rows]
    assert choose(exact, "one-se") == exact[2]


def test_default_sets():
    names = [f"block{block}_{pool}" for block in (1, 2, 3) for pool in ("avg", "max")]
    sets = default_feature_sets(names)
    assert list(sets) == ["block1", "block2", "block3", "block2+block3", "block1+block2+block3"]
    assert sets["block2+block3"] == tuple(names[2:])
    assert default_feature_sets(["all"]) == {"all": ("all",)}


def test_columns_apart_are_joined():
    X = np.arange(40).reshape(2, 20)
    chosen = make_feature_sets(FEATURES, {"ends": ["block1_avg", "block2_max"]}, 20)[0]
    np.testing.assert_array_equal(chosen.select(X), X[:, [*range(4), *range(12, 20)]])
    assert (chosen.widths, chosen.columns) == ((4, 8), 12)


def test_nested_estimate_is_not_flattered():
    X, _ = make_rows(60)
    y = np.random.default_rng(3).permutation(np.arange(60) % 3)
    common = {"features": FEATURES, "folds": 3, "heads": ["linear-svc", "softmax"], "Cs": [0.1, 1.0, 10.0]}
    estimate = nested(X, y, **common, outer=3)
    assert len(estimate.scores) == len(estimate.choices) == 3
    assert estimate.mean == pytest.approx(np.mean(estimate.scores))
    assert estimate.standard_error == pytest.approx(np.std(estimate.scores, ddof=1) / np.sqrt(3))
    # Labels drawn at random: the best of 24 candidates looks better than chance, the procedure is not.
    assert estimate.mean < search(X, y, **common).best.mean


def test_nested_scores_are_those_of_the_choice_on_rows_unseen():
    X, y = make_rows()
    estimate = nested(X, y, features=FEATURES, heads=["softmax"], Cs=[1.0], outer=3, folds=2)
    folds = make_folds(y, n_splits=3)
    for choice, score, fold in zip(estimate.choices, estimate.scores, folds, strict=True):
        assert sklearn_scores(choice, X, y, [fold]) == pytest.approx(score)


def test_nested_keeps_groups_whole():
    X, y = np.repeat(make_rows(45)[0], 2, axis=0), np.repeat(make_rows(45)[1], 2)
    estimate = nested(X, y, features=FEATURES, groups=np.repeat(np.arange(45), 2), heads=["softmax"], outer=3, folds=3)
    assert 0 < estimate.mean <= 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rule": "first"}, SpecError, "rule must be one of best, one-se, got 'first'"),
        ({"heads": ["svm"]}, SpecError, "heads must be among linear-svc, softmax, ovr-logistic, got 'svm'"),
        ({"heads": []}, SpecError, "heads must be among .*, got none"),
        ({"Cs": [0]}, SpecError, "Cs must be one or more finite numbers above 0"),
        ({"scoring": "r2"}, SpecError, "must be one of sklearn's scorers of classes, got 'r2', which scores numbers"),
        ({"scoring": "fastest"}, SpecError, "scoring must be the name of one of sklearn's scorers, got 'fastest'"),
        ({"normalize": "l1"}, SpecError, "normalize must be one of power, standard, none, got 'l1'"),
        ({"folds": 1}, SpecError, "folds must be 2 or more, got 1"),
        ({"features": {}}, SpecError, "features must name at least one range of columns, got none"),
        ({"features": {"a": (0, 21)}}, SpecError, "columns of feature a must be a range within 0 to 20, got 0 to 21"),
        ({"features": {"a": slice(0, 20, 2)}}, SpecError, "columns of feature a must be a range"),
        ({"feature_sets": {"a": ["block9_avg"]}}, SpecError, "feature set a must name some of .*, got block9_avg"),
        ({"feature_sets": {"a": []}}, SpecError, "feature set a must name some of .*, got none"),
        ({"feature_sets": {}}, SpecError, "feature_sets must name at least one set, got none"),
        ({"class_weight": {"emu": 2.0}}, DataError, "class_weight must name classes of the rows, got 'emu'"),
        ({"sample_weight": [1.0]}, DataError, r"sample_weight must be 90 numbers above 0, got shape \(1,\)"),
        ({"y": ["ant"] * 90}, DataError, "needs two classes or more, got 1"),
    ],
)
def test_refused(changes, error, message):
    X, y = make_rows()
    options = {"X": X, "y": y, "features": FEATURES} | changes
    with pytest.raises(error, match=message):
        search(options.pop("X"), options.pop("y"), **options)


def test_sets_at_once_or_one_by_one_are_the_same(monkeypatch):
    X, y = make_rows()
    at_once = search(X, y, features=FEATURES, folds=3, Cs=[1.0], tol=1e-9)
    monkeypatch.setattr("featx.heads.parallel.MAX_CELLS", 1)
    by_one = search(X, y, features=FEATURES, folds=3, Cs=[1.0], tol=1e-9)
    assert [(row.feature_set, row.head, row.scores) for row in at_once.rows] == [
        (row.feature_set, row.head, row.scores) for row in by_one.rows
    ]


@pytest.mark.parametrize(("normalize", "alone", "shared"), [("power", 3, 9), ("standard", 15, 15)])
def test_cores_that_are_left_over_share_the_folds(monkeypatch, normalize, alone, shared):
    X, y = make_rows()
    batches, solve = [], cross_validate._solve_folds
    monkeypatch.setattr(cross_validate, "_solve_folds", lambda *task: batches.append(task[-1]) or solve(*task))
    common = {"features": FEATURES, "feature_sets": {"all": tuple(FEATURES)}, "normalize": normalize, "folds": 5}
    one, many = (search(X, y, **common, Cs=[0.1, 1.0], jobs=jobs) for jobs in (1, 3))
    assert len(batches) == alone + shared
    for whole, parts in zip(one.rows, many.rows, strict=True):
        assert (whole.head, whole.C, whole.rank) == (parts.head, parts.C, parts.rank)
        assert whole.scores == parts.scores
        assert parts.gap <= 1e-6
    too_few = 5 * 3 * len(y) - 1
    for options, cells in (({"jobs": -1}, CELLS), ({"jobs": 3, "fold_jobs": 1}, CELLS), ({"jobs": 3}, too_few)):
        monkeypatch.setattr(cross_validate, "CELLS", cells)
        batches.clear()
        search(X, y, **common, Cs=[0.1, 1.0], **options)
        assert len(batches) == alone


def test_nested_is_the_same_for_any_number_of_processes():
    X, y = make_rows()
    common = {"features": FEATURES, "heads": ["softmax"], "Cs": [0.1, 1.0], "outer": 3, "folds": 5}
    common["feature_sets"] = {"all": tuple(FEATURES)}
    one, two = nested(X, y, **common), nested(X, y, **common, jobs=2)
    assert one.to_dict() == two.to_dict() == json.loads(json.dumps(one.to_dict()))
    assert [row.gap for row in one.choices] == [row.gap for row in two.choices]
    with pytest.raises(SpecError, match="jobs of nested must be 1 or more, got 0"):
        nested(X, y, **common, jobs=0)
