import os
import tracemalloc

import numpy as np
import pytest

from featx.table import arrays as texts
from featx.table.arrays import CategoricalArray, StringArray
from featx.table.rows import Rows, encode_labels, names_of

ODD = ["b", "", "ä", os.fsdecode(b"\xff.jpg"), "🌻", "a", "b"]
MANY = [f"{number:05d}" for number in range(3000)]


@pytest.mark.parametrize("values", [ODD, MANY, [*MANY, "ä"], []])
def test_strings_come_back(values):
    found = StringArray.of(values)
    assert list(found) == values
    assert [found[row] for row in range(-len(values), len(values))] == values * 2
    assert len(found) == len(values)
    assert list(found[1::2]) == values[1::2]
    assert list(StringArray.joined([found[2:], found[:2]])) == values[2:] + values[:2]
    assert list(found.take(np.arange(len(values))[::-1])) == values[::-1]


def test_there_is_no_row_after_the_last():
    with pytest.raises(IndexError):
        StringArray.of(["a"])[1]


def test_strings_are_sorted_by_their_bytes():
    found = StringArray.of(ODD)
    assert found.order().tolist() == [1, 5, 0, 6, 2, 4, 3]
    assert not found.is_rising()


@pytest.mark.parametrize(
    ("values", "rising"),
    [([], True), (["a"], True), (MANY, True), (["a", "a"], False), ([*MANY, "02999"], False), ([*MANY, "0"], False)],
)
def test_rising_is_strict(values, rising):
    assert StringArray.of(values).is_rising() == rising


def test_strings_are_found_where_they_stand_first():
    found = StringArray.of(ODD)
    assert found.find(StringArray.of(["🌻", "none", "b", os.fsdecode(b"\xff.jpg"), ""])).tolist() == [4, -1, 0, 3, 1]
    assert found.find(StringArray.of([])).tolist() == []
    assert StringArray.of([]).find(found).tolist() == [-1] * len(ODD)


def test_equal_hashes_are_told_apart(monkeypatch):
    monkeypatch.setattr(texts, "hash", lambda value: 7, raising=False)
    assert StringArray.of(["a", "b", "c"]).find(StringArray.of(["c", "x", "a"])).tolist() == [2, -1, 0]


def test_columns():
    column = CategoricalArray.of(["x", "y", "x"])
    assert (list(column), column[1], column.values) == (["x", "y", "x"], "y", ("x", "y"))
    assert list(column[1:]) == ["y", "x"]
    assert list(CategoricalArray.joined([column, CategoricalArray.of([]), CategoricalArray.of(["z", "y"])])) == [
        "x",
        "y",
        "x",
        "z",
        "y",
    ]
    assert column.take(np.array([0, 2])).used() == ["x"]
    assert list(CategoricalArray.filled("", 2)) == ["", ""]


def test_rows_are_taken_and_joined_with_all_their_columns():
    one = Rows(
        StringArray.of(["a", "b"]), CategoricalArray.of([("x",), ()]), {"split": CategoricalArray.of(["train", "test"])}
    )
    other = Rows(StringArray.of(["c"]), CategoricalArray.of([("y",)]), {"weight": CategoricalArray.of(["2"])})
    both = Rows.joined([one, other]).take(np.array([2, 0, 1]))
    assert list(both.paths) == ["c", "a", "b"]
    assert list(both.labels) == [("y",), ("x",), ()]
    assert {name: list(column) for name, column in both.splits.items()} == {
        "split": ["", "train", "test"],
        "weight": ["2", "", ""],
    }


@pytest.mark.parametrize("names", [[("a",), (), ("b",)], [("b", "a"), (), ("c",)], []])
def test_labels_become_numbers_and_names_again(names):
    coded = encode_labels(CategoricalArray.of([*names, ("unused",)]).take(np.arange(len(names))))
    assert "unused" not in coded.classes
    indicator = None
    if coded.sets:
        indicator = np.zeros((len(names), len(coded.classes)), bool)
        for row, codes in zip(indicator, coded.sets, strict=True):
            row[list(codes)] = True
        assert coded.codes.tolist() == [codes[0] if codes else -1 for codes in coded.sets]
    assert list(names_of(coded.classes, coded.codes, indicator)) == [tuple(sorted(row)) for row in names]


def test_taken_strings_may_repeat_and_be_more_than_are_taken_at_once():
    rows = np.arange(5000) * 7 % len(ODD)
    assert list(StringArray.of(ODD).take(rows)) == [ODD[row] for row in rows]
    assert list(StringArray.of(ODD)[2:].take(np.array([0, 3, 0]))) == [ODD[2], ODD[5], ODD[2]]


def test_long_strings_are_taken_in_little_more_than_their_room():
    values = ["x" * 40_000 + str(row) for row in range(200)]
    found = StringArray.of(values)
    tracemalloc.start()
    taken = found.take(np.arange(200)[::-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * sum(map(len, values))
    assert list(taken) == values[::-1]
