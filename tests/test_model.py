"""A saved model computes the same bits after reopening, and damage of its file is always noticed."""

import dataclasses
import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.datasets import make_blobs

import featx.models.model_file
from featx.errors import ModelError
from featx.heads.pipeline.calibration import TemperatureCalibration
from featx.heads.pipeline.linear_heads import HEADS, NORMALIZERS, make_head
from featx.models.model_file import load_model
from featx.models.saved_model import Model
from featx.spec.extract_spec import ExtractSpec

pytestmark = pytest.mark.core

SPEC = ExtractSpec(blocks=(1, 2), size=32, backbone_digest="ab" * 32)
WIDTHS = tuple(SPEC.widths.values())
COMPUTED = ("decision_function", "predict", "predict_proba")


def _rows(dtype=np.float32, classes=3):
    X, y = make_blobs(60, sum(WIDTHS), centers=classes, cluster_std=6.0, random_state=0)
    return (X / 10).astype(dtype), np.array(["lily", "iris", "tulip", "crocus", "daisy"])[y]


def _model(head="softmax", normalize="power", count=3, dtype=np.float32, **changes):
    X, y = _rows(dtype, count)
    estimator = make_head(head, 2.0, normalize=normalize, widths=WIDTHS).fit(X, y)
    reference = {name: np.full((3, width), width, np.float32) for name, width in SPEC.widths.items()}
    info = {"C": 2.0, "scores": [0.5, 0.25], "by": {"featx": "0.1", "zeros": "0" * 64}}
    parts = {"spec": SPEC, "classes": tuple(map(str, estimator.classes_)), "head": head, "estimator": estimator}
    return Model(**{**parts, "reference_features": reference, "info": info, **changes})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "flowers.featx"
    _model().save(path)
    return path


