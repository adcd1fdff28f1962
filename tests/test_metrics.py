"""Reports of scores equal scikit-learn and cases computed by hand, and are formatted as text."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from featx.errors import DataError
from featx.heads.metrics.multiclass import score_report
from featx.heads.metrics.report_text import format_report

pytestmark = pytest.mark.core


def _draw(seed, rows, classes, absent=()):
    generator = np.random.default_rng(seed)
    truth = generator.choice([index for index in range(classes) if index not in absent], rows)
    decision = generator.normal(size=(rows, classes))
    decision[np.arange(rows), truth] += 1
    probability = np.exp(decision) / np.exp(decision).sum(axis=1, keepdims=True)
    return truth, decision, [f"c{index:02}" for index in range(classes)], probability


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 60), classes=st.integers(3, 9))
def test_the_report_equals_sklearn(seed, rows, classes):
    truth, decision, names, _ = _draw(seed, rows, classes, absent=(1,))
    report, predicted = score_report(truth, decision, names), decision.argmax(axis=1)
    assert report["n"] == rows
    assert report["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    expected = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    assert report["confusion"] == expected.tolist()
    scores = metrics.precision_recall_fscore_support(truth, predicted, labels=range(classes), zero_division=0)
    keys = ("precision", "recall", "f1", "n")
    np.testing.assert_allclose([[row[key] or 0 for key in keys] for row in report["classes"]], np.transpose(scores))
    assert report["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about predicted classes that have no rows.
        assert report["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    if classes > 5:
        top = metrics.top_k_accuracy_score(truth, decision, k=5, labels=range(classes))
        assert report["top5_accuracy"] == pytest.approx(top)


def test_two_classes_may_have_one_column_of_decisions_or_two():
    truth, decision = [0, 1, 1, 0], np.array([-1.0, 2.0, -0.5, 0.0])
    report = score_report(truth, decision, ["cat", "dog"])
    assert report["confusion"] == [[2, 0], [1, 1]]
    assert report["classes"][1] == {"class": "dog", "n": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert report == score_report(truth, np.stack([-decision, decision], axis=1), ["cat", "dog"])


def test_absent_classes_have_no_score_and_no_weight():
    report = score_report([0, 0, 1], np.eye(4)[[0, 0, 2]], ["a", "b", "c", "d"])
    assert [row["recall"] for row in report["classes"]] == [1.0, 0.0, None, None]
    assert [row["precision"] for row in report["classes"]] == [1.0, None, 0.0, None]
    assert [row["f1"] for row in report["classes"]] == [1.0, 0.0, 0.0, None]
    assert report["balanced_accuracy"] == 0.5
    assert report["macro_f1"] == pytest.approx(1 / 3)


def test_top5_needs_more_than_five_classes():
    decision = np.array([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
    assert score_report([4, 5], decision, list("abcdef"))["top5_accuracy"] == 0.5
    assert score_report([4, 3], decision[:, :5], list("abcde"))["top5_accuracy"] is None


def test_calibration_error_by_hand():
    probability = [[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [0.0, 1.0]]
    # Bins: (0.9, one right of two), (0.55, right), (1.0, right).
    expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.55) + 0) / 4
    report = score_report([0, 1, 1, 1], [-1.0, -1, 1, 1], ["a", "b"], probability)
    assert report["calibration_error"] == pytest.approx(expected)
    assert score_report([0], [1.0], ["a", "b"])["calibration_error"] is None


def test_calibration_error_equals_a_loop_over_bins():
    truth, decision, names, probability = _draw(3, 400, 7)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert score_report(truth, decision, names, probability)["calibration_error"] == pytest.approx(expected)


def test_the_report_consists_of_json_values():
    truth, decision, names, probability = _draw(0, 50, 8, absent=(2, 3))
    report = score_report(truth, decision, names, probability)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    ("truth", "decision", "message"),
    [
        ([], np.zeros((0, 3)), r"labels to score must be a one-dimensional array with one row or more, got"),
        ([[0]], np.zeros((1, 3)), r"one-dimensional array .* got shape \(1, 1\)"),
        ([0, 1], np.zeros((2, 4)), r"decisions for 2 rows must have shape \(2, 3\), got \(2, 4\)"),
        ([0, 1], np.zeros(2), r"decisions for 2 rows must have shape \(2, 3\), got \(2,\)"),
        ([0, 3], np.zeros((2, 3)), r"labels to score must be integers from 0 to 2, got \[0, 3\]"),
        ([0, -1], np.zeros((2, 3)), r"must be integers from 0 to 2, got \[-1, 0\]"),
        ([0.0, 1.0], np.zeros((2, 3)), "must be integers from 0 to 2"),
        ([0], np.array([[0, np.nan, 1]]), "decisions to score must be finite, got NaN or infinity"),
    ],
)
def test_bad_input_is_refused(truth, decision, message):
    with pytest.raises(DataError, match=message):
        score_report(truth, decision, ["a", "b", "c"])


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"probabilities to score must have shape \(1, 3\), got \(1, 2\)"):
        score_report([0], np.zeros((1, 3)), ["a", "b", "c"], [[0.5, 0.5]])


def test_the_text_of_few_classes_has_the_confusion_matrix():
    report = score_report([0, 0, 1], np.eye(3)[[0, 1, 1]], ["cat", "dog", "owl"], np.eye(3)[[0, 1, 1]])
    assert format_report(report).splitlines() == [
        "rows                         3",
        "accuracy                     0.6667",
        "balanced accuracy            0.7500",
        "macro F1                     0.6667",
        "expected calibration error   0.3333",
        "",
        "class      n precision    recall        F1",
        "cat        2     1.000     0.500     0.667",
        "dog        1     0.500     1.000     0.667",
        "owl        0         -         -         -",
        "",
        "   true \\ predicted 1 2 3",
        " 1 cat              1 1 0",
        " 2 dog              0 1 0",
        " 3 owl              0 0 0",
    ]


def test_the_text_of_many_classes_has_the_worst_of_them():
    truth = np.repeat(np.arange(40), 10)
    predicted = truth.copy()
    predicted[70:74] = 8  # four of class 7
    predicted[300:303] = 2  # three of class 30
    lines = format_report(score_report(truth, np.eye(40)[predicted], [f"c{index:02}" for index in range(40)])).split(
        "\n"
    )
    assert "top-5 accuracy" in lines[4]
    table = lines.index(next(line for line in lines if line.startswith("class (30 worst of 40)")))
    assert [line.split()[0] for line in lines[table + 1 : table + 5]] == ["c07", "c30", "c08", "c02"]
    assert lines.index("") < table
    assert lines[table + 31] == ""
    assert lines[table + 32 :] == [
        "most often confused",
        "     4  c07 taken for c08",
        "     3  c30 taken for c02",
    ]


def test_the_text_without_confusions_ends_with_the_table():
    report = score_report(np.arange(25), np.eye(25), [f"c{index}" for index in range(25)])
    assert format_report(report).splitlines()[-1].startswith("c24 ")


def test_unprintable_class_names_are_escaped():
    report = score_report([0, 1], [-1.0, 1.0], ["a\nb\udcff\x1b[2J", "é🌼" + "x" * 60])
    text = format_report(report)
    assert "".join(text.splitlines()).isprintable()
    assert "a\\nb\\udcff\\x1b[2J " in text
    assert "é🌼" + "x" * 27 + "… " in text
    text.encode()
