import numpy as np
import pytest

from featx.errors import DataError, FeatxError, SpecError
from featx.table.arrays import CategoricalArray, StringArray
from featx.table.image_table import ImageTable
from featx.table.query import MAX_LENGTH, find_rows

pytestmark = pytest.mark.core

ROWS = ImageTable(
    StringArray.from_strings(["rose/1.jpg", "rose/2.jpg", "tulip/1.jpg", "none.jpg", "both.jpg"]),
    CategoricalArray.from_values([("rose",), ("rose",), ("tulip",), (), ("rose", "tulip")]),
    {
        "split_0": CategoricalArray.from_values(["train", "test", "train", "", "train"]),
        "weight": CategoricalArray.from_values(["0.5", "1", "-2", "", "1e1"]),
    },
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("label == 'rose'", [0, 1, 4]),
        ("'rose' == label", [0, 1, 4]),
        ("label != 'rose'", [2, 3]),
        ("'rose' in label", [0, 1, 4]),
        ("'ros' in label", []),
        ("label in ('tulip', '')", [2, 3, 4]),
        ("label not in ['tulip']", [0, 1, 3]),
        ("label == ''", [3]),
        ("label == 'rose' and split_0 == 'train'", [0, 4]),
        ("not (label == 'rose' or label == 'tulip')", [3]),
        (" split_0 == 'test' or weight < 0 ", [1, 2]),
        ("weight > 0.5", [1, 4]),
        ("0.5 < weight", [1, 4]),
        ("0.5 <= weight < 10", [0, 1]),
        ("weight == -2", [2]),
        ("weight in (1, 10)", [1, 4]),
        ("weight != 1", [0, 2, 3, 4]),
        ("not weight == 1", [0, 2, 3, 4]),
        (r"'\d' in path", []),
        ("'/1' in path", [0, 2]),
        ("'/1' not in path", [1, 3, 4]),
        ("path < 'r'", [3, 4]),
        ("'rose' < path < 'rose/2'", [0]),
        ("label in ()", []),
        ("'e' in weight", [4]),
    ],
)
def test_a_query_selects_the_right_rows(expression, rows):
    assert np.flatnonzero(find_rows(ROWS, expression)).tolist() == rows


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "lable == 'rose'",
            "a name in a query must be one of path, label, split_0, weight, got 'lable' in \"lable == 'rose'\"",
        ),
        ("label", "a query must consist of comparisons such as .*, got 'label' in 'label'"),
        ("label = 'rose'", "a query must consist of comparisons .*, got \"label = 'rose'\": invalid syntax"),
        ("", "a query must consist of comparisons .*, got '': invalid syntax"),
        ("a\0b", "a query must consist of comparisons"),
        ("label == path", "a query must consist of .*, got 'path'"),
        ("label == True", "a query must consist of .*, got 'True'"),
        ("label is None", "a query must consist of .*, got 'label'"),
        ("'a' == 'b'", "a query must consist of .*, got \"'a'\""),
        ("label in 'rose'", r"a query must have a list after in, such as \('train', 'val'\) or \('train',\), got "),
        ("label not in ('red')", "a query must have a list after in, .*, got \"'red'\" in"),
        ("1 in label", "a query must have a string before in, such as '1', got '1' in '1 in label'"),
        ("5in path", "a query must have a string before in, such as '5', got '5' in '5in path'"),
        ("-1.5 not in weight", "a query must have a string before in, such as '-1.5', got '-1.5' in"),
        (" or ".join(["label"] * 100), f"got 'label' in '{('label or ' * 30)[:200]}…'$"),
        ("a b" * 1000, f"got '{('a b' * 100)[:200]}…': "),
        ("weight > -'1'", "a query must consist of"),
        ("__import__('os').remove('x') == 1", r"a query must consist of .*, got \"__import__\('os'\)\.remove\('x'\)\""),
        ("label.__class__ == 'x'", "a query must consist of .*, got 'label.__class__'"),
        ("(lambda: 1)() == label", r"a query must consist of .*, got '\(lambda: 1\)\(\)'"),
        ("[x for x in ()] == label", "a query must consist of"),
        ("-weight > 1", "a query must consist of .*, got '-weight'"),
        ("(" * 3000 + "label == 'a'" + ")" * 3000, "a query must consist of"),
        ("not " * 2400 + "label == 'a'", "a query must consist of"),
        ("x" * (MAX_LENGTH + 1), "a query must have at most 10,000 characters, got 10,001"),
    ],
)
def test_invalid_queries_are_refused(expression, message):
    with pytest.raises(SpecError, match=message):
        find_rows(ROWS, expression)


def test_comparing_a_text_column_with_a_number_is_refused():
    message = "split_0 has the value 'train', which is not a number; compare the column with a string, such as '3'"
    with pytest.raises(DataError, match=message):
        find_rows(ROWS, "split_0 > 3")
    with pytest.raises(DataError, match=r"compare the column with a string, such as '9{200}…'$"):
        find_rows(ROWS, "split_0 > " + "9" * 4000)


def test_comparing_path_or_label_with_a_number_is_refused():
    for expression in ("path == 1", "label < 2"):
        with pytest.raises(FeatxError):
            find_rows(ROWS, expression)
