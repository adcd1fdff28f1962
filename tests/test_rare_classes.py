"""Rare classes and few images: trained on wherever they are not tested, and named."""

import dataclasses
import json
import warnings
from contextlib import suppress

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CLASSES, draw
from sklearn.metrics import get_scorer_names, recall_score

from featx.cli.group import main
from featx.errors import DataError, FeatxError, FeatxWarning, NoFolds
from featx.extraction import extract
from featx.heads.metrics.scoring import make_score
from featx.heads.search.head_search_cv import HeadSearchCV
from featx.heads.splitting.folds import make_folds
from featx.heads.splitting.holdout import hold_out
from featx.heads.splitting.rare_classes import find_rare_classes
from featx.inspection import advise, probe, suspects
from featx.inspection.html_report.writer import report
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.spec.extract_spec import ExtractSpec

SPEC = ExtractSpec(size=32, blocks=(1, 2))
GIVEN = {"head": "softmax", "C": 1.0}


def make_store(folder, counts, label=lambda name, _: name):
    """Extract a store of drawn images with so many images per color."""
    lines = ["path,label"]
    for name, count in counts.items():
        for number in range(count):
            color = 2 - CLASSES.index(name) if name in CLASSES else 0
            draw(color, 1000 * len(lines) + number).save(folder / f"{name}{number}.png")
            lines.append(f"{name}{number}.png,{label(name, number)}")
    (folder / "rows.csv").write_text("\n".join(lines))
    extract(folder / "rows.csv", folder / "rows.h5", SPEC)
    return folder / "rows.h5"


@pytest.fixture(scope="session")
def rare(tmp_path_factory, oxford):
    """A store of two classes with twelve images, one class with three, and one with a single image."""
    return make_store(tmp_path_factory.mktemp("rare"), {"blue": 12, "green": 12, "red": 3, "lone": 1})


SAID = (
    "class lone has one image: every fold trains on it and none tests it, so no score covers it",
    "1 class has fewer images than the 5 folds, so not every fold tests it: red (3)",
)


@pytest.mark.core
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("grouped", [False, True])
def test_each_fold_trains_on_every_class_and_tests_what_it_can(seed, grouped):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(["a", "b", "c", "d", "e"], [30, 9, 4, 2, 1]))
    groups = rng.integers(0, 20, len(y)) if grouped else np.arange(len(y))
    folds = make_folds(y, groups, 5, n_repeats=2, seed=seed)
    for train, test in folds:
        assert {*y[train]} == {*"abcde"}
        assert not {*groups[train]} & {*groups[test]}
        assert sorted([*train, *test]) == list(range(len(y)))
    tested = {*np.concatenate([test for _, test in folds[:5]])}
    if not grouped:
        assert len(folds) == 10
        assert {*range(len(y))} - tested == {*np.flatnonzero(y == "e")}
        assert [sum("d" in y[test] for _, test in folds[:5]), sum("c" in y[test] for _, test in folds[:5])] == [2, 4]
    found = find_rare_classes(y, groups, folds, 5)
    assert "e" in found.untested
    assert found.partly_tested.get("c", 9) < 5 or "c" in found.untested


@pytest.mark.core
def test_a_fold_that_would_test_nothing_is_left_out():
    folds = make_folds(["a", "a", "b"], n_splits=5)
    assert [test.tolist() for _, test in folds] in ([[0], [1]], [[1], [0]])
    assert find_rare_classes(["a", "a", "b"], None, folds, 5).to_dict() == {
        "folds": 5, "never_tested": ["b"], "fewer_than_folds": {"a": 2}, "images_never_tested": 1,
    }  # fmt: skip


@pytest.mark.core
def test_a_rare_label_is_trained_on_in_every_fold():
    Y = np.zeros((30, 3), int)
    Y[:15, 0] = Y[10:25, 1] = Y[7, 2] = 1
    folds = make_folds(Y, n_splits=5)
    for train, _ in folds:
        assert Y[train].any(axis=0).all()
        assert (1 - Y[train]).any(axis=0).all()
    tested = np.concatenate([test for _, test in folds])
    assert np.setdiff1d(np.arange(30), tested).tolist() == [7]
    assert find_rare_classes(Y, None, folds, 5, names=["x", "y", "z"]).untested == ("z",)


@pytest.mark.core
@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5])
def test_a_hold_out_trains_on_every_class(test_size):
    labels = np.repeat([0, 1, 2, 3], [30, 5, 2, 1])
    train, test = hold_out(labels, np.arange(38), test_size, seed=0)
    assert {*labels[train]} == {0, 1, 2, 3}
    assert 3 not in labels[test]
    assert abs(len(test) - test_size * 38) <= 2
    many = np.repeat(np.arange(20), 2)
    train, test = hold_out(many, np.arange(40), 0.1, seed=0)
    assert len({*many[train]}) == 20
    assert 2 <= len(test) <= 6


