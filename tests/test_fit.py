import dataclasses
import shutil

import numpy as np
import pytest
from conftest import SPEC, draw, fill
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import LinearSVC

from featx.curation.dataset import load_features
from featx.errors import DataError, ModelError, SpecError
from featx.extraction import AssemblyOptions, extract
from featx.heads.folds import make_folds
from featx.heads.image_ids import fingerprint, holdout
from featx.heads.nested_cv import nested
from featx.heads.normalizer import BlockNormalizer
from featx.heads.pipelines import HEADS, linear_parts, make_head
from featx.heads.refitting import refit
from featx.models.evaluation import evaluate, score_rows
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import MAX_C, fit
from featx.models.model_file import load_model
from featx.models.prediction import predict
from featx.models.searched_fit import block_runs
from featx.models.training_rows import read_training_rows
from featx.store.reader import Store


def test_the_model_is_what_sklearn_fits(shared_store):
    model = fit(shared_store, head="linear-svc", blocks=(3, 4), pools=("avg",), C=0.5, validation=Validation(folds=3))
    data = load_features(shared_store, blocks=(3, 4), pool="avg")
    X = BlockNormalizer((256, 512)).fit_transform(data.data)
    expected = LinearSVC(C=0.5, random_state=0, max_iter=10_000).fit(X, data.target_names[data.target].astype(str))
    np.testing.assert_allclose(linear_parts(model.estimator)[0], expected.coef_, atol=1e-9)
    assert model.classes == ("blue", "green", "red")
    assert model.spec == data.spec


def test_everything_not_given_is_chosen(shared_store, tmp_path):
    model = fit(shared_store, tmp_path / "photos.featx", validation=Validation(folds=3))
    search = model.info["search"]
    assert {row["head"] for row in search["rows"]} == {"linear-svc", "softmax", "ovr-logistic"}
    assert {row["feature_set"] for row in search["rows"]} == set(block_runs((1, 2, 3, 4, 5)))
    assert len({row["C"] for row in search["rows"]}) >= 3
    reopened = load_model(tmp_path / "photos.featx")
    data = load_features(shared_store, blocks=reopened.spec.blocks)
    np.testing.assert_array_equal(reopened.estimator.predict(data.data), model.estimator.predict(data.data))
    assert reopened.info == model.info


def test_runs_of_blocks():
    assert list(block_runs((3, 4, 5))) == ["3", "3-4", "3-5", "4", "4-5", "5"]
    assert block_runs((1, 4)) == {"1": (1,), "1,4": (1, 4), "4": (4,)}


def test_a_model_is_not_overwritten_unless_asked(shared_store, tmp_path):
    path = tmp_path / "photos.featx"
    path.write_text("my notes")
    options = {"head": "softmax", "blocks": (1,), "C": 1.0, "validation": Validation(folds=2)}
    with pytest.raises(
        ModelError, match=r"photos\.featx exists already; choose another --output, or replace it with --overwrite"
    ):
        fit(shared_store, path, **options)
    assert path.read_text() == "my notes"
    fit(shared_store, path, overwrite=True, **options)
    load_model(path)


def test_a_model_without_a_folder_is_told_before_the_search(shared_store, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.models.searched_fit.search", None)
    with pytest.raises(ModelError, match=r"none/a\.featx cannot be written: there is no folder .*none; make it first"):
        fit(shared_store, tmp_path / "none" / "a.featx")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"head": "svm"},
            DataError,
            "--head of fit must be best or one of linear-svc, softmax, ovr-logistic, got 'svm'",
        ),
        ({"blocks": (7,)}, SpecError, "must be 1 to 5, got 7"),
        ({"pools": ("flat",)}, SpecError, "pools must be among avg, max, which were extracted, got flat"),
        (
            {"validation": Validation(split_column="fold")},
            DataError,
            "the split column of .* must be one of those it has",
        ),
        ({"validation": Validation(folds=30)}, DataError, "30"),
        (
            {"validation": Validation(test_size=0.999)},
            DataError,
            "--test-size 0.999 does not split these rows by class",
        ),
    ],
)
def test_what_cannot_be_fitted_is_named(shared_store, options, error, message):
    with pytest.raises(error, match=message):
        fit(shared_store, **options)


def test_a_store_without_labels_says_so(shared_photos, tmp_path):
    extract(shared_photos / "red", tmp_path / "flat.h5", SPEC)
    with pytest.raises(DataError, match=r"flat\.h5 has no labels; extract a folder with one sub-folder per class"):
        fit(tmp_path / "flat.h5")


