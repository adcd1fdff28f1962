"""A fit that does not converge says so in one line of featx, keeps it in the model, and shows it in ``featx info``."""

import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import draw
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from featx.extraction import extract
from featx.heads.pipeline import linear_heads
from featx.heads.pipeline.convergence import not_converged
from featx.heads.pipeline.linear_heads import HEADS, make_head
from featx.heads.pipeline.refitting import refit, refit_calibrated
from featx.heads.splitting.folds import make_folds
from featx.models import streamed_softmax
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.spec.extract_spec import ExtractSpec

LINE = (
    r"{} with C = {} did not converge in [\d,]+ iterations?{}, so its weights are only approximate; give a smaller C{}"
)


def contradictory_rows(rows=40, columns=192, classes=3):
    """Return pairs of nearly equal rows with different labels, which no plane separates."""
    rng = np.random.default_rng(0)
    X = np.repeat(np.abs(rng.normal(size=(rows // 2, columns))), 2, axis=0) + 1e-5 * rng.normal(size=(rows, columns))
    return X.astype(np.float32), np.array(["ant", "bee", "cat"])[np.arange(rows) % classes]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with pairs of nearly equal images that have different labels."""
    folder = tmp_path_factory.mktemp("hard")
    for number in range(36):
        name = "ab"[number % 2]
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        image = draw(number // 2 % 3, number // 2)
        image.putpixel((0, 0), (number, 0, 0))
        image.save(folder / "photos" / name / f"{number}.png")
    extract(folder / "photos", folder / "photos.h5", ExtractSpec(size=32, blocks=(1, 2)))
    return folder / "photos.h5"


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("normalize", ["power", "none"])
def test_a_solver_that_stops_is_one_warning_with_head_and_c(normalize, classes):
    X, y = contradictory_rows(classes=classes)
    with pytest.warns() as caught:
        pipeline = refit(make_head("linear-svc", 1e6, normalize=normalize), X, y)
    (warning,) = caught
    assert issubclass(warning.category, ConvergenceWarning)
    remedy = ", or normalize the features" if normalize == "none" else ""
    assert re.fullmatch(LINE.format("linear-svc", r"1e\+06", "", remedy), str(warning.message))
    assert not_converged(pipeline) == str(warning.message)
    assert type(pipeline.named_steps["head"]) is LinearSVC
    assert not_converged(refit(make_head("linear-svc", 1e-3), X, y)) is None


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("head", HEADS)
def test_classes_that_do_not_converge_are_counted_in_every_process(head, jobs, monkeypatch):
    monkeypatch.setattr(linear_heads, "ESTIMATOR_MAX_ITER", 2)
    X, y = contradictory_rows()
    classes = " for 3 of 3 classes" if head == "ovr-logistic" else ""
    with pytest.warns(ConvergenceWarning, match=LINE.format(head, 100, classes, "$")) as caught:
        pipeline = refit(make_head(head, 100.0), X, y, jobs=jobs)
    assert len(caught) == 1
    step = pipeline.named_steps["head"]
    parts = step.estimators_ if isinstance(step, OneVsRestClassifier) else [step]
    assert {type(part) for part in parts} == {LinearSVC if head == "linear-svc" else LogisticRegression}
    assert not any("stopped_" in vars(part) for part in (step, *parts))


@pytest.mark.parametrize("head", ["linear-svc", "ovr-logistic"])
def test_multilabel_heads_are_named(head, monkeypatch):
    monkeypatch.setattr(linear_heads, "ESTIMATOR_MAX_ITER", 2)
    X, y = contradictory_rows()
    Y = (y[:, np.newaxis] == np.unique(y)).astype(int)
    with pytest.warns(ConvergenceWarning, match=LINE.format(head, 100, " for 3 of 3 classes", "")):
        refit(make_head(head, 100.0, multilabel=True), X, Y)


def test_other_warnings_of_a_solver_are_kept():
    X, y = contradictory_rows()
    Y = np.column_stack([y == "ant", np.ones(len(y), bool)]).astype(int)
    with pytest.warns(UserWarning, match="Label 1 is present in all training examples"):
        refit(make_head("ovr-logistic", multilabel=True), X, Y)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_calibration_warns_once_for_all_folds(jobs):
    X, y = contradictory_rows(classes=2)
    with pytest.warns() as caught:
        pipeline, _ = refit_calibrated(make_head("linear-svc", 1e6), X, y, make_folds(y, n_splits=3), jobs=jobs)
    assert [str(warning.message) for warning in caught] == [not_converged(pipeline)]


def test_folds_that_do_not_converge_are_said_too():
    """LinearSVC solves the dual of a fold's few rows, and the primal of all rows, which converges."""
    X, y = contradictory_rows(classes=2)
    more = np.random.default_rng(1).normal(size=(160, X.shape[1])).astype(np.float32)
    rows, labels = np.vstack([X, more]), np.concatenate([y, np.repeat(["ant", "bee"], 80)])
    folds = [(np.arange(40), np.arange(40, 200)), (np.arange(200), np.arange(40))]
    with pytest.warns() as caught:
        fitted, _ = refit_calibrated(make_head("linear-svc", 1e6), rows, labels, folds)
    assert [str(warning.message) for warning in caught] == [not_converged(fitted)]
    line = LINE.format("linear-svc", r"1e\+06", "", "")
    assert re.fullmatch(f"in 1 of 2 folds of the calibration, {line}", not_converged(fitted))


@pytest.mark.filterwarnings("ignore:20 of 36 images have near-duplicates")
def test_the_model_and_info_say_it(store, tmp_path):
    path = tmp_path / "photos.featx"
    with pytest.warns(ConvergenceWarning, match=LINE.format("linear-svc", r"1e\+06", "", "$")) as caught:
        fit(store, path, head="linear-svc", blocks=2, C=1e6, validation=Validation(folds=2))
    said = [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    model = load_model(path)
    assert said == [model.info["not_converged"]]
    assert f"not converged: {model.info['not_converged']}" in repr(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fine = fit(store, head="linear-svc", blocks=2, C=1e-3, validation=Validation(folds=2))
    assert "not_converged" not in fine.info


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featx", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_the_command_line_shows_one_line(store, tmp_path):
    path = tmp_path / "photos.featx"
    options = ("--head", "linear-svc", "--blocks", "2", "--C", "1e6", "--folds", "2", "--calibrate")
    said = [line for line in run_command("fit", store, "-o", path, *options).stderr.splitlines() if "converge" in line]
    assert len(said) == 1
    assert re.fullmatch("Warning: " + LINE.format("linear-svc", r"1e\+06", "", ""), said[0])
    text = said[0].removeprefix("Warning: ")
    assert f"not converged: {text}\n" in run_command("info", path).stdout
    assert json.loads(run_command("info", path, "--json").stdout)["not_converged"] == text


def test_a_streamed_fit_says_and_records_the_same(shared_store, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_heads, "ESTIMATOR_MAX_ITER", 2)
    monkeypatch.setattr(streamed_softmax, "ESTIMATOR_MAX_ITER", 2)
    options = {"head": "softmax", "blocks": 2, "C": 1e4}
    line = LINE.format("softmax", 10000, "", "$")
    with pytest.warns(ConvergenceWarning, match=line):
        searched = fit(shared_store, validation=Validation(folds=2), **options)
    with pytest.warns(ConvergenceWarning, match=line) as caught:
        streamed = fit(shared_store, tmp_path / "s.featx", options=FitOptions(stream=True), **options)
    assert streamed.info["not_converged"] == searched.info["not_converged"] == str(caught[0].message)
    assert load_model(tmp_path / "s.featx").info["not_converged"] == streamed.info["not_converged"]
