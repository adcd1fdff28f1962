"""BlockNormalizer: its arithmetic, the blocks that it finds, and scikit-learn's checks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from featx.errors import DataError, SpecError
from featx.heads.pipeline.normalizer import BlockNormalizer

pytestmark = pytest.mark.core

DTYPES = (np.float32, np.float64)


def _rows(columns, dtype=np.float64, rows=7):
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(dtype)


def _names(*blocks):
    return [f"{name}_{index}" for name, width in blocks for index in range(width)]


# scikit-learn skips its array API check, and no other, if SciPy's support for it is off.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("normalizer", [BlockNormalizer(), BlockNormalizer(None, 1.0)], ids=["default", "l2"])
def test_passes_the_checks_of_sklearn(normalizer):
    results = check_estimator(normalizer)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_array_api_input"}
    assert len(results) > 40


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("widths", [(4, 1, 7), (12,)])
def test_equals_the_formula(dtype, power, widths):
    X = _rows(12, dtype)
    parts = np.split(np.sign(X) * np.abs(X) ** power, np.cumsum(widths)[:-1], axis=1)
    expected = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])
    got = BlockNormalizer(widths, power).fit_transform(X)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype is np.float32 else 1e-13)


def test_many_chunks_equal_one_row_at_a_time():
    X = _rows(1472, np.float32, rows=500)
    normalizer = BlockNormalizer().fit(X)
    assert X.nbytes > 2 << 20
    np.testing.assert_array_equal(normalizer.transform(X), np.vstack([normalizer.transform(row[None]) for row in X]))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [*DTYPES, np.int64, np.float16])
def test_the_input_is_not_changed(dtype, order):
    X = np.asarray(_rows(6) * 10, dtype=dtype, order=order)
    before = X.copy()
    got = BlockNormalizer((2, 4)).fit_transform(X)
    np.testing.assert_array_equal(X, before)
    assert got.dtype == (np.float32 if dtype is np.float32 else np.float64)


def test_a_block_of_zeros_stays_zero():
    X = np.array([[0.0, 0.0, 4.0, 9.0], [-1.0, 0.0, 0.0, 0.0]])
    got = BlockNormalizer((2, 2)).fit_transform(X)
    np.testing.assert_allclose(got, [[0, 0, 2 / 13**0.5, 3 / 13**0.5], [-1, 0, 0, 0]])


@pytest.mark.parametrize("value", [1e-38, 1e30, 3e38])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_no_float32_overflows_or_vanishes(value, power):
    X = np.full((2, 4), value, np.float32)
    np.testing.assert_allclose(BlockNormalizer(None, power).fit_transform(X), 0.5, rtol=1e-6)


@given(hnp.arrays(np.float32, (3, 9), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_every_block_has_unit_length_or_is_zero(X):
    blocks = np.split(BlockNormalizer((2, 3, 4)).fit_transform(X), [2, 5], axis=1)
    for block, original in zip(blocks, np.split(X, [2, 5], axis=1), strict=True):
        lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, original.any(axis=1), atol=1e-6)
        np.testing.assert_array_equal(np.sign(block), np.sign(original))


@pytest.mark.parametrize(
    ("columns", "widths"),
    [(1472, (64, 128, 256, 512, 512)), (1280, (256, 512, 512)), (64, (64,)), (2560, (256, 256, 512, 512, 512, 512))],
)
def test_auto_finds_blocks_by_the_number_of_columns(columns, widths):
    assert BlockNormalizer().fit(_rows(columns)).widths_ == widths


@pytest.mark.parametrize("prefix", ["", "vgg16features__"])
def test_auto_finds_blocks_by_column_names_first(prefix):
    names = _names((f"{prefix}block1_avg", 64), (f"{prefix}block1_max", 64), (f"{prefix}block2_avg", 128))
    X = pd.DataFrame(_rows(256), columns=names)
    normalizer = BlockNormalizer().set_output(transform="pandas").fit(X)
    assert normalizer.widths_ == (64, 64, 128)
    assert normalizer.transform(X).columns.tolist() == names == normalizer.get_feature_names_out().tolist()


def test_auto_ignores_names_if_one_names_no_block():
    X = pd.DataFrame(_rows(192), columns=[*_names(("block1_avg", 191)), "age"])
    assert BlockNormalizer().fit(X).widths_ == (64, 128)


def test_none_treats_the_row_as_one_block():
    assert BlockNormalizer(None).fit(_rows(1472)).widths_ == (1472,)


def test_blocks_whose_columns_are_not_adjacent_are_refused():
    X = pd.DataFrame(_rows(3), columns=["block1_avg_0", "block2_avg_0", "block1_avg_1"])
    with pytest.raises(DataError, match="columns of block1_avg must be adjacent for BlockNormalizer"):
        BlockNormalizer().fit(X)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"power": 0}, SpecError, "power of BlockNormalizer must be above 0 and at most 1, got 0"),
        ({"power": 1.5}, SpecError, "power of BlockNormalizer must be above 0 and at most 1, got 1.5"),
        ({"widths": "block"}, SpecError, "widths of BlockNormalizer must be 'auto', None or .* got 'block'"),
        ({"widths": (4, 1)}, DataError, r"must be positive and add up to the 6 columns of X, got \(4, 1\)"),
        ({"widths": (7, -1)}, DataError, r"add up to the 6 columns of X, got \(7, -1\)"),
        ({"widths": ()}, DataError, r"add up to the 6 columns of X, got \(\)"),
    ],
)
def test_bad_parameters_are_refused_by_fit(parameters, error, message):
    with pytest.raises(error, match=message):
        BlockNormalizer(**parameters).fit(_rows(6))


def test_another_number_of_columns_than_fitted_is_refused():
    with pytest.raises(ValueError, match="X has 5 features, but BlockNormalizer is expecting 6"):
        BlockNormalizer((2, 4)).fit(_rows(6)).transform(_rows(5))


def test_a_clone_has_the_same_parameters():
    assert clone(BlockNormalizer((2, 4), 0.7)).get_params() == {"widths": (2, 4), "power": 0.7}