def test_one_class_only_says_so(shared_photos, tmp_path):
    manifest = tmp_path / "one.csv"
    manifest.write_text("path,label\n" + "".join(f"red/{n}.png,red\n" for n in range(6)))
    extract(manifest, tmp_path / "one.h5", SPEC, root=shared_photos)
    with pytest.raises(DataError, match="class"):
        fit(tmp_path / "one.h5")


def test_the_held_out_part_is_found_again_by_evaluate(shared_store, shared_photos, tmp_path):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3, test_size=0.25))
    assert model.info["rows"] == 27
    assert evaluate(model, shared_store)["n"] == 9
    extract(shared_photos, tmp_path / "again.h5", SPEC)
    assert evaluate(model, tmp_path / "again.h5")["n"] == 9


def scored_digests(model, path, **options):
    """Of the images that `evaluate` scores, by their bytes."""
    with Store(path) as store:
        return {store.digests[row] for row in score_rows(model, path, **options).rows}


def test_no_image_that_was_fitted_is_scored_whatever_becomes_of_the_store(photos, tmp_path):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    fitted = read_training_rows(store, blocks=(1,), test_size=0.25)
    with Store(store) as opened:
        trained = {opened.digests[row] for row in fitted.rows}
        held = set(opened.digests) - trained
    fit(store, tmp_path / "m.featx", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2, test_size=0.25))
    model = load_model(tmp_path / "m.featx")
    assert scored_digests(model, store) == held
    # An image gets another label: the stratified part of these labels would be another.
    (photos / "red" / "0.png").rename(photos / "blue" / "moved.png")
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    assert scored_digests(model, store) == held
    # One comes, and one goes.
    draw(0, 99).save(photos / "red" / "new.png")
    (photos / "red" / "1.png").unlink()
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    with Store(store) as opened:
        left = set(opened.digests)
    assert scored_digests(model, store) == left - trained
    assert not scored_digests(model, store) & trained
    # Of other images, all.
    fill(tmp_path / "others", each=2, first=500)
    extract(tmp_path / "others", tmp_path / "others.h5", SPEC)
    assert len(scored_digests(model, tmp_path / "others.h5")) == 6


def test_a_model_of_all_rows_is_not_scored_on_them_when_one_has_gone(photos, tmp_path):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    model = fit(store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2))
    (photos / "red" / "1.png").unlink()
    extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    with pytest.raises(DataError, match="was fitted on all labeled rows"):
        evaluate(model, store)


def test_a_model_without_its_images_marks_goes_by_all_images(photos, tmp_path):
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


def test_a_model_whose_info_is_another_is_evaluated(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3, test_size=0.25))
    assert evaluate(dataclasses.replace(model, info={"note": "mine"}), shared_store)["n"] == 9


