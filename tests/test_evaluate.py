"""Which rows evaluate scores, and its report."""

import dataclasses
import shutil

import pytest
from conftest import SPEC, draw, fill

from featx.errors import DataError
from featx.extraction import AssemblyOptions, extract
from featx.models.evaluation import evaluate, score_rows
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.training_rows import read_training_rows
from featx.store.reader import Store


def test_evaluate_scores_the_rows_that_test_size_held_out(shared_store, shared_photos, tmp_path):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3, test_size=0.25))
    assert model.info["rows"] == 27
    assert evaluate(model, shared_store)["n"] == 9
    extract(shared_photos, tmp_path / "again.h5", SPEC)
    assert evaluate(model, tmp_path / "again.h5")["n"] == 9


def scored_digests(model, path, **options):
    """Return the digests of the images that `evaluate` scores."""
    with Store(path) as store:
        return {store.digests[row] for row in score_rows(model, path, **options).rows}


def test_training_images_are_never_scored_after_the_store_changes(photos, tmp_path):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    fitted = read_training_rows(store, blocks=(1,), test_size=0.25)
    with Store(store) as opened:
        trained = {opened.digests[row] for row in fitted.row_index}
        held = set(opened.digests) - trained
    fit(store, tmp_path / "m.featx", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2, test_size=0.25))
    model = load_model(tmp_path / "m.featx")
    assert scored_digests(model, store) == held
    # An image gets another label, with which a stratified split would differ.
    (photos / "red" / "0.png").rename(photos / "blue" / "moved.png")
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    assert scored_digests(model, store) == held
    # One image is added, and one is deleted.
    draw(0, 99).save(photos / "red" / "new.png")
    (photos / "red" / "1.png").unlink()
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    with Store(store) as opened:
        left = set(opened.digests)
    assert scored_digests(model, store) == left - trained
    assert not scored_digests(model, store) & trained
    # Other images are all scored.
    fill(tmp_path / "others", each=2, first=500)
    extract(tmp_path / "others", tmp_path / "others.h5", SPEC)
    assert len(scored_digests(model, tmp_path / "others.h5")) == 6


def test_training_images_are_not_scored_after_one_was_deleted(photos, tmp_path):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    model = fit(store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2))
    (photos / "red" / "1.png").unlink()
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    with pytest.raises(DataError, match="was fitted on all labeled rows"):
        evaluate(model, store)


def test_a_model_without_image_ids_recognizes_its_unchanged_store(photos, tmp_path):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    options = {"head": "softmax", "blocks": (1,), "C": 1.0}
    held_out = Validation(folds=2, test_size=0.25)
    held = scored_digests(fit(store, validation=held_out, **options), store)
    older = dataclasses.replace(fit(store, validation=held_out, **options), fitted_image_ids=None)
    assert scored_digests(older, store) == held
    with pytest.raises(DataError, match="was fitted on all labeled rows"):
        evaluate(
            dataclasses.replace(fit(store, validation=Validation(folds=2), **options), fitted_image_ids=None), store
        )


def test_a_model_with_replaced_info_is_evaluated(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3, test_size=0.25))
    assert evaluate(dataclasses.replace(model, info={"note": "mine"}), shared_store)["n"] == 9


def test_only_a_calibrated_svc_has_a_calibration_error(shared_store):
    validation = Validation(folds=3, test_size=0.25)
    options = {"head": "linear-svc", "blocks": (1,), "C": 1.0, "validation": validation}
    assert evaluate(fit(shared_store, **options), shared_store)["calibration_error"] is None
    assert (
        0
        < evaluate(fit(shared_store, options=FitOptions(calibrate=True), **options), shared_store)["calibration_error"]
        < 0.5
    )


