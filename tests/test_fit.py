"""Fit a head on a store: equal to scikit-learn, with clear errors."""

import dataclasses
import inspect

import numpy as np
import pytest
from conftest import SPEC
from scipy.special import softmax
from sklearn.svm import LinearSVC

from featx.cli.fit import command
from featx.curation.dataset import load_features
from featx.errors import DataError, ModelError, SpecError
from featx.extraction import extract
from featx.heads.image_ids import fingerprint
from featx.heads.pipeline.linear_heads import HEADS, linear_parts, make_head
from featx.heads.pipeline.normalizer import BlockNormalizer
from featx.heads.pipeline.refitting import refit
from featx.heads.search.head_search_cv import HeadSearchCV
from featx.heads.search.nested_cv import nested_cross_validate
from featx.heads.splitting.holdout import hold_out
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import MAX_C, fit
from featx.models.model_file import load_model
from featx.models.prediction import predict
from featx.models.searched_fit import block_ranges
from featx.models.training_rows import read_training_rows
from featx.store.reader import Store

pytestmark = pytest.mark.core


def test_the_model_equals_a_fit_by_sklearn(shared_store):
    model = fit(shared_store, head="linear-svc", blocks=(3, 4), pools=("avg",), C=0.5, validation=Validation(folds=3))
    data = load_features(shared_store, blocks=(3, 4), pools="avg")
    X = BlockNormalizer((256, 512)).fit_transform(data.data)
    expected = LinearSVC(C=0.5, random_state=0, max_iter=10_000).fit(X, data.target_names[data.target].astype(str))
    np.testing.assert_allclose(linear_parts(model.estimator)[0], expected.coef_, atol=1e-9)
    assert model.classes == ("blue", "green", "red")
    assert model.spec == data.spec


def test_head_blocks_and_c_are_selected_by_default(shared_store, tmp_path):
    model = fit(shared_store, tmp_path / "photos.featx", validation=Validation(folds=3))
    search = model.info["search"]
    assert {row["head"] for row in search["rows"]} == {"linear-svc", "softmax", "ovr-logistic"}
    assert {row["feature_set"] for row in search["rows"]} == set(block_ranges((1, 2, 3, 4, 5)))
    assert len({row["C"] for row in search["rows"]}) >= 3
    reopened = load_model(tmp_path / "photos.featx")
    data = load_features(shared_store, blocks=reopened.spec.blocks)
    np.testing.assert_array_equal(reopened.estimator.predict(data.data), model.estimator.predict(data.data))
    assert reopened.info == model.info


def test_info_has_the_names_of_every_version(shared_store):
    """Other versions of featx read them, and names decide the bytes of a model."""
    validation = Validation(folds=3, test_size=0.25, random_state=2)
    info = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=validation).info
    assert set(info) == {"C", "rows", "search", "selection", "store", "store_rows", "versions"}
    assert info["selection"] == {"test_size": 0.25, "seed": 2}
    assert set(info["search"]) == {
        "rows", "best", "rule", "scoring", "normalize", "folds", "repeats", "seed", "feature_sets",
    }  # fmt: skip
    assert set(info["search"]["best"]) == {
        "head", "C", "feature_set", "columns", "rank", "scores", "mean", "standard_error", "gap", "gradient_norm",
    }  # fmt: skip


def test_the_command_has_the_defaults_of_the_function():
    defaults = command.make_context("fit", ["photos.h5", "-o", "photos.featx"]).params
    options = dataclasses.asdict(FitOptions()) | dataclasses.asdict(Validation())
    options["seed"] = options.pop("random_state")
    del options["sample_weight"]  # an array, only in Python
    assert {name: defaults[name] for name in options} == options
    assert defaults["head"] == inspect.signature(fit).parameters["head"].default


def test_block_ranges_lists_consecutive_blocks():
    assert list(block_ranges((3, 4, 5))) == ["3", "3-4", "3-5", "4", "4-5", "5"]
    assert block_ranges((1, 4)) == {"1": (1,), "1,4": (1, 4), "4": (4,)}


def test_an_existing_model_is_replaced_only_with_overwrite(shared_store, tmp_path):
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


