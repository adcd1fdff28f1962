"""What models, reports and options look like in a terminal and in a notebook."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import HOSTILE_CLASS

from featx.errors import SpecError
from featx.models.evaluation import evaluate, score_rows
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.prediction import Prediction
from featx.models.training_rows import read_training_rows
from featx.models.transformer import VGG16Features
from featx.runtime import Compute, html_table, shorten_list


@pytest.fixture(scope="module")
def model(shared_store):
    validation = Validation(folds=3, test_size=0.25)
    return fit(shared_store, head="softmax", blocks=(1, 3), C=1.0, validation=validation)


def test_a_model_is_shown_in_a_few_lines(model):
    assert repr(model).splitlines()[:-1] == [
        "<Model: softmax, C = 1",
        "  classes: 3 (blue, green, red)",
        "  features: blocks 1, 3, avg, max: 640 columns",
        "  images: 32 pixels, squash; backbone oxford, fp32",
        "  fitted on: 27 of 36 rows, 25% held out",
    ]
    assert repr(model).splitlines()[-1].startswith("  cross-validation: accuracy ")


def test_a_model_with_any_info_is_shown(model):
    assert len(repr(dataclasses.replace(model, info={})).splitlines()) == 4


def test_class_names_are_escaped_in_html(hostile_model):
    model = load_model(hostile_model)
    assert HOSTILE_CLASS in model.classes
    html = model._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "://" not in html
    assert len(html) < 2500


def test_html_accepts_names_that_are_not_utf8():
    html_table("caf\udce9", {"class": "caf\udce9"}).encode()


def test_an_evaluation_report_is_a_dictionary_with_a_short_display(model, shared_store):
    report = evaluate(model, shared_store)
    assert json.loads(json.dumps(report)) == report
    assert len(repr(report).splitlines()) == 2
    assert repr(report).startswith(f"<EvaluationReport: 9 rows of {shared_store}\n  accuracy 1.0000, ")
    assert "<td" in report._repr_html_()
    report["unknown"] = 2
    assert "2 without a known label not scored" in repr(report)


def test_predictions_are_shown_with_their_best_classes():
    found = Prediction("a.jpg", ("red", "blue", "green", "ant"), (0.9, 0.06, 0.03, 0.01), (3.0, 1.0, 0.5, 0.1))
    assert repr(found) == "Prediction('a.jpg': red (p 0.9), blue (p 0.06), green (p 0.03), … 1 more)"
    assert repr(Prediction("b.jpg", ("red",), None, (-0.5,))) == "Prediction('b.jpg': red (decision -0.5))"
    assert repr(Prediction("c.jpg")) == "Prediction('c.jpg': no class)"
    assert repr(Prediction("d.jpg", reason="empty file")) == "Prediction('d.jpg', reason='empty file')"


def test_rows_are_shown_by_their_counts(model, shared_store):
    rows = read_training_rows(shared_store, blocks=(1,))
    assert repr(rows) == "TrainingRows(36 rows of 36 images, 128 columns, 3 classes)"
    assert repr(score_rows(model, shared_store)) == "ScoredRows(9 rows, 3 classes, 0 unknown)"


def test_options_show_only_what_differs_from_the_defaults():
    assert repr(FitOptions()) == "FitOptions()"
    options = FitOptions(calibrate=True, sample_weight=np.ones(1000))
    assert repr(options) == "FitOptions(sample_weight=<array of shape (1000,)>, calibrate=True)"
    assert repr(Validation(folds=3, select="one-se")) == "Validation(folds=3, select='one-se')"
    transformer = VGG16Features(blocks="3-4", compute=Compute(device="cuda"))
    assert len(repr(transformer)) < 400


def test_long_lists_are_shortened():
    names = list("abcdefgh")
    assert shorten_list(names[:5]) == "a, b, c, d, e"
    assert shorten_list(names) == "a, b, c, d, … h"
    assert shorten_list(["caf\udce9", "é\x1b[31m"]) == "caf\\udce9, é\\x1b[31m"


@pytest.mark.parametrize(
    ("group", "option", "message"),
    [
        (FitOptions, {"normalize": "l2"}, "--normalize of fit must be one of power, standard, none, got 'l2'"),
        (FitOptions, {"class_weight": "rare"}, "--class-weight of fit must be one of balanced, got 'rare'"),
        (Validation, {"select": "worst"}, "--select of fit must be one of best, one-se, got 'worst'"),
    ],
)
def test_invalid_options_are_named(group, option, message):
    with pytest.raises(SpecError, match=message):
        group(**option)
