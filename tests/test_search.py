"""The search scores candidates as scikit-learn's estimators score on the same folds, and selects as documented."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from joblib import cpu_count
from sklearn.base import clone
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import cross_val_score

from featx.errors import DataError, SpecError
from featx.heads import HeadSearchCV
from featx.heads.metrics.scoring import MULTICLASS_SCORERS, PrecomputedDecisions
from featx.heads.parallel import count_threads
from featx.heads.pipeline.linear_heads import HEADS, make_head
from featx.heads.search import cross_validation
from featx.heads.search.candidates import Candidate, select_candidate
from featx.heads.search.cross_validation import cross_validate_sets
from featx.heads.search.feature_sets import block_feature_sets, make_feature_sets
from featx.heads.search.grids import DEFAULT_CS, default_grid, make_grids
from featx.heads.search.nested_cv import nested_cross_validate
from featx.heads.search.problem import make_problem
from featx.heads.solver.batch import MAX_BATCH_VALUES
from featx.heads.splitting.folds import make_folds

pytestmark = pytest.mark.core

FEATURES = {"block1_avg": slice(0, 4), "block2_avg": slice(4, 12), "block2_max": slice(12, 20)}
SETS = block_feature_sets(FEATURES)
BLOCK2 = {"block2": SETS["block2"]}


def make_rows(n=90, classes=3, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = np.abs(rng.normal(size=(classes, 20))[codes] + 1.5 * rng.normal(size=(n, 20)))
    return X.astype(dtype), np.array(["ant", "bee", "cat", "dog"])[codes]


def search(
    X, y, sets=SETS, heads=tuple(HEADS), Cs=None, folds=5, repeats=1, groups=None, jobs=1, fold_jobs=None, **options
):
    problem = make_problem(X, y, **options)
    grids = make_grids(heads, Cs, problem.multilabel)
    splits = make_folds(y, groups, folds, repeats)
    return cross_validate_sets(
        problem, make_feature_sets(sets, X.shape[1]), grids, splits, jobs=jobs, fold_jobs=fold_jobs
    )


def best_of(*args, **options):
    return select_candidate(search(*args, **options), "best")


def sklearn_scores(candidate, X, y, folds, normalize="power", scoring="accuracy", class_weight=None):
    chosen = next(item for item in make_feature_sets(SETS, 20) if item.name == candidate.feature_set)
    head = make_head(candidate.head, candidate.C, normalize=normalize, widths=chosen.widths, class_weight=class_weight)
    head.set_params(**{name: 1e-8 for name in head.get_params() if name.endswith("__tol")})
    return cross_val_score(head, chosen.select(X).astype(float), y, cv=folds, scoring=scoring)


@pytest.mark.parametrize("normalize", ["power", "standard", "none"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_scores_equal_those_of_sklearn(normalize, classes, class_weight):
    X, y = make_rows(classes=classes, dtype=np.float64)
    keep = np.r_[0:60, 60 : len(y) : 2]
    X, y = X[keep], y[keep]
    found = search(X, y, Cs=[0.1, 3.0], normalize=normalize, folds=3, class_weight=class_weight, tol=1e-9)
    folds = make_folds(y, n_splits=3)
    assert len(found) == 3 * 3 * 2
    for candidate in found[::2] if normalize == "none" else found:
        expected = sklearn_scores(candidate, X, y, folds, normalize, "accuracy", class_weight)
        np.testing.assert_allclose(candidate.scores, expected)
        assert candidate.mean == pytest.approx(np.mean(candidate.scores))
        assert candidate.standard_error == pytest.approx(np.std(candidate.scores, ddof=1) / np.sqrt(3))
        assert candidate.gap <= 1e-9
        assert candidate.gradient_norm >= 0
        assert candidate.seconds > 0


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr", "top_k_accuracy"])
@pytest.mark.parametrize("head", HEADS)
def test_all_scorers_work(scoring, head):
    X, y = make_rows()
    options = {"sets": BLOCK2, "heads": [head], "scoring": scoring, "folds": 3}
    if head == "linear-svc" and scoring in ("neg_log_loss", "roc_auc_ovr"):
        with pytest.raises(DataError, match=f"{scoring} cannot score linear-svc, which has no probabilities; choose"):
            search(X, y, **options)
        return
    best = best_of(X, y, **options, Cs=[1.0])
    expected = sklearn_scores(best, X, y, make_folds(y, n_splits=3), scoring=scoring)
    np.testing.assert_allclose(best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize("head", ["softmax", "ovr-logistic"])
def test_probabilities_of_two_classes_are_scored(head):
    X, y = make_rows(classes=2)
    best = best_of(X, y, sets=BLOCK2, heads=[head], scoring="neg_log_loss", folds=3, Cs=[1.0])
    expected = sklearn_scores(best, X, y, make_folds(y, n_splits=3), scoring="neg_log_loss")
    np.testing.assert_allclose(best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize("scoring", ["f1", "average_precision", "precision", "recall", "jaccard", "neg_brier_score"])
def test_the_second_of_two_classes_is_the_positive_one(scoring):
    """scikit-learn needs classes 0 and 1 for that; here names work too."""
    X, y = make_rows(classes=2)
    best = best_of(X, y, sets=BLOCK2, heads=["softmax"], scoring=scoring, folds=3, Cs=[1.0])
    expected = sklearn_scores(best, X, (y == "bee").astype(int), make_folds(y, n_splits=3), scoring=scoring)
    np.testing.assert_allclose(best.scores, expected, rtol=1e-3)


@pytest.mark.parametrize(("scoring", "other"), MULTICLASS_SCORERS.items())
def test_a_scorer_of_two_classes_names_the_one_for_more(scoring, other):
    X, y = make_rows()
    with pytest.raises(DataError, match=f"scoring {scoring} takes two classes, got 3; use {other}$"):
        search(X, y, heads=["softmax"], folds=3, scoring=scoring)
    assert other in get_scorer_names()


def test_precomputed_decisions_can_be_cloned():
    decided = clone(PrecomputedDecisions("softmax", np.array(["ant", "bee"])))
    assert decided.get_params()["classes"].tolist() == decided.classes_.tolist() == ["ant", "bee"]


@pytest.mark.parametrize("head", ["softmax", "ovr-logistic"])
def test_class_weights_equal_sample_weights(head):
    X, y = make_rows()
    weights = {"ant": 5.0, "bee": 0.5}
    best = partial(best_of, X, y, sets={"block1": SETS["block1"]}, heads=[head], Cs=[1.0], scoring="neg_log_loss")
    by_class, plain = best(class_weight=weights), best()
    by_row = best(sample_weight=[weights.get(label, 1) for label in y])
    np.testing.assert_allclose(by_class.scores, by_row.scores, rtol=1e-3)
    assert abs(by_class.mean - plain.mean) > 1e-2


def test_groups_keep_copies_of_an_image_out_of_the_test_rows():
    X, _ = make_rows()
    y = np.random.default_rng(0).permutation(np.arange(45) % 3)
    X, y, groups = np.repeat(X[:45], 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(45), 2)
    best = partial(best_of, X, y, heads=["linear-svc"], Cs=[1000.0], sets={"all": list(FEATURES.values())})
    assert best().mean > best(groups=groups).mean + 0.2


def test_repeats_do_not_reduce_the_standard_error():
    X, y = make_rows()
    best = best_of(X, y, heads=["softmax"], Cs=[1.0], folds=3, repeats=4)
    assert len(best.scores) == 12
    assert best.standard_error == pytest.approx(np.std(best.scores, ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(("scale", "factor"), [(1, 1), (0.1, 100), (100, 1e-4), (0, 1)])
def test_the_default_grid_follows_the_variance(scale, factor):
    X = np.random.default_rng(0).normal(size=(2000, 1)) * np.sqrt(0.5) * scale
    assert default_grid("softmax", X) == pytest.approx([C * factor for C in DEFAULT_CS["softmax"]])


def make_candidate(mean, rank, columns, error=0.02):
    return Candidate("softmax", 10.0**rank, rank, "", columns, mean, error, (mean,), 0.0, 0.0, 0.0)


def test_select_prefers_small_c_and_few_columns():
    found = [
        make_candidate(0.90, 0, 10),
        make_candidate(0.95, 1, 20),
        make_candidate(0.96, 2, 20),
        make_candidate(0.96, 1, 40),
        make_candidate(0.96, 1, 30),
        make_candidate(0.945, 1, 20),
    ]
    assert select_candidate(found, "best") == found[4]
    assert select_candidate(found, "one-se") == found[1]
    exact = [dataclasses.replace(item, standard_error=0.0) for item in found]
    assert select_candidate(exact, "one-se") == exact[2]


def test_block_feature_sets_are_single_blocks_and_runs_to_the_last():
    features = {f"block{block}_{pool}": slice(block, block + 1) for block in (1, 2, 3) for pool in ("avg", "max")}
    sets = block_feature_sets(features)
    assert list(sets) == ["block1", "block2", "block3", "block2+block3", "block1+block2+block3"]
    assert sets["block2+block3"] == [features[name] for name in list(features)[2:]]
    assert block_feature_sets({"all": slice(0, 9)}) == {"all": [slice(0, 9)]}


def test_ranges_that_are_not_adjacent_are_joined():
    X = np.arange(40).reshape(2, 20)
    (chosen,) = make_feature_sets({"ends": [FEATURES["block1_avg"], FEATURES["block2_max"]]}, 20)
    np.testing.assert_array_equal(chosen.select(X), X[:, [*range(4), *range(12, 20)]])
    assert (chosen.widths, chosen.columns) == ((4, 8), 12)


@pytest.mark.parametrize(
    ("columns", "ranges"),
    [
        (slice(2, None), ((2, 20),)),
        ([3, 4, 5, 9, 1], ((3, 6), (9, 10), (1, 2))),
        (np.array([0, 1]), ((0, 2),)),
        (["c7", "c8", "c0"], ((7, 9), (0, 1))),
    ],
)
def test_columns_are_slices_numbers_or_names(columns, ranges):
    (chosen,) = make_feature_sets({"a": columns}, 20, [f"c{number}" for number in range(20)])
    assert (chosen.ranges, chosen.widths) == (ranges, None)
    assert chosen.columns == sum(stop - start for start, stop in ranges)


def nested_of(X, y, heads, Cs=None, sets=SETS, **options):
    return nested_cross_validate(HeadSearchCV(heads, Cs, sets, normalize="power", random_state=0), X, y, **options)


def test_the_nested_estimate_is_not_optimistic():
    X, _ = make_rows(60)
    y = np.random.default_rng(3).permutation(np.arange(60) % 3)
    heads, Cs = ["linear-svc", "softmax"], [0.1, 1.0, 10.0]
    estimate = nested_of(X, y, heads, Cs, outer=3, folds=3)
    assert len(estimate.scores) == len(estimate.choices) == 3
    assert estimate.mean == pytest.approx(np.mean(estimate.scores))
    assert estimate.standard_error == pytest.approx(np.std(estimate.scores, ddof=1) / np.sqrt(3))
    # The labels are random, so the best of 24 candidates looks better than chance, but the procedure is not.
    assert estimate.mean < best_of(X, y, heads=heads, Cs=Cs, folds=3).mean


def test_nested_scores_are_those_of_the_selected_head_on_the_outer_folds():
    X, y = make_rows()
    estimate = nested_of(X, y, ["softmax"], [1.0], outer=3, folds=2)
    folds = make_folds(y, n_splits=3)
    for choice, score, fold in zip(estimate.choices, estimate.scores, folds, strict=True):
        assert sklearn_scores(choice, X, y, [fold]) == pytest.approx(score)


def test_nested_cross_validation_keeps_groups_together():
    X, y = np.repeat(make_rows(45)[0], 2, axis=0), np.repeat(make_rows(45)[1], 2)
    estimate = nested_of(X, y, ["softmax"], groups=np.repeat(np.arange(45), 2), outer=3, folds=3)
    assert 0 < estimate.mean <= 1


@pytest.mark.slow
def test_nested_cross_validation_does_not_depend_on_the_number_of_processes():
    X, y = make_rows()
    common = {"heads": ["softmax"], "Cs": [0.1, 1.0], "outer": 3, "folds": 5, "sets": {"all": list(FEATURES.values())}}
    one, two = nested_of(X, y, **common), nested_of(X, y, **common, jobs=2)
    assert one.to_dict() == two.to_dict() == json.loads(json.dumps(one.to_dict()))
    assert [choice.gap for choice in one.choices] == [choice.gap for choice in two.choices]
    with pytest.raises(SpecError, match="jobs of nested cross-validation must be 1 or more, got 0"):
        nested_of(X, y, **common, jobs=0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"heads": ["svm"]}, SpecError, "heads must be among linear-svc, softmax, ovr-logistic, got 'svm'"),
        ({"heads": []}, SpecError, "heads must be among .*, got none"),
        ({"Cs": [0]}, SpecError, "Cs must be one or more finite numbers above 0"),
        ({"scoring": "r2"}, SpecError, "scoring must be a scorer for classifiers, got 'r2', which is for regression"),
        ({"scoring": "fastest"}, SpecError, "scoring must be the name of one of scikit-learn's scorers, got 'fastest'"),
        ({"normalize": "l1"}, SpecError, "normalize must be one of power, standard, none, got 'l1'"),
        ({"folds": 1}, SpecError, "folds must be 2 or more, got 1"),
        ({"sets": {}}, SpecError, "feature_sets must name at least one set, got none"),
        ({"sets": {"a": []}}, SpecError, "feature set a must have at least one column, got none"),
        ({"sets": {"a": slice(0, 21)}}, SpecError, r"columns of feature set a must be slices within 0 to 20 .* got sl"),
        ({"sets": {"a": [slice(0, 20, 2)]}}, SpecError, "columns of feature set a must be slices within 0 to 20 with"),
        ({"sets": {"a": [20]}}, SpecError, "columns of feature set a must be .* numbers from 0 to 19, got 20"),
        ({"sets": {"a": [True]}}, SpecError, "columns of feature set a must be .* numbers from 0 to 19, got True"),
        ({"sets": {"a": ["age"]}}, SpecError, "feature set a: column 'age' needs a data frame: the columns of X"),
        ({"class_weight": {"emu": 2.0}}, DataError, "class_weight must name classes of the rows, got 'emu'"),
        ({"sample_weight": [1.0]}, DataError, r"sample_weight must be 90 numbers that are 0 or more, got shape \(1,\)"),
        ({"sample_weight": np.zeros(90)}, DataError, "sample_weight must be above 0 for some rows"),
        ({"y": np.array(["ant"] * 90)}, DataError, "cross-validation needs two classes or more, got 1"),
    ],
)
def test_bad_options_are_refused(changes, error, message):
    X, y = make_rows()
    options = {"X": X, "y": y} | changes
    with pytest.raises(error, match=message):
        search(options.pop("X"), options.pop("y"), **options)


def test_an_unknown_rule_of_selection_is_refused():
    with pytest.raises(SpecError, match="select must be one of best, one-se, got 'first'"):
        select_candidate([make_candidate(0.9, 0, 10)], "first")


def test_the_number_of_parallel_feature_sets_does_not_change_scores(monkeypatch):
    X, y = make_rows()
    together = search(X, y, folds=3, Cs=[1.0], tol=1e-9, jobs=cpu_count())
    monkeypatch.setattr("featx.heads.parallel.MAX_PARALLEL_VALUES", 1)
    one_by_one = search(X, y, folds=3, Cs=[1.0], tol=1e-9, jobs=cpu_count())
    assert [(item.feature_set, item.head, item.scores) for item in together] == [
        (item.feature_set, item.head, item.scores) for item in one_by_one
    ]


@pytest.mark.parametrize(("normalize", "alone", "shared"), [("power", 3, 9), ("standard", 15, 15)])
def test_threads_left_over_by_feature_sets_share_the_folds(monkeypatch, normalize, alone, shared):
    X, y = make_rows()
    batches, solve = [], cross_validation._solve_folds
    monkeypatch.setattr(cross_validation, "_solve_folds", lambda *task: batches.append(task[-1]) or solve(*task))
    common = {"sets": {"all": list(FEATURES.values())}, "normalize": normalize, "folds": 5, "Cs": [0.1, 1.0]}
    one, many = (search(X, y, **common, jobs=jobs) for jobs in (1, 3))
    assert len(batches) == alone + shared
    for whole, parts in zip(one, many, strict=True):
        assert (whole.head, whole.C, whole.rank) == (parts.head, parts.C, parts.rank)
        assert whole.scores == parts.scores
        assert parts.gap <= 1e-6
    too_few = 5 * 3 * len(y) - 1
    for options, cells in (({"jobs": 3, "fold_jobs": 1}, MAX_BATCH_VALUES), ({"jobs": 3}, too_few)):
        monkeypatch.setattr(cross_validation, "MAX_BATCH_VALUES", cells)
        batches.clear()
        search(X, y, **common, **options)
        assert len(batches) == alone


def test_n_jobs_counts_threads_as_sklearn_does():
    assert [count_threads(n_jobs) for n_jobs in (None, 1, 3, -1, -cpu_count() - 5)] == [1, 1, 3, cpu_count(), 1]
    with pytest.raises(SpecError, match="n_jobs must not be 0"):
        count_threads(0)