@pytest.mark.core
def test_a_hold_out_without_an_image_to_test_is_refused():
    with pytest.raises(DataError, match=r"--test-size 0\.2 leaves no image to test, because every class needs one"):
        hold_out(np.arange(4), np.arange(4), 0.2, seed=0)
    with pytest.raises(DataError, match=r"--test-size must be a share of the images, above 0 and below 1, got 1\.5"):
        hold_out(np.repeat([0, 1], 9), np.arange(18), 1.5, seed=0)


@pytest.mark.core
def test_fit_goes_on_and_names_what_it_cannot_test(rare, tmp_path):
    with pytest.warns(FeatxWarning) as caught:
        model = fit(rare, tmp_path / "m.featx")
    assert tuple(str(warning.message) for warning in caught) == SAID
    assert model.classes == ("blue", "green", "lone", "red")
    assert load_model(tmp_path / "m.featx").info["rare_classes"] == {
        "folds": 5, "never_tested": ["lone"], "fewer_than_folds": {"red": 3}, "images_never_tested": 1,
    }  # fmt: skip
    assert len(model.info["search"]["best"]["scores"]) == 5


@pytest.mark.core
@pytest.mark.filterwarnings("ignore::featx.errors.FeatxWarning")
@pytest.mark.parametrize("options", [
    {"head": "linear-svc", "C": 1.0, "options": FitOptions(calibrate=True)},
    {**GIVEN, "validation": Validation(nested=True)},
    {**GIVEN, "validation": Validation(repeats=2, scoring="balanced_accuracy")},
    {**GIVEN, "validation": Validation(scoring="roc_auc_ovr")},
    {**GIVEN, "options": FitOptions(class_weight="balanced", normalize="standard")},
])  # fmt: skip
def test_every_way_of_fitting_goes_on(rare, options):
    model = fit(rare, **options)
    assert len(model.classes) == 4
    if model.has_probabilities:
        assert np.isfinite(model.predict_proba(np.ones((2, model.spec.width)))).all()


@pytest.mark.core
def test_a_hold_out_names_the_classes_that_it_does_not_test(rare):
    validation = Validation(test_size=0.25, folds=2)
    said = "1 class has too few images or groups to hold one out, so evaluate does not score them: lone"
    with pytest.warns(FeatxWarning) as caught:
        model = fit(rare, **GIVEN, validation=validation)
    assert str(caught[0].message) == said
    scores = {row["class"]: row["recall"] for row in evaluate(model, rare)["classes"]}
    assert scores["lone"] is None
    assert scores["red"] is not None


@pytest.mark.core
def test_the_command_says_it_in_one_line_each(rare, tmp_path):
    arguments = ["fit", str(rare), "-o", str(tmp_path / "m.featx"), "--head", "softmax", "--C", "1", "--blocks", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == "".join(f"Warning: {line}\n" for line in SAID)
    described = CliRunner().invoke(main, ["info", str(tmp_path / "m.featx")]).stdout
    assert "never tested: lone\nfewer images or groups than 5 folds: red (3)\n" in described


@pytest.fixture(scope="session")
def single(tmp_path_factory, oxford):
    """A store of three classes with one image each."""
    return make_store(tmp_path_factory.mktemp("single"), dict.fromkeys(CLASSES, 1))


@pytest.mark.core
def test_one_image_per_class_is_fitted_if_head_and_c_are_given(single, tmp_path):
    lack = r"^every class has one image to train on, and none to test"
    with pytest.warns(FeatxWarning, match=lack + ": blocks 1-2 are used as they are, and there is no estimate"):
        model = fit(single, tmp_path / "m.featx", **GIVEN)
    best = model.info["search"]["best"]
    assert (best["mean"], best["scores"], best["feature_set"]) == (None, [], "1-2")
    assert "cross-validation: none: every class has one image or group" in repr(load_model(tmp_path / "m.featx"))
    for options in ({}, {"head": "softmax"}, {"C": 1.0}):
        with pytest.raises(NoFolds, match=lack + ", so head and C cannot be chosen: give both, such as --head softmax"):
            fit(single, **options)
    with pytest.raises(NoFolds, match=lack + ", but --nested of fit needs test images: leave it out, or add images"):
        fit(single, **GIVEN, validation=Validation(nested=True))
    with pytest.raises(NoFolds, match=lack + ", but --calibrate of fit needs test images"):
        fit(single, head="linear-svc", C=1.0, options=FitOptions(calibrate=True))


@pytest.mark.core
def test_too_few_images_for_the_nested_estimate_are_reported_before_the_search(tmp_path, oxford, monkeypatch):
    monkeypatch.setattr("featx.models.searched_fit.HeadSearchCV.fit", lambda *_, **__: pytest.fail("the search ran"))
    store = make_store(tmp_path, {"red": 2, "blue": 2})
    with pytest.raises(DataError, match=r"in the training rows of nested cross-validation, .* but each class has one"):
        fit(store, C=1.0, validation=Validation(nested=True, folds=2))


def test_a_model_without_an_estimate_is_described_and_reported(single, tmp_path):
    saved = str(tmp_path / "m.featx")
    result = CliRunner().invoke(main, ["fit", str(single), "-o", saved, "--head", "softmax", "--C", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("no cross-validation: every class has one image or group to train on, and none to")
    assert "cross-validated: no\n" in CliRunner().invoke(main, ["info", saved]).stdout
    written = report(saved, tmp_path / "report.html", store=single)
    assert "each class has one" in written.missing["accuracy"]
    assert {"extraction", "commands"} <= {*written.sections} - {*written.missing}


@pytest.mark.core
def test_five_images_per_class_need_no_option(tmp_path, oxford):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit(make_store(tmp_path, dict.fromkeys(CLASSES, 5)))
    assert model.info["search"]["best"]["mean"] > 0.9
    assert "rare_classes" not in model.info


@pytest.mark.core
@pytest.mark.filterwarnings("ignore::featx.errors.FeatxWarning")
def test_rare_labels_of_several_per_image_are_fitted(tmp_path, oxford):
    def label(name, number):
        return f"{name}|{'odd' if number % 2 else 'even'}" + "|lone" * ((name, number) == ("red", 2))

    store = make_store(tmp_path, dict.fromkeys(CLASSES, 8), label)
    model = fit(store, head="ovr-logistic", C=1.0, validation=Validation(test_size=0.25, folds=3))
    assert "lone" in model.classes
    assert model.info["rare_classes"]["never_tested"] == ["lone"]


@pytest.mark.core
@pytest.mark.filterwarnings("ignore::featx.errors.FeatxWarning")
def test_scores_count_the_tested_classes():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], [20, 20, 1])
    X = rng.standard_normal((41, 5)) + 3 * np.eye(3, 5)[[0] * 20 + [1] * 20 + [2]]
    search = HeadSearchCV(("softmax",), [1.0], scoring="balanced_accuracy", cv=4).fit(X, y)
    expected = []
    for train, test in make_folds(y, n_splits=4, seed=None):
        fitted = HeadSearchCV(("softmax",), [1.0], cv=[(np.arange(len(train)), [0])]).fit(X[train], y[train])
        expected.append(recall_score(y[test], fitted.predict(X[test]), labels=["a", "b"], average="macro"))
    assert search.best_score_ == pytest.approx(np.mean(expected))


@pytest.mark.core
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("scoring", [name for name in get_scorer_names() if name != "top_k_accuracy"])
def test_every_scorer_scores_a_fold_without_a_class_or_refuses(scoring, classes):
    """No scorer of scikit-learn gives a warning or NaN, or counts a class that is not tested."""
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])[:classes]
    y = names[rng.integers(0, classes - 1, 40)]
    decisions = rng.normal(size=(40, classes if classes > 2 else 1))
    with suppress(FeatxError):
        assert np.isfinite(make_score(scoring)("softmax", decisions, y, names))