def test_training_rows_are_not_scored(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    with pytest.raises(
        DataError, match=r"was fitted on all labeled rows of .*photos\.h5 that could be scored, and their scores"
    ):
        evaluate(model, shared_store)


@pytest.fixture
def split_store(shared_photos, tmp_path):
    """A store with two split columns, a row without a label, and a class that only test rows have."""
    lines = ["path,label,split,split_0"]
    for name in ("red", "blue"):
        lines += [
            f"{name}/{n}.png,{name},{'test' if n < 4 else 'train'},{'train' if n < 6 else 'test'}" for n in range(12)
        ]
    lines += ["green/0.png,,train,train", "green/1.png,green,test,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "split.h5", SPEC, root=shared_photos)
    return tmp_path / "split.h5"


def test_split_columns_select_training_and_test_rows(split_store):
    options = {"head": "softmax", "blocks": (1, 2), "C": 1.0}
    model = fit(split_store, validation=Validation(folds=2), **options)
    assert (model.info["rows"], model.classes) == (16, ("blue", "red"))
    report = evaluate(model, split_store)
    assert (report["n"], report["unknown"], report["accuracy"]) == (8, 1, 1.0)
    other = fit(split_store, validation=Validation(split_column="split_0", folds=2), **options)
    assert other.info["rows"] == 12
    assert evaluate(other, split_store)["n"] == 12
    assert evaluate(model, split_store, split="train", split_column="split_0")["n"] == 12
    # By the other column, only one test row was not fitted, and the model does not know its class.
    for fitted, column in ((other, "split"), (model, "split_0")):
        with pytest.raises(DataError, match=r"no row with a label of the model's classes"):
            evaluate(fitted, split_store, split_column=column)


def test_rows_of_unknown_classes_cannot_be_scored(split_store, shared_photos, tmp_path):
    model = fit(split_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2))
    (tmp_path / "green.csv").write_text("path,label\ngreen/0.png,green\n")
    extract(tmp_path / "green.csv", tmp_path / "green.h5", SPEC, root=shared_photos)
    with pytest.raises(DataError, match=r"green\.h5 has no row with a label of the model's classes \(blue, red"):
        evaluate(model, tmp_path / "green.h5")


def test_without_test_rows_the_validation_rows_are_scored(shared_photos, tmp_path):
    """A folder of train and val is a usual layout."""
    for name in ("red", "green"):
        for number in range(12):
            part = tmp_path / "photos" / ("val" if number < 4 else "train") / name
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_photos / name / f"{number}.png", part)
    extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)
    model = fit(tmp_path / "photos.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    assert model.info["rows"] == 16
    report = evaluate(model, tmp_path / "photos.h5")
    assert len(score_rows(model, tmp_path / "photos.h5").rows) == 8
    assert report == evaluate(model, tmp_path / "photos.h5", split="val")
    older = dataclasses.replace(model, fitted_image_ids=None)
    assert evaluate(older, tmp_path / "photos.h5") == report


@pytest.fixture
def contest(shared_photos, tmp_path):
    """A folder with train and val by class, and with test images without labels, as in a contest."""
    for name in ("red", "green"):
        for number in range(12):
            part = tmp_path / "photos" / ("test" if number < 3 else f"{'val' if number < 6 else 'train'}/{name}")
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_photos / name / f"{number}.png", part / f"{name[0]}{number}.png")
    return tmp_path / "photos"


def test_if_the_test_rows_have_no_labels_the_validation_rows_are_scored(contest, tmp_path):
    extract(contest, tmp_path / "photos.h5", SPEC)
    model = fit(tmp_path / "photos.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    report = evaluate(model, tmp_path / "photos.h5")
    assert report["n"] == 6
    for fitted in (model, dataclasses.replace(model, fitted_image_ids=None)):
        assert evaluate(fitted, tmp_path / "photos.h5", split_column="split") == report
        assert evaluate(fitted, tmp_path / "photos.h5", split="val") == report
    with pytest.raises(DataError, match=r"has no row marked test with a label of the model's classes \(green, red"):
        evaluate(model, tmp_path / "photos.h5", split="test")


def test_if_only_training_rows_have_labels_nothing_can_be_scored(contest, tmp_path):
    shutil.rmtree(contest / "val")
    extract(contest, tmp_path / "photos.h5", SPEC)
    model = fit(tmp_path / "photos.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    for fitted in (model, dataclasses.replace(model, fitted_image_ids=None)):
        with pytest.raises(DataError, match=r"fitted on all labeled rows of .*photos\.h5 that could be scored"):
            evaluate(fitted, tmp_path / "photos.h5")
        with pytest.raises(
            DataError, match=r"no row that split of .*photos\.h5 marks test has a label, and all labeled rows"
        ):
            evaluate(fitted, tmp_path / "photos.h5", split_column="split")


def test_if_all_rows_are_training_rows_nothing_can_be_scored(shared_photos, tmp_path):
    lines = ["path,label,split", *(f"{name}/{n}.png,{name},train" for name in ("red", "green") for n in range(6))]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC, root=shared_photos)
    model = fit(tmp_path / "m.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    for fitted in (model, dataclasses.replace(model, fitted_image_ids=None)):
        with pytest.raises(
            DataError, match=r"fitted on all labeled rows of .*m\.h5 that .* or fit with --test-size 0\.2"
        ):
            evaluate(fitted, tmp_path / "m.h5")
        with pytest.raises(DataError, match=r"split of .*m\.h5 has no row with the value 'test', only train"):
            evaluate(fitted, tmp_path / "m.h5", split_column="split")
