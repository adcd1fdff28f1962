"""The learning curve of a linear head."""

import dataclasses

import numpy as np
import pytest

from featx.errors import NoFolds
from featx.heads import make_folds, make_head
from featx.inspection.advice.learning_curve import DRAWS, FRACTIONS, learning_curve
from featx.models import read_training_rows


@pytest.fixture(scope="module")
def rows(shared_store):
    return read_training_rows(shared_store)


def test_the_last_point_is_the_score_of_scikit_learn(rows):
    noisy = dataclasses.replace(
        rows, X=np.abs(np.random.default_rng(0).normal(rows.X, 3 * rows.X.std(axis=0))).astype("f4")
    )
    curve = learning_curve(noisy, (3,), "softmax", [10.0])
    assert [point.fraction for point in curve] == list(FRACTIONS)
    assert all(len(point.scores) == DRAWS for point in curve)
    columns = np.concatenate(
        [np.arange(noisy.X.shape[1])[noisy.spec.slices[f"block3_{pool}"]] for pool in ("avg", "max")]
    )
    head = make_head("softmax", 10.0, widths=(256, 256))
    scores = [
        head.fit(noisy.X[train][:, columns], noisy.y[train]).score(noisy.X[test][:, columns], noisy.y[test])
        for train, test in make_folds(noisy.y, noisy.groups, DRAWS)
    ]
    assert sorted(curve[-1].scores) == pytest.approx(sorted(scores), abs=1e-9)
    assert curve[-1].standard_error == pytest.approx(np.std(scores, ddof=1) / np.sqrt(DRAWS))
    assert 0.3 < curve[0].mean < curve[-1].mean < 1


def test_augmented_copies_are_not_counted_as_images(rows):
    twice = dataclasses.replace(
        rows, X=np.repeat(rows.X, 2, axis=0), y=np.repeat(rows.y, 2), groups=np.repeat(rows.groups, 2),
        plain=np.tile([True, False], len(rows.y)),
    )  # fmt: skip
    one, two = (learning_curve(data, (1,), "softmax", [10.0]) for data in (rows, twice))
    assert [point.per_class for point in two] == [point.per_class for point in one]
    assert one[-1].per_class == pytest.approx(12 * 0.9)


def test_equal_images_stay_in_one_fold(rows):
    """Otherwise a head would predict the random label of an image from its copy in the training rows."""
    rng = np.random.default_rng(0)
    X = rng.random((60, rows.X.shape[1])).astype("f4")
    y = rng.permutation(np.repeat(["a", "b"], 30))
    copies = dataclasses.replace(
        rows, X=np.repeat(X, 2, axis=0), y=np.repeat(y, 2), classes=("a", "b"), groups=np.repeat(np.arange(60), 2),
        plain=np.ones(120, bool),
    )  # fmt: skip
    assert learning_curve(copies, (1, 2), "softmax", [1000.0])[-1].mean < 0.8


def test_small_classes_have_fewer_draws_and_a_single_image_is_refused(rows):
    chosen = np.concatenate([np.flatnonzero(rows.y == name)[:4] for name in rows.classes])
    few = dataclasses.replace(
        rows, X=rows.X[chosen], y=rows.y[chosen], groups=rows.groups[chosen], plain=rows.plain[chosen]
    )
    curve = learning_curve(few, (1,), "softmax", [10.0])
    assert len(curve[0].scores) == 4
    assert curve[0].per_class == 1
    lone = dataclasses.replace(few, groups=np.zeros(12, int))
    with pytest.raises(NoFolds, match="each class has one"):
        learning_curve(lone, (1,), "softmax", [10.0])
