import os
import tracemalloc

import numpy as np
import pytest

from featx.table import arrays
from featx.table.arrays import CategoricalArray, StringArray
from featx.table.image_table import ImageTable, decode_labels, encode_labels

ODD = ["b", "", "ä", os.fsdecode(b"\xff.jpg"), "🌻", "a", "b"]
MANY = [f"{number:05d}" for number in range(3000)]


def strings(*values):
    return StringArray.from_strings(values)


def categories(*values):
    return CategoricalArray.from_values(values)


@pytest.mark.parametrize("values", [ODD, MANY, [*MANY, "ä"], []])
def test_a_string_array_behaves_like_a_list_of_strings(values):
    found = strings(*values)
    assert list(found) == values
    assert [found[row] for row in range(-len(values), len(values))] == values * 2
    assert len(found) == len(values)
    assert list(found[1::2]) == values[1::2]
    assert list(StringArray.concatenate([found[2:], found[:2]])) == values[2:] + values[:2]
    assert list(found.take(np.arange(len(values))[::-1])) == values[::-1]


def test_a_row_after_the_last_raises_an_index_error():
    with pytest.raises(IndexError):
        strings("a")[1]


def test_strings_are_sorted_by_their_bytes():
    found = strings(*ODD)
    assert found.argsort().tolist() == [1, 5, 0, 6, 2, 4, 3]
    assert not found.is_sorted()


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], True), (["a"], True), (MANY, True), (["a", "a"], False), ([*MANY, "02999"], False), ([*MANY, "0"], False)],
)
def test_equal_or_descending_neighbors_are_not_sorted(values, expected):
    assert strings(*values).is_sorted() == expected


def test_find_returns_the_first_row_of_each_string():
    found = strings(*ODD)
    assert found.find(strings("🌻", "none", "b", os.fsdecode(b"\xff.jpg"), "")).tolist() == [4, -1, 0, 3, 1]
    assert found.find(strings()).tolist() == []
    assert strings().find(found).tolist() == [-1] * len(ODD)


def test_find_tells_strings_with_equal_hashes_apart(monkeypatch):
    monkeypatch.setattr(arrays, "hash", lambda value: 7, raising=False)
    assert strings("a", "b", "c").find(strings("c", "x", "a")).tolist() == [2, -1, 0]


def test_a_categorical_array_behaves_like_a_list_of_its_values():
    column = categories("x", "y", "x")
    assert (list(column), column[1], column.categories) == (["x", "y", "x"], "y", ("x", "y"))
    assert list(column[1:]) == ["y", "x"]
    joined = CategoricalArray.concatenate([column, categories(), categories("z", "y")])
    assert list(joined) == ["x", "y", "x", "z", "y"]
    assert joined.categories == ("x", "y", "z")
    assert column.take(np.array([0, 2])).used_categories() == ["x"]
    assert list(CategoricalArray.full("", 2)) == ["", ""]


def test_a_repr_is_one_line_however_long_the_array():
    assert repr(strings("a", "b")) == "StringArray(['a', 'b'], length 2)"
    assert repr(strings(*MANY)) == "StringArray(['00000', '00001', '00002', …], length 3,000)"
    assert repr(categories("x", "y", "x")) == "CategoricalArray(2 categories, length 3)"


def test_tables_are_concatenated_and_rows_are_taken_with_all_columns():
    one = ImageTable(strings("a", "b"), categories(("x",), ()), {"split": categories("train", "test")})
    other = ImageTable(strings("c"), categories(("y",)), {"weight": categories("2")})
    both = ImageTable.concatenate([one, other]).take(np.array([2, 0, 1]))
    assert list(both.paths) == ["c", "a", "b"]
    assert list(both.labels) == [("y",), ("x",), ()]
    assert {name: list(column) for name, column in both.columns.items()} == {
        "split": ["", "train", "test"],
        "weight": ["2", "", ""],
    }


@pytest.mark.parametrize("names", [[("a",), (), ("b",)], [("b", "a"), (), ("c",)], []])
def test_encoded_labels_decode_to_the_same_names(names):
    encoded = encode_labels(categories(*names, ("unused",)).take(np.arange(len(names))))
    assert "unused" not in encoded.classes
    indicator = None
    if encoded.label_sets:
        indicator = np.zeros((len(names), len(encoded.classes)), bool)
        for row, codes in zip(indicator, encoded.label_sets, strict=True):
            row[list(codes)] = True
        assert encoded.codes.tolist() == [codes[0] if codes else -1 for codes in encoded.label_sets]
    assert list(decode_labels(encoded.classes, encoded.codes, indicator)) == [tuple(sorted(row)) for row in names]


def test_take_accepts_repeated_rows_and_more_rows_than_one_batch():
    rows = np.arange(5000) * 7 % len(ODD)
    assert list(strings(*ODD).take(rows)) == [ODD[row] for row in rows]
    assert list(strings(*ODD)[2:].take(np.array([0, 3, 0]))) == [ODD[2], ODD[5], ODD[2]]


def test_taking_long_strings_needs_little_memory_beyond_the_result():
    values = ["x" * 40_000 + str(row) for row in range(200)]
    found = strings(*values)
    tracemalloc.start()
    taken = found.take(np.arange(200)[::-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * sum(map(len, values))
    assert list(taken) == values[::-1]
