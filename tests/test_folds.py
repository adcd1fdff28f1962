"""Folds keep groups together and classes in proportion."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from featx.errors import DataError, NoFolds, SpecError
from featx.heads.splitting import folds as folds_module
from featx.heads.splitting.folds import make_folds

pytestmark = pytest.mark.core


@st.composite
def grouped_rows(draw):
    """Draw classes and groups of rows in any order; a few groups have two classes."""
    splits = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, draw(st.sampled_from([1, 4]))), min_size=3 * splits, max_size=40))
    labels = [index % 3 for index in range(len(sizes))]
    y = np.repeat(labels, sizes)
    groups = np.repeat(draw(st.permutations(range(len(sizes)))), sizes)
    order = np.array(draw(st.permutations(range(len(y)))))
    return y[order], groups[order], splits, draw(st.integers(0, 99))


@settings(deadline=None)
@given(grouped_rows(), st.booleans())
def test_groups_are_never_divided_by_a_fold(rows, many):
    y, groups, splits, seed = rows
    before = folds_module.MAX_UNEVEN_GROUPS
    folds_module.MAX_UNEVEN_GROUPS = 0 if many else before
    try:
        folds = make_folds(y, groups, splits, n_repeats=2, seed=seed)
    finally:
        folds_module.MAX_UNEVEN_GROUPS = before
    assert len(folds) == 2 * splits
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(y)))
        assert set(y[train]) == {0, 1, 2}
    for repeat in (folds[:splits], folds[splits:]):
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in repeat])), np.arange(len(y)))


def test_rows_without_groups_are_split_as_sklearn_splits_them():
    y = np.repeat(["a", "b", "c"], [10, 15, 20])
    expected = StratifiedKFold(5, shuffle=True, random_state=3).split(y, y)
    for (train, test), (train_sk, test_sk) in zip(make_folds(y, seed=3), expected, strict=True):
        np.testing.assert_array_equal(train, train_sk)
        np.testing.assert_array_equal(test, test_sk)


def test_each_repeat_is_shuffled_differently():
    y = np.repeat([0, 1], 20)
    folds = make_folds(y, n_splits=2, n_repeats=2)
    assert not np.array_equal(folds[0][1], folds[2][1])


def test_augmented_copies_are_split_by_image():
    y = np.repeat([0, 1], 30)
    groups = np.repeat(np.arange(20), 3)
    for _, test in make_folds(y, groups):
        assert np.bincount(y[test]).tolist() == [6, 6]


def test_unequal_groups_are_balanced_by_rows():
    sizes = np.array([9, 1, 1, 1, 1, 1, 1, 1, 1, 1] * 2)
    y, groups = np.repeat(np.repeat([0, 1], 10), sizes), np.repeat(np.arange(20), sizes)
    assert {len(test) for _, test in make_folds(y, groups, 2)} == {18}


def test_a_fold_without_a_class_to_train_on_is_replaced(monkeypatch):
    y, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3])

    class Lopsided:
        def __init__(self, *args, **kwargs):
            pass

        def split(self, *args):
            return [(np.arange(3, 6), np.arange(3)), (np.arange(3), np.arange(3, 6))]

    monkeypatch.setattr(folds_module, "StratifiedGroupKFold", Lopsided)
    for train, _ in make_folds(y, groups, 2):
        assert set(y[train]) == {0, 1}


def test_many_rows_are_split_within_seconds():
    y = np.random.default_rng(0).integers(0, 10, 100_000)
    groups = np.arange(100_000)
    groups[1] = 0
    start = time.perf_counter()
    make_folds(y, groups)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("y", "groups", "options", "error", "message"),
    [
        ([0, 1], None, {"n_splits": 1}, SpecError, "folds must be 2 or more, got 1"),
        ([0, 1], None, {"n_repeats": 0}, SpecError, "repeats of the folds must be 1 or more, got 0"),
        ([0, 1], [1], {}, DataError, r"one entry per row, got shapes \(2,\) and \(1,\)"),
        ([4, 4], None, {}, DataError, "needs two classes or more, got 1; add images of another class"),
        (["a", "b", "c"], None, {}, NoFolds, "needs a class with two images, or two groups .* but each class has one"),
        ([0, 1, 0, 1], [0, 0, 0, 0], {}, NoFolds, "but each class has one; add images"),
        (
            [[0, 1], [1, 1]],
            None,
            {},
            DataError,
            "label 1 belongs to 2 of 2 images, so it cannot be told from",
        ),
    ],
)
def test_bad_options_are_refused(y, groups, options, error, message):
    with pytest.raises(error, match=message):
        make_folds(y, groups, **options)