def test_a_missing_output_folder_is_reported_before_the_store_is_read(tmp_path):
    with pytest.raises(
        ModelError, match=r"none/a\.featx cannot be written: its folder .*none does not exist; create it first"
    ):
        fit(tmp_path / "none.h5", tmp_path / "none" / "a.featx")


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
            "the split column of .* must be one of its columns",
        ),
        (
            {"validation": Validation(test_size=0.999)},
            DataError,
            "--test-size 0.999 does not split these rows by class",
        ),
    ],
)
def test_invalid_arguments_are_named(shared_store, options, error, message):
    with pytest.raises(error, match=message):
        fit(shared_store, **options)


def test_a_store_without_labels_is_refused(shared_photos, tmp_path):
    extract(shared_photos / "red", tmp_path / "flat.h5", SPEC)
    with pytest.raises(DataError, match=r"flat\.h5 has no labels; extract a folder with one sub-folder per class"):
        fit(tmp_path / "flat.h5")


def test_a_store_of_one_class_is_refused(shared_photos, tmp_path):
    manifest = tmp_path / "one.csv"
    manifest.write_text("path,label\n" + "".join(f"red/{n}.png,red\n" for n in range(6)))
    extract(manifest, tmp_path / "one.h5", SPEC, root=shared_photos)
    with pytest.raises(DataError, match="class"):
        fit(tmp_path / "one.h5")


def test_image_ids_must_be_uint64(shared_store):
    model = fit(shared_store, head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=3))
    with pytest.raises(
        ModelError, match=r"fitted_image_ids of the model must be uint64 of one dimension, got float64 \(1,\)"
    ):
        dataclasses.replace(model, fitted_image_ids=np.zeros(1))


def test_split_column_and_test_size_exclude_each_other(shared_store):
    with pytest.raises(
        DataError, match="is used instead of a split column, got --split-column split_0 too; leave one out"
    ):
        fit(shared_store, validation=Validation(split_column="split_0", test_size=0.25))


def test_holdout_keeps_equal_files_together_and_classes_in_proportion():
    labels = np.array([0, 0, 1, 1] * 10 + [-1])
    digests = [f"{row // 2}" for row in range(41)]
    train, test = hold_out(labels, digests, 0.25, seed=3)
    assert len(train) + len(test) == 40
    assert not {digests[row] for row in train} & {digests[row] for row in test}
    assert abs(np.bincount(labels[test]) - 5).max() <= 1
    np.testing.assert_array_equal(hold_out(labels, digests, 0.25, seed=3)[1], test)
    assert fingerprint(digests) == fingerprint(digests[::-1]) != fingerprint(digests[1:])


def test_several_split_columns_require_a_choice(shared_photos, tmp_path):
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


def test_the_nested_estimate_is_saved_in_the_model(shared_store, tmp_path):
    options = {"head": "softmax", "blocks": (1, 3), "C": 1.0}
    model = fit(shared_store, tmp_path / "photos.featx", validation=Validation(folds=3, nested=True), **options)
    rows = read_training_rows(shared_store, blocks=(1, 3))
    sets = {"1,3": list(rows.spec.slices.values())}
    search = HeadSearchCV(["softmax"], [1.0], sets, normalize="power", random_state=0)
    expected = nested_cross_validate(search, rows.X, rows.y, groups=rows.groups, outer=3, folds=3)
    assert load_model(tmp_path / "photos.featx").info["nested"] == model.info["nested"] == expected.to_dict()
    assert "nested" not in fit(shared_store, validation=Validation(folds=3), **options).info


@pytest.mark.parametrize("C", [np.inf, np.nan, 0.0, -1.0, 1.1e12, 1e30, 1e300])
@pytest.mark.parametrize("options", [{}, {"head": "softmax", "options": FitOptions(stream=True)}])
def test_c_must_be_positive_and_not_too_large(shared_store, C, options):
    with pytest.raises(SpecError, match=r"--C of fit must be above 0 and at most 1e\+12, got"):
        fit(shared_store, C=C, **options)


