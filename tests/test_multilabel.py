"""Multi-label images, from the manifest to the prediction."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SPEC, draw
from PIL import Image
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from featx.cli.group import main
from featx.curation.dataset import load_features
from featx.errors import DataError, FeatxWarning
from featx.extraction import AssemblyOptions, extract
from featx.heads.pipeline.linear_heads import MULTILABEL_HEADS
from featx.heads.pipeline.normalizer import BlockNormalizer
from featx.inspection.summary import describe
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.prediction import predict
from featx.models.training_rows import read_training_rows
from featx.runtime.compute import Compute
from featx.store.reader import Store

pytestmark = pytest.mark.core


def label_of(number):
    """Return the labels of an image by its number: red, blue, or both."""
    return ("red", "blue", "red|blue")[number % 3]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Thirty images that are red, blue or both, a copy of the first, and one image without a label."""
    folder = tmp_path_factory.mktemp("multilabel")
    lines = ["path,label,split"]
    for number in range(30):
        pixels = np.array(draw(0 if number % 3 == 0 else 2, number))
        if number % 3 == 2:
            pixels[..., 0] = np.minimum(pixels[..., 0] + 120, 255)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        lines.append(f"{number:02}.png,{label_of(number)},{'test' if number >= 24 else 'train'}")
    (folder / "30.png").write_bytes((folder / "00.png").read_bytes())
    draw(1, 99).save(folder / "31.png")
    lines += ["30.png,red,train", "31.png,,train"]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def multilabel_store(manifest, oxford):
    path = manifest.parent / "multilabel.h5"
    extract(manifest, path, SPEC)
    return path


def test_the_store_keeps_all_labels(multilabel_store):
    with Store(multilabel_store) as store:
        assert store.classes == ["blue", "red"]
        wanted = [["blue" in label_of(number), "red" in label_of(number)] for number in range(30)]
        np.testing.assert_array_equal(store.multilabel_targets, [*wanted, [False, True], [False, False]])
    facts = describe(multilabel_store)
    assert (facts["classes"], facts["with several labels"], facts["unlabeled"]) == ({"blue": 20, "red": 21}, 10, 1)
    with pytest.warns(FeatxWarning, match="1 row of"):
        target = load_features(multilabel_store, blocks=1).target
    assert (target.shape, target.dtype, target.sum()) == ((31, 2), np.int64, 41)