def _resealed(path, change):
    """Change the JSON and tensors of a file by ``change``, and write the matching digest."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["featx"])
    tensors = load_file(path)
    change(document, tensors)
    save_file(tensors, path, {"featx": json.dumps(document)})
    body = path.read_bytes()[:-32]
    path.write_bytes(body + hashlib.sha256(body).digest())


@pytest.mark.parametrize(
    ("head", "normalize", "classes", "dtype"),
    [*itertools.product(HEADS, NORMALIZERS, (2, 5), (np.float32, np.float64))],
)
def test_a_reopened_model_computes_the_same_bits(tmp_path, head, normalize, classes, dtype):
    X, _ = _rows(dtype, classes)
    model = _model(head, normalize, classes, dtype)
    model.save(tmp_path / "a.featx")
    again = load_model(tmp_path / "a.featx")
    # scikit-learn before 1.9 stores the weights of softmax row by row, a reopened model column by column: BLAS sums
    # in another order, which changes the rounding.
    alike = head == "ovr-logistic" or model.estimator.named_steps["head"].coef_.flags.f_contiguous
    for rows, name in itertools.product((X, X[:1], np.asfortranarray(X)), COMPUTED):
        assert hasattr(again.estimator, name) == hasattr(model.estimator, name)
        if hasattr(model.estimator, name):
            expected = getattr(model.estimator, name)(rows)
            got = getattr(again.estimator, name)(rows)
            if alike or name == "predict":
                np.testing.assert_array_equal(got, expected, err_msg=name)
            else:
                np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=name)
            assert name == "predict" or got.dtype == expected.dtype
    again.save(tmp_path / "b.featx")
    assert (tmp_path / "a.featx").read_bytes() == (tmp_path / "b.featx").read_bytes()


def test_a_reopened_model_has_all_parts(saved):
    model, again = _model(), load_model(str(saved))
    assert (again.spec, again.classes, again.head, again.info) == (model.spec, model.classes, "softmax", model.info)
    assert list(again.reference_features) == list(model.reference_features) == list(SPEC.widths)
    for name, values in model.reference_features.items():
        np.testing.assert_array_equal(again.reference_features[name], values)
    assert repr(again.estimator) == repr(model.estimator)
    assert again.estimator.named_steps["normalizer"].widths_ == WIDTHS


@pytest.mark.parametrize(("head", "normalize"), [*itertools.product(HEADS, NORMALIZERS)])
def test_a_reopened_estimator_can_be_cloned_and_fitted(tmp_path, head, normalize):
    X, y = _rows()
    model = _model(head, normalize)
    model.save(tmp_path / "a.featx")
    refitted = clone(load_model(tmp_path / "a.featx").estimator).fit(X, y)
    np.testing.assert_array_equal(refitted.decision_function(X), model.estimator.decision_function(X))


@pytest.mark.parametrize("widths", ["auto", None, WIDTHS])
def test_parameters_of_the_normalizer_are_saved(tmp_path, widths):
    X, y = _rows()
    estimator = make_head("softmax", widths=widths).set_params(normalizer__power=0.25).fit(X, y)
    _model(estimator=estimator).save(tmp_path / "a.featx")
    again = load_model(tmp_path / "a.featx").estimator.named_steps["normalizer"]
    assert again.get_params() == {"widths": widths, "power": 0.25}
    assert again.widths_ == estimator.named_steps["normalizer"].widths_


@pytest.mark.parametrize(
    ("head", "weights"),
    [
        ("linear-svc", {"lily": 1.0, "iris": 2.0, "tulip": 0.5}),
        ("ovr-logistic", {0: 1.0, 1: 2.5}),
        ("softmax", "balanced"),
    ],
)
def test_class_weights_and_seed_are_saved(tmp_path, head, weights):
    estimator = make_head(head, 3.0, class_weight=weights, random_state=None).fit(*_rows())
    _model(head, estimator=estimator).save(tmp_path / "a.featx")
    step = load_model(tmp_path / "a.featx").estimator.named_steps["head"]
    inner = getattr(step, "estimator", step)
    assert (inner.C, inner.class_weight, inner.random_state) == (3.0, weights, None)


def test_class_names_of_any_bytes_are_saved(tmp_path):
    X, y = _rows()
    names = {"lily": "caf\udce9", "iris": "两 iris\n", "tulip": "🌷"}
    estimator = make_head("softmax", widths=WIDTHS).fit(X, np.array([names[name] for name in y]))
    model = _model(estimator=estimator, classes=tuple(sorted(names.values())))
    model.save(tmp_path / "a.featx")
    again = load_model(tmp_path / "a.featx")
    assert again.classes == tuple(sorted(names.values()))
    assert again.predict(X).tolist() == estimator.predict(X).tolist()
    assert os.fsencode(again.classes[0]) == b"caf\xe9"


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "ovr-logistic"])
def test_predictions_equal_those_of_the_estimator(head, count):
    X, _ = _rows(classes=count)
    model = _model(head, count=count)
    np.testing.assert_array_equal(model.predict(X), model.estimator.predict(X))
    np.testing.assert_array_equal(model.decision_function(X), model.estimator.decision_function(X))
    np.testing.assert_allclose(model.predict_proba(X), model.estimator.predict_proba(X), atol=1e-6)
    assert not _model("linear-svc").has_probabilities
    with pytest.raises(
        ModelError, match="linear-svc without calibration has no probabilities; fit it with --calibrate"
    ):
        _model("linear-svc").predict_proba(X)


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path, saved):
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]; from featx.models.model_file import load_model;"
        "load_model(sys.argv[1]).save(sys.argv[1] + '.again'); assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script, saved, *sys.path], check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert (tmp_path / "flowers.featx.again").read_bytes() == saved.read_bytes()


def test_a_flipped_bit_is_noticed_anywhere(saved):
    data = bytearray(saved.read_bytes())
    generator = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    # First byte, end and number of flips of each region: length, header, tensors and digest.
    regions = [(0, 8, 32), (8, header, 300), (header, len(data) - 32, 300), (len(data) - 32, len(data), 64)]
    for low, high, count in regions:
        for place, bit in zip(generator.integers(low, high, count), generator.integers(0, 8, count), strict=True):
            data[place] ^= 1 << bit
            saved.write_bytes(data)
            with pytest.raises(ModelError, match=r"flowers\.featx (is|has) "):
                load_model(saved)
            data[place] ^= 1 << bit
    saved.write_bytes(data)
    load_model(saved)


def test_a_file_of_another_length_is_noticed(saved):
    data = saved.read_bytes()
    lengths = {0, 1, 7, 8, 9, len(data) - 33, len(data) - 32, len(data) - 1, *range(10, len(data), len(data) // 150)}
    for length in sorted(lengths):
        saved.write_bytes(data[:length])
        with pytest.raises(ModelError, match="is cut short"):
            load_model(saved)
    saved.write_bytes(data + b"\0")
    with pytest.raises(
        ModelError, match=r"is cut short or has changed bytes: its digest does not match; copy it again"
    ):
        load_model(saved)


def test_a_missing_file_is_reported_with_a_remedy(tmp_path):
    with pytest.raises(ModelError, match=r"a\.featx does not exist; make it with: featx fit STORE --output .*a\.featx"):
        load_model(tmp_path / "a.featx")


def test_a_folder_is_not_a_model(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_model(tmp_path)


def test_a_store_is_not_a_model(tmp_path):
    with h5py.File(tmp_path / "store.h5", "w") as file:
        file.attrs["schema"] = 1
    with pytest.raises(
        ModelError, match=r"store\.h5 is an HDF5 file, perhaps a store, and not a model; featx fit makes"
    ):
        load_model(tmp_path / "store.h5")


def _safetensors(metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a model at all, but text", "is not a featx model, or is cut short: its header does not fit in the file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "its header does not fit in the file"),
        (struct.pack("<Q", 2) + b"\xff\xff", "is not a featx model, or is damaged: its header is not one of featx"),
        (struct.pack("<Q", 2) + b"[]", "its header is not one of featx"),
        (struct.pack("<Q", 90_000) + b"[" * 90_000, "its header is not one of featx"),
        (_safetensors({"format": "pt"}), "its header is not one of featx"),
        (_safetensors({"featx": "{}"}), "its header is not one of featx"),
        (_safetensors({"featx": '{"schema": 3}'}), "has schema 3, this featx reads up to 2; update featx"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, data, message):
    path = tmp_path / "a.featx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_a_header_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "a.featx"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", featx.models.model_file.MAX_HEADER + 1))
        file.truncate(featx.models.model_file.MAX_HEADER + 100)  # a sparse file
    with pytest.raises(ModelError, match="its header does not fit"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document, tensors: document.update(head="forest"), "head must be one of .* got 'forest'"),
        (lambda document, tensors: document.update(normalizer="l2"), "normalizer must be power, standard or none"),
        (lambda document, tensors: document.update(spec='{"blocks": [9]}'), "blocks of the spec: must be 1 to 5"),
        (lambda document, tensors: document.update(spec='{"sounds": 3}'), "does not know: sounds; update featx"),
        (lambda document, tensors: document.update(classes=["iris", "lily"]), "of 2 classes must have 1 rows"),
        (lambda document, tensors: document.update(classes=7), "'int' object is not iterable"),
        (lambda document, tensors: document["normalizer_parameters"].update(widths_=[5]), r"got 5 and 192"),
        (lambda document, tensors: document.pop("info"), "'info'"),
        (lambda document, tensors: tensors.update(weight=np.zeros((3, 5), np.float32)), "must take the 192 columns"),
        (lambda document, tensors: tensors.pop("golden.block1_avg"), "golden.block1_avg"),
        (lambda document, tensors: tensors.pop("weight"), "weight"),
    ],
)
def test_a_file_whose_parts_do_not_match_is_refused(saved, change, message):
    _resealed(saved, change)
    with pytest.raises(ModelError, match=f"flowers.featx is not a model that this featx can use: .*{message}"):
        load_model(saved)


def test_a_changed_file_with_a_new_digest_opens(saved):
    _resealed(saved, lambda document, tensors: document["info"].update(note="changed"))
    assert load_model(saved).info["note"] == "changed"


def test_an_existing_file_is_replaced_only_with_overwrite(saved):
    before = saved.read_bytes()
    model = _model(info={"new": True})
    with pytest.raises(
        ModelError, match=r"flowers\.featx exists already; choose another --output, or replace it with --overwrite"
    ):
        model.save(saved)
    assert saved.read_bytes() == before
    model.save(saved, overwrite=True)
    assert load_model(saved).info == {"new": True}
    assert [entry.name for entry in saved.parent.iterdir()] == ["flowers.featx"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"a\.featx cannot be written: No such file or directory"):
        _model().save(tmp_path / "none" / "a.featx")


def test_a_failed_write_keeps_the_old_model(saved, monkeypatch):
    before = saved.read_bytes()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(saved), "write_bytes", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        _model().save(saved, overwrite=True)
    assert [entry.name for entry in saved.parent.iterdir()] == ["flowers.featx"]
    assert saved.read_bytes() == before


@pytest.mark.parametrize("info", [{"x": np.zeros(2)}, {"x": float("nan")}, {"x": {1, 2}}, {1: 2, "a": 3}])
def test_info_must_be_valid_json(tmp_path, info):
    with pytest.raises(ModelError, match="info of the model must be valid JSON: "):
        _model(info=info).save(tmp_path / "a.featx")
    assert not list(tmp_path.iterdir())


def test_an_unknown_normalizer_is_refused(tmp_path):
    model = _model()
    model.estimator.set_params(normalizer=None)
    with pytest.raises(ModelError, match="must be BlockNormalizer, StandardScaler or 'passthrough', got None"):
        model.save(tmp_path / "a.featx")


@pytest.mark.parametrize("count", [2, 3])
def test_a_calibration_is_saved(tmp_path, count):
    X, _ = _rows(classes=count)
    calibration = TemperatureCalibration(0.3)
    model = _model("linear-svc", count=count, calibration=calibration)
    model.save(tmp_path / "a.featx")
    again = load_model(tmp_path / "a.featx")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(model.predict_proba(X), calibration.predict_proba(model.decision_function(X)))
    again.save(tmp_path / "b.featx")
    assert (tmp_path / "a.featx").read_bytes() == (tmp_path / "b.featx").read_bytes()


def _header(path):
    with path.open("rb") as file:
        return json.loads(json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]["featx"])


def test_a_file_claims_the_lowest_schema_that_holds_it(saved, tmp_path):
    assert _header(saved)["schema"] == 1
    assert "calibration" not in _header(saved)
    _model("linear-svc", calibration=TemperatureCalibration(0.3)).save(tmp_path / "b.featx")
    assert (_header(tmp_path / "b.featx")["schema"], _header(tmp_path / "b.featx")["calibration"]) == (2, "temperature")
    _resealed(tmp_path / "b.featx", lambda document, tensors: document.update(calibration="isotonic"))
    with pytest.raises(ModelError, match="calibration must be temperature, got 'isotonic'; fit the model again"):
        load_model(tmp_path / "b.featx")


def _with_weights(value):
    model = _model()
    model.estimator.named_steps["head"].coef_[0, 0] = value
    return model.estimator


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classes": ("a", "b", "c")},
            r"those that its estimator was fitted on, \('iris'.*'tulip'\), got \('a', 'b', 'c'\)",
        ),
        ({"estimator": make_head("softmax")}, r"those that its estimator was fitted on, \(\), got"),
        ({"spec": SPEC.select(blocks=(1,))}, r"must take the 64 columns of its spec, got 192 and 192"),
        ({"estimator": _with_weights(np.nan)}, "weights of the model must be finite, got NaN or infinity"),
        (
            {"reference_features": {}},
            r"reference features of the model must be .*block1_avg.*float32 \(3, 64\).* got \{\}",
        ),
        (
            {"reference_features": {name: np.zeros((3, width)) for name, width in SPEC.widths.items()}},
            r"got .*float64 \(3, 64\)",
        ),
    ],
)
def test_parts_that_do_not_match_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        _model(**changes)


def test_an_unknown_head_is_refused():
    with pytest.raises(ModelError, match="head of the model must be one of linear-svc, softmax, ovr-logistic, got 'x'"):
        dataclasses.replace(_model(), head="x")


def test_a_model_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _model().head = "linear-svc"


@pytest.mark.parametrize(
    "change",
    [
        lambda document, _: document.update(schema=float("inf")),
        lambda document, _: document["normalizer_parameters"].update(power="half"),
        lambda document, _: document["normalizer_parameters"].update(power=10**400),
        lambda document, _: document["normalizer_parameters"].update(power=None),
    ],
)
def test_a_file_whose_model_could_not_predict_is_refused(saved, change):
    _resealed(saved, change)
    with pytest.raises(
        ModelError, match=r"flowers\.featx is not a (featx model, or is damaged|model that this featx can)"
    ):
        load_model(saved)