@pytest.mark.parametrize("head", HEADS)
def test_the_largest_c_makes_a_model(shared_store, tmp_path, head):
    fit(
        shared_store,
        tmp_path / "m.featx",
        head=head,
        blocks=5,
        C=MAX_C,
        options=FitOptions(normalize="none"),
        validation=Validation(folds=3),
    )


def test_blocks_and_pools_are_accepted_in_every_form(shared_store):
    expected = fit(shared_store, head="softmax", blocks=(2, 3), pools=("avg",), C=1.0, validation=Validation(folds=3))
    found = fit(shared_store, head="softmax", blocks="2-3", pools="avg", C=1.0, validation=Validation(folds=3))
    assert found.spec == expected.spec
    assert fit(shared_store, head="softmax", blocks=3, C=1.0, validation=Validation(folds=3)).spec.blocks == (3,)
    assert load_features(shared_store, "2-3", "avg,max").spec.widths.keys() == {
        "block2_avg", "block2_max", "block3_avg", "block3_max"
    }  # fmt: skip


def test_a_calibrated_model_has_probabilities_and_the_same_predictions(shared_store, tmp_path):
    options = {"blocks": (1, 3), "C": 1.0, "validation": Validation(folds=3)}
    model = fit(
        shared_store, tmp_path / "photos.featx", head="linear-svc", options=FitOptions(calibrate=True), **options
    )
    plain = fit(shared_store, head="linear-svc", **options)
    X = read_training_rows(shared_store, blocks=(1, 3)).X
    reopened = load_model(tmp_path / "photos.featx")
    np.testing.assert_array_equal(reopened.decision_function(X), plain.decision_function(X))
    np.testing.assert_array_equal(reopened.predict(X), plain.predict(X))
    shares = reopened.predict_proba(X)
    np.testing.assert_allclose(shares, softmax(plain.decision_function(X) / model.calibration.temperature, axis=1))
    assert reopened.info["calibration"] == {"method": "temperature", "folds": 3}
    found = list(predict(reopened, [shared_store], top=3))
    order = [[model.classes.index(name) for name in row.classes] for row in found]
    np.testing.assert_allclose(
        [row.probabilities for row in found], np.take_along_axis(shares, np.array(order), 1), atol=1e-6
    )


def test_a_head_with_probabilities_is_not_calibrated(shared_store):
    with pytest.raises(DataError, match="--calibrate of fit is for linear-svc; softmax has probabilities without it"):
        fit(shared_store, head="softmax", options=FitOptions(calibrate=True))
    model = fit(shared_store, blocks=(1,), C=1.0, options=FitOptions(calibrate=True), validation=Validation(folds=3))
    assert (model.calibration is not None) == (model.head == "linear-svc")


@pytest.fixture
def weighted_store(shared_photos, tmp_path):
    """A store with a column of weights; ``split_1`` marks the two rows test whose weights are not valid."""
    lines = ["path,label,weight,split_0,split_1"]
    for name in ("red", "blue"):
        lines += [f"{name}/{n}.png,{name},{1 + n % 3},train,train" for n in range(11)]
        lines += [f"{name}/11.png,{name},{'heavy' if name == 'red' else 0},train,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "weighted.h5", SPEC, root=shared_photos)
    return tmp_path / "weighted.h5"


@pytest.mark.parametrize("head", HEADS)
def test_weights_from_a_column_or_an_array_are_used_in_search_and_refit(weighted_store, head):
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
def test_invalid_weights_are_named(weighted_store, options, message):
    with pytest.raises(DataError, match=message):
        fit(weighted_store, options=FitOptions(**options), validation=Validation(split_column="split_0"))


def test_a_weight_column_is_not_a_split_column(shared_photos, tmp_path):
    lines = ["path,label,weight", *(f"{name}/{n}.png,{name},2" for name in ("red", "blue") for n in range(4))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    extract(tmp_path / "manifest.csv", tmp_path / "weighted.h5", SPEC, root=shared_photos)
    assert (
        fit(tmp_path / "weighted.h5", head="softmax", blocks=(1,), C=1.0, validation=Validation(folds=2)).info["rows"]
        == 8
    )