def test_suspects_check_the_other_labels(tmp_path, oxford):
    store = make_store(tmp_path, {"blue": 16, "green": 16, "lone": 1})
    found = suspects(store)
    (note,) = found.notes
    assert note.startswith("1 label was not checked, those of lone: without the image or its group, no image of the cl")
    assert not {item.label for item in found.mislabeled} & {"lone"}
    assert found.min_cosine is not None


def test_probe_and_advise_measure_the_others_and_name_the_rest(rare):
    found = probe(rare, timed=False)
    assert found.notes == SAID
    assert found.rows == 27
    assert f"note: {SAID[0]}" in repr(found)
    advice = advise(rare, probed=found)
    assert {*SAID} <= {*advice.caveats}
    assert "the smallest class has 1 image, too few to be tested by every draw of the learning curve" in advice.caveats
    assert all(len(point.scores) == 10 for point in advice.size.curve)
    result = CliRunner().invoke(main, ["probe", str(rare), "--no-time", "--json"])
    assert json.loads(result.stdout)["notes"] == list(SAID)
    shown = CliRunner().invoke(main, ["probe", str(rare), "--no-time"])
    assert shown.stderr == "".join(f"note: {line}\n" for line in SAID)


def test_a_report_covers_the_tested_classes(rare, tmp_path):
    with pytest.warns(FeatxWarning):
        fit(rare, tmp_path / "m.featx", **GIVEN, blocks=(1,))
    written = report(tmp_path / "m.featx", tmp_path / "report.html", store=rare)
    assert not written.missing.keys() - {"reliability", "finetuning"}
    page = (tmp_path / "report.html").read_text()
    assert "1 image; classes: lone" in page
    assert "No fold tests a class with one image or group: lone." in page
    assert f"{SAID[0][0].upper()}{SAID[0][1:]}." in page


@pytest.mark.slow
def test_fine_tuning_goes_on(rare, tmp_path):
    from featx.finetuning.recipe import Recipe
    from featx.finetuning.starting_point import read_finetune_data

    with pytest.warns(FeatxWarning):
        model = fit(rare, tmp_path / "m.featx", **GIVEN)
    said = "2 classes have too few images or groups for validation, so all of them are trained on: lone, red"
    with pytest.warns(FeatxWarning, match=f"^{said}$"):
        data = read_finetune_data(model, rare, Recipe(val_size=0.1))
    assert {*data.train.labels} == {0, 1, 2, 3}
    assert dataclasses.is_dataclass(data)