def test_labels_change_with_the_manifest(manifest, tmp_path):
    (tmp_path / "m.csv").write_text("path,label\n00.png,red|blue\n01.png,red\n02.png,\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent)
    (tmp_path / "m.csv").write_text("path,label\n03.png,ant\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent, assembly=AssemblyOptions("keep"))
    with Store(tmp_path / "p.h5") as store:
        assert (store.paths, store.classes) == (["00.png", "01.png", "02.png", "03.png"], ["ant", "blue", "red"])
        np.testing.assert_array_equal(
            store.multilabel_targets, np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
        )
    (tmp_path / "m.csv").write_text("path,label\n00.png,red\n03.png,ant\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent, assembly=AssemblyOptions("drop"))
    with Store(tmp_path / "p.h5") as store:
        assert (store.multilabel_targets, store.labels.tolist()) == (None, [1, 0])


@pytest.mark.parametrize("head", MULTILABEL_HEADS)
def test_fit_save_evaluate_and_predict(multilabel_store, manifest, tmp_path, head):
    fit(multilabel_store, tmp_path / "m.featx", head=head, blocks=(1, 2), validation=Validation(folds=3))
    model = load_model(tmp_path / "m.featx")
    assert (model.multilabel, model.classes, model.info["rows"]) == (True, ("blue", "red"), 25)
    assert model.info["search"]["scoring"] == "average_precision_macro"
    report = evaluate(model, multilabel_store)
    assert (report["n"], report["unknown"]) == (6, 0)
    assert report["micro_average_precision"] == report["macro_average_precision"] == 1
    assert (report["calibration_error"] is None) == (head == "linear-svc")
    found = {Path(row.path).name: row for row in predict(model, [manifest])}
    assert {name: set(row.classes) for name, row in found.items() if name < "30"} == {
        f"{number:02}.png": set(label_of(number).split("|")) for number in range(30)
    }
    assert all(decision > 0 for row in found.values() for decision in row.decisions)
    assert [len(row.classes) for row in predict(model, [multilabel_store], top=2)] == [2] * 32
    again = tmp_path / "again.featx"
    model.save(again)
    assert again.read_bytes() == (tmp_path / "m.featx").read_bytes()


def test_the_saved_head_equals_that_of_sklearn(multilabel_store):
    model = fit(multilabel_store, head="linear-svc", blocks=(1,), C=0.5, validation=Validation(folds=3))
    rows = read_training_rows(multilabel_store, blocks=(1,))
    X = BlockNormalizer((64, 64)).fit_transform(rows.X)
    expected = OneVsRestClassifier(LinearSVC(C=0.5, random_state=0, max_iter=10_000)).fit(X, rows.y)
    np.testing.assert_allclose(model.decision_function(rows.X), expected.decision_function(X), atol=1e-9)
    np.testing.assert_array_equal(model.predict(rows.X), expected.predict(X))


@pytest.mark.slow
def test_evaluate_scores_the_held_out_rows(multilabel_store):
    model = fit(
        multilabel_store, blocks=(1,), C=1.0, validation=Validation(folds=3, test_size=0.2), compute=Compute(workers=2)
    )
    assert model.head in MULTILABEL_HEADS
    report = evaluate(model, multilabel_store)
    assert report["n"] + model.info["rows"] == 31


def test_models_and_stores_with_one_and_several_labels(multilabel_store, manifest, tmp_path):
    (tmp_path / "one.csv").write_text("path,label\n00.png,red\n01.png,blue\n02.png,ant\n03.png,red\n04.png,blue\n")
    extract(tmp_path / "one.csv", tmp_path / "one.h5", SPEC, root=manifest.parent)
    multilabel = fit(multilabel_store, head="ovr-logistic", blocks=(1, 2), validation=Validation(folds=3))
    # A model that was fitted on other images.
    other = dataclasses.replace(multilabel, fitted_image_ids=np.zeros(1, np.uint64))
    report = evaluate(other, tmp_path / "one.h5")
    assert (report["n"], report["unknown"], report["subset_accuracy"]) == (4, 1, 1.0)
    (tmp_path / "one.csv").write_text("path,label\n00.png,red\n01.png,blue\n03.png,red\n04.png,blue\n")
    extract(tmp_path / "one.csv", tmp_path / "one.h5", SPEC, root=manifest.parent, assembly=AssemblyOptions("drop"))
    one = fit(tmp_path / "one.h5", head="ovr-logistic", blocks=(1,), C=1.0, validation=Validation(folds=2))
    assert not one.multilabel
    with pytest.raises(
        DataError, match=r"multilabel.h5 is multi-label, but the model is not; fit a model on a multi-label store"
    ):
        evaluate(one, multilabel_store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "softmax"}, r"--head softmax of fit takes one label per image, but .* is multi-label; give"),
        ({"head": "linear-svc", "options": FitOptions(calibrate=True)}, "--calibrate of fit takes one label per image"),
        ({"options": FitOptions(calibrate=True)}, "give --head ovr-logistic, which has probabilities, or linear-svc"),
    ],
)
def test_options_that_multilabel_stores_refuse(multilabel_store, options, message):
    with pytest.raises(DataError, match=message):
        fit(multilabel_store, **options)


def test_the_commands_for_a_multilabel_store(multilabel_store, manifest, tmp_path):
    saved = str(tmp_path / "m.featx")

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    said = run("fit", multilabel_store, "-o", saved, "--head", "ovr-logistic", "--blocks", "1,2", "--folds", "3")
    assert "average_precision_macro (standard error)" in said
    assert "2 classes, 25 of 32 rows, split: train, multi-label" in said
    assert re.search(r"macro average precision +1\.0000", run("evaluate", saved, multilabel_store))
    rows = list(csv.DictReader(run("predict", saved, multilabel_store, "-q").splitlines()))
    by_path = {}
    for row in rows:
        by_path.setdefault(row["path"], []).append(row["class"])
    assert sorted(by_path["02.png"]) == ["blue", "red"]
    assert all((row["class"] == "") == (row["decision"] == "") for row in rows)


def test_an_image_may_have_no_label(multilabel_store, tmp_path):
    model = fit(
        multilabel_store, tmp_path / "m.featx", head="linear-svc", blocks=(1,), C=1.0, validation=Validation(folds=3)
    )
    model.estimator.named_steps["head"].estimators_[0].intercept_ -= 100
    model.estimator.named_steps["head"].estimators_[1].intercept_ -= 100
    model.save(tmp_path / "none.featx")
    assert {row.classes for row in predict(model, [multilabel_store])} == {()}
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "none.featx"), str(multilabel_store), "-q"])
    assert result.stdout.splitlines()[1] == "00.png,,,,"
    assert len(result.stdout.splitlines()) == 33


def test_equal_files_with_different_labels_are_a_conflict(tmp_path, oxford):
    for name in ("1.png", "2.png", "3.png"):
        draw(0, 1).save(tmp_path / name)
    (tmp_path / "m.csv").write_text("path,label\n1.png,a|b\n2.png,a|c\n3.png,a|b\n")
    report = extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC)
    assert report.conflicts == [("1.png", "2.png")]