def test_marks_of_another_form_are_refused(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    with pytest.raises(
        ModelError, match=r"fitted_image_ids of the model must be uint64 of one dimension, got float64 \(1,\)"
    ):
        dataclasses.replace(model, fitted_image_ids=np.zeros(1))


def test_a_split_column_and_a_part_to_hold_out_are_one_too_many(split_store):
    with pytest.raises(
        DataError, match="is used instead of a split column, got --split-column split_0 too; leave one out"
    ):
        fit(split_store, validation=Validation(split_column="split_0", test_size=0.25))


def test_the_calibration_error_of_a_calibrated_model(shared_store):
    validation = Validation(folds=3, test_size=0.25)
    options = {"head": "linear-svc", "blocks": (1,), "C": 1.0, "validation": validation}
    assert evaluate(fit(shared_store, **options), shared_store)["calibration_error"] is None
    assert (
        0
        < evaluate(fit(shared_store, options=FitOptions(calibrate=True), **options), shared_store)["calibration_error"]
        < 0.5
    )


def test_evaluating_the_training_rows_is_refused(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    with pytest.raises(
        DataError, match=r"was fitted on all labeled rows of .*photos\.h5 that could be scored, and their scores"
    ):
        evaluate(model, shared_store)


def test_holdout_keeps_copies_together_and_classes_in_proportion():
    labels = np.array([0, 0, 1, 1] * 10 + [-1])
    digests = [f"{row // 2}" for row in range(41)]
    train, test = holdout(labels, digests, 0.25, seed=3)
    assert len(train) + len(test) == 40
    assert not {digests[row] for row in train} & {digests[row] for row in test}
    assert abs(np.bincount(labels[test]) - 5).max() <= 1
    np.testing.assert_array_equal(holdout(labels, digests, 0.25, seed=3)[1], test)
    assert fingerprint(digests) == fingerprint(digests[::-1]) != fingerprint(digests[1:])


@pytest.fixture
def split_store(shared_photos, tmp_path):
    """A store with two split columns, a row without a label and a class that only the test part has."""
    lines = ["path,label,split,split_0"]
    for name in ("red", "blue"):
        lines += [
            f"{name}/{n}.png,{name},{'test' if n < 4 else 'train'},{'train' if n < 6 else 'test'}" for n in range(12)
        ]
    lines += ["green/0.png,,train,train", "green/1.png,green,test,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "split.h5", SPEC, root=shared_photos)
    return tmp_path / "split.h5"


def test_split_columns_choose_training_and_test_rows(split_store):
    options = {"head": "softmax", "blocks": (1, 2), "C": 1.0}
    model = fit(split_store, validation=Validation(folds=2), **options)
    assert (model.info["rows"], model.classes) == (16, ("blue", "red"))
    report = evaluate(model, split_store)
    assert (report["n"], report["unknown"], report["accuracy"]) == (8, 1, 1.0)
    other = fit(split_store, validation=Validation(split_column="split_0", folds=2), **options)
    assert other.info["rows"] == 12
    assert evaluate(other, split_store)["n"] == 12
    assert evaluate(model, split_store, split="train", split_column="split_0")["n"] == 12
    # Of those that another column marks test it was fitted on all but one, whose class it does not know.
    for fitted, column in ((other, "split"), (model, "split_0")):
        with pytest.raises(DataError, match=r"no row with a label of the model's classes"):
            evaluate(fitted, split_store, split_column=column)


def test_rows_of_unknown_classes_alone_cannot_be_scored(split_store, shared_photos, tmp_path):
    model = fit(split_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2))
    (tmp_path / "green.csv").write_text("path,label\ngreen/0.png,green\n")
    extract(tmp_path / "green.csv", tmp_path / "green.h5", SPEC, root=shared_photos)
    with pytest.raises(DataError, match=r"green\.h5 has no row with a label of the model's classes \(blue, red"):
        evaluate(model, tmp_path / "green.h5")


def test_several_split_columns_need_a_choice(shared_photos, tmp_path):
    lines = ["path,label,split_0,split_1", *(f"red/{n}.png,red,train,test" for n in range(4))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "split.h5", SPEC, root=shared_photos)
    with pytest.raises(
        DataError, match=r"no split column of .* is called split; give --split-column, one of split_0, split_1"
    ):
        fit(tmp_path / "split.h5")


def test_equal_files_share_a_group(photos, tmp_path):
    (photos / "red" / "copy.png").write_bytes((photos / "red" / "0.png").read_bytes())
    extract(photos, tmp_path / "photos.h5", SPEC)
    rows = read_training_rows(tmp_path / "photos.h5", blocks=(1,))
    assert len(rows.groups) == 25
    assert len(set(rows.groups.tolist())) == 24
    assert dataclasses.asdict(rows)["selection"] == {}


def test_the_nested_estimate_is_that_of_the_rows_and_is_kept(shared_store, tmp_path):
    options = {"head": "softmax", "blocks": (1, 3), "C": 1.0}
    model = fit(shared_store, tmp_path / "photos.featx", validation=Validation(folds=3, nested=True), **options)
    rows = read_training_rows(shared_store, blocks=(1, 3))
    sets = {"1,3": tuple(rows.spec.widths)}
    expected = nested(
        rows.X, rows.y, features=rows.spec.slices, feature_sets=sets, groups=rows.groups, heads=["softmax"], Cs=[1.0],
        outer=3, folds=3,
    )  # fmt: skip
    assert load_model(tmp_path / "photos.featx").info["nested"] == model.info["nested"] == expected.to_dict()
    assert "nested" not in fit(shared_store, validation=Validation(folds=3), **options).info


def test_what_is_too_few_for_the_nested_estimate_is_told_before_the_search(shared_store, monkeypatch):
    monkeypatch.setattr("featx.models.searched_fit.search", None)
    with pytest.raises(
        DataError, match=r"in what nested leaves for training, class \w+ has 10 different images, too few"
    ):
        fit(shared_store, C=1.0, validation=Validation(nested=True, folds=11))


@pytest.mark.parametrize("C", [np.inf, np.nan, 0.0, -1.0, 1.1e12, 1e30, 1e300])
@pytest.mark.parametrize("options", [{}, {"head": "softmax", "options": FitOptions(stream=True)}])
def test_a_penalty_is_above_0_and_of_a_size_that_counts(shared_store, C, options):
    with pytest.raises(SpecError, match=r"--C of fit must be above 0 and at most 1e\+12, got"):
        fit(shared_store, C=C, **options)


@pytest.mark.parametrize("head", HEADS)
def test_the_largest_penalty_makes_a_model(shared_store, tmp_path, head):
    fit(
        shared_store,
        tmp_path / "m.featx",
        head=head,
        blocks=5,
        C=MAX_C,
        options=FitOptions(normalize="none"),
        validation=Validation(folds=3),
    )


def test_blocks_and_pools_come_in_any_form(shared_store):
    expected = fit(shared_store, head="softmax", blocks=(2, 3), pools=("avg",), C=1.0, validation=Validation(folds=3))
    found = fit(shared_store, head="softmax", blocks="2-3", pools="avg", C=1.0, validation=Validation(folds=3))
    assert found.spec == expected.spec
    assert fit(shared_store, head="softmax", blocks=3, C=1.0, validation=Validation(folds=3)).spec.blocks == (3,)
    assert load_features(shared_store, "2-3", "avg,max").spec.widths.keys() == {
        "block2_avg", "block2_max", "block3_avg", "block3_max"
    }  # fmt: skip


def test_without_a_test_part_the_rest_of_the_column_is_scored(shared_photos, tmp_path):
    """As of a folder of train and val: there is no other part to score, and no reason to refuse."""
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
    """A folder of train and val by class, and of test, whose labels are not given away."""
    for name in ("red", "green"):
        for number in range(12):
            part = tmp_path / "photos" / ("test" if number < 3 else f"{'val' if number < 6 else 'train'}/{name}")
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_photos / name / f"{number}.png", part / f"{name[0]}{number}.png")
    return tmp_path / "photos"


def test_of_a_test_part_without_labels_the_other_part_is_scored(contest, tmp_path):
    extract(contest, tmp_path / "photos.h5", SPEC)
    model = fit(tmp_path / "photos.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    report = evaluate(model, tmp_path / "photos.h5")
    assert report["n"] == 6
    for fitted in (model, dataclasses.replace(model, fitted_image_ids=None)):
        assert evaluate(fitted, tmp_path / "photos.h5", split_column="split") == report
        assert evaluate(fitted, tmp_path / "photos.h5", split="val") == report
    with pytest.raises(DataError, match=r"has no row marked test with a label of the model's classes \(green, red"):
        evaluate(model, tmp_path / "photos.h5", split="test")


def test_without_any_label_beside_those_of_train_there_is_none_to_score(contest, tmp_path):
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


def test_a_column_that_marks_all_train_leaves_none_to_score(shared_photos, tmp_path):
    lines = ["path,label,split", *(f"{name}/{n}.png,{name},train" for name in ("red", "green") for n in range(6))]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC, root=shared_photos)
    model = fit(tmp_path / "m.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    for fitted in (model, dataclasses.replace(model, fitted_image_ids=None)):
        with pytest.raises(
            DataError, match=r"fitted on all labeled rows of .*m\.h5 that .* or fit with --test-size 0\.2"
        ):
            evaluate(fitted, tmp_path / "m.h5")
        with pytest.raises(DataError, match=r"split of .*m\.h5 has no row 'test'; it has train"):
            evaluate(fitted, tmp_path / "m.h5", split_column="split")


def test_a_calibrated_model_has_the_probabilities_of_sklearn(shared_store, tmp_path):
    options = {"blocks": (1, 3), "C": 1.0, "validation": Validation(folds=3)}
    model = fit(
        shared_store, tmp_path / "photos.featx", head="linear-svc", options=FitOptions(calibrate=True), **options
    )
    plain = fit(shared_store, head="linear-svc", **options)
    rows = read_training_rows(shared_store, blocks=(1, 3))
    head = make_head("linear-svc", widths=tuple(rows.spec.widths.values()))
    folds = make_folds(rows.y, rows.groups, 3)
    expected = CalibratedClassifierCV(head, cv=folds, ensemble=False).fit(rows.X, rows.y).predict_proba(rows.X)
    reopened = load_model(tmp_path / "photos.featx")
    np.testing.assert_allclose(reopened.predict_proba(rows.X), expected, atol=1e-6)
    np.testing.assert_allclose(reopened.decision_function(rows.X), plain.decision_function(rows.X), atol=1e-9)
    assert reopened.info["calibration"] == {"method": "sigmoid", "folds": 3}
    found = list(predict(reopened, [shared_store], top=3))
    order = [[model.classes.index(name) for name in row.classes] for row in found]
    np.testing.assert_allclose(
        [row.probabilities for row in found], np.take_along_axis(expected, np.array(order), 1), atol=1e-6
    )


def test_what_has_probabilities_is_not_calibrated(shared_store):
    with pytest.raises(DataError, match="--calibrate of fit is for linear-svc; softmax has probabilities without it"):
        fit(shared_store, head="softmax", options=FitOptions(calibrate=True))
    model = fit(shared_store, blocks=(1,), C=1.0, options=FitOptions(calibrate=True), validation=Validation(folds=3))
    assert (model.calibration is not None) == (model.head == "linear-svc")


@pytest.fixture
def weighted_store(shared_photos, tmp_path):
    """A store with a column of weights, good but for one row, which ``split_1`` leaves out."""
    lines = ["path,label,weight,split_0,split_1"]
    for name in ("red", "blue"):
        lines += [f"{name}/{n}.png,{name},{1 + n % 3},train,train" for n in range(11)]
        lines += [f"{name}/11.png,{name},{'heavy' if name == 'red' else 0},train,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "weighted.h5", SPEC, root=shared_photos)
    return tmp_path / "weighted.h5"


@pytest.mark.parametrize("head", HEADS)
def test_weights_of_a_column_or_an_array_go_into_search_and_refit(weighted_store, head):
    validation = Validation(folds=3, split_column="split_1")
    options = {"head": head, "blocks": (1,), "C": 1.0, "validation": validation}
    model = fit(weighted_store, options=FitOptions(weight_column="weight"), **options)
    with Store(weighted_store) as store:
        weights = np.array([float(text) if text != "heavy" else 9.0 for text in store.columns["weight"]])
    given = fit(weighted_store, options=FitOptions(sample_weight=weights), **options)
    np.testing.assert_array_equal(linear_parts(given.estimator)[0], linear_parts(model.estimator)[0])
    plain = fit(weighted_store, **options)
    assert abs(linear_parts(plain.estimator)[0] - linear_parts(model.estimator)[0]).max() > 1e-4
    rows = read_training_rows(weighted_store, blocks=(1,), split_column="split_1", weight_column="weight")
    assert sorted(rows.sample_weight) == sorted([1.0 + n % 3 for n in range(11)] * 2)
    expected = refit(
        make_head(head, widths=tuple(rows.spec.widths.values())), rows.X, rows.y, sample_weight=rows.sample_weight
    )
    np.testing.assert_array_equal(linear_parts(expected)[0], linear_parts(model.estimator)[0])
    assert model.info["search"]["rows"][0]["gap"] != plain.info["search"]["rows"][0]["gap"]
    assert (model.info["sample_weight"], given.info["sample_weight"]) == ("weight", "given")
    assert "sample_weight" not in plain.info


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_column": "weight"}, r"above 0, but 2 are not, the first that of 'blue/11.png'; correct them"),
        ({"weight_column": "worth"}, r"--weight-column of fit must be one of the columns of .* \(split_0.*got worth"),
        (
            {"sample_weight": [1.0, 2.0]},
            r"must have one number per row of .*weighted.h5, shape \(24,\), got shape \(2,\)",
        ),
        ({"sample_weight": np.ones(24), "weight_column": "weight"}, "sample_weight or weight_column, got both"),
        ({"sample_weight": np.full(24, np.inf)}, "above 0, but 24 are not"),
    ],
)
def test_weights_that_are_none_are_named(weighted_store, options, message):
    with pytest.raises(DataError, match=message):
        fit(weighted_store, options=FitOptions(**options), validation=Validation(split_column="split_0"))


def test_a_column_of_weights_is_no_split_column(shared_photos, tmp_path):
    lines = ["path,label,weight", *(f"{name}/{n}.png,{name},2" for name in ("red", "blue") for n in range(4))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "weighted.h5", SPEC, root=shared_photos)
    assert (
        fit(tmp_path / "weighted.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2)).info["rows"]
        == 8
    )
