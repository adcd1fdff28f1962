"""One model, one answer: everything that featx computes from a model names the same class for the same image."""

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import load_file
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV

from featx.curation.dataset import load_features
from featx.exporting.exported_file import export
from featx.exporting.metadata import describe_model
from featx.exporting.onnx_file import add_decisions, add_label, add_probabilities
from featx.exporting.onnx_graph import OnnxGraph
from featx.extraction import extract
from featx.heads.pipeline.decisions import class_decisions
from featx.heads.pipeline.linear_heads import make_head
from featx.heads.pipeline.refitting import refit, refit_calibrated
from featx.heads.splitting.folds import make_folds
from featx.images.pixels.preprocessing import preprocess
from featx.models.evaluation import evaluate, score_rows
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.prediction import _predict_rows, predict
from featx.models.saved_model import Model
from featx.models.torch_bridge import from_torch, to_torch
from featx.spec.extract_spec import ExtractSpec

NAMES = np.array([f"class {letter}" for letter in "abcdefghij"])
OUTPUTS = ["probabilities", "label"]
HEADS = ("linear-svc", "linear-svc calibrated", "softmax", "ovr-logistic")
MARGIN = 1e-4
"""Classes whose decisions differ by less, relative to the largest decision, are equal to a file in float32."""


def make_problem(head, classes, seed, *, normalize="power", C=10.0, oxford):
    """Fit a head to few rows with mostly random labels, and return the model and other rows."""
    rng = np.random.default_rng(seed)
    spec = ExtractSpec(size=32, blocks=(1,), backbone_digest=oxford.digest)
    count = classes * int(rng.integers(3, 8))
    codes = np.arange(count) % classes
    signal = rng.choice([0.0, 0.3])
    centers = rng.normal(size=(classes, spec.width))
    X, unseen = (
        np.abs(rng.normal(size=(n, spec.width)) + signal * centers[np.arange(n) % classes]).astype(np.float32)
        for n in (count, 60)
    )
    y = NAMES[codes]
    pipeline, calibration = make_head(head.split()[0], C, normalize=normalize, widths=(spec.width,)), None
    if "calibrated" in head:
        pipeline, calibration = refit_calibrated(pipeline, X, y, make_folds(y, n_splits=3, seed=seed))
    else:
        refit(pipeline, X, y)
    reference = {name: np.ones((3, width), np.float32) for name, width in spec.widths.items()}
    names = tuple(NAMES[:classes].tolist())
    return Model(spec, names, head.split()[0], pipeline, reference, {"C": C}, calibration), unseen


def run_onnx_head(model, X):
    """Run the part of an ONNX file that follows the features. Return its answers and its label."""
    graph = OnnxGraph()
    decisions = add_decisions(graph, ["features"], model)
    answer = add_probabilities(graph, decisions, model) if model.has_probabilities else decisions
    shape = ["n", len(model.classes)]
    proto = graph.finish(
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", X.shape[1]]),
        {
            answer: helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape),
            add_label(graph, decisions, model): helper.make_tensor_value_info(
                "label", TensorProto.INT64, shape if model.multilabel else ["n"]
            ),
        },
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": X})


def clear_rows(model, X):
    """Tell which rows have a largest decision that is clearly larger than the next one, or are exactly tied."""
    ranked = np.sort(class_decisions(model.decision_function(X)), axis=1)
    gap = ranked[:, -1] - ranked[:, -2]
    return (gap == 0) | (gap > MARGIN * np.abs(ranked).max())


def named_classes(model, X, oxford):
    """Return the index of the class that each way of using a model names for each row, by the name of the way."""
    names, module = np.array(model.classes), to_torch(model, oxford).eval()
    answers, label = run_onnx_head(model, X)
    predicted = list(_predict_rows(model, [str(row) for row in range(len(X))], X, None, 1))
    with torch.no_grad():
        logits = module.classify(torch.from_numpy(X))
    back, _ = from_torch(module, model, oxford)
    found = {
        "Model.predict": np.searchsorted(names, model.predict(X)),
        "predict": np.searchsorted(names, [one.classes[0] for one in predicted]),
        "torch": logits.argmax(1).numpy(),
        "a model made from the torch module": np.searchsorted(names, back.predict(X)),
        "onnx": answers.argmax(axis=1),
        "label of onnx": label,
        "decisions": class_decisions(model.decision_function(X)).argmax(axis=1),
    }
    if model.has_probabilities:
        found["Model.predict_proba"] = model.predict_proba(X).argmax(axis=1)
    return found


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("head", HEADS)
def test_hard_problems(oxford, head, classes):
    compared = 0
    for seed in range(12):
        normalize, C = (("power", 1.0), ("none", 100.0), ("standard", 1e-3))[seed % 3]
        model, X = make_problem(head, classes, seed, normalize=normalize, C=C, oxford=oxford)
        clear = clear_rows(model, X)
        compared += clear.sum()
        found = named_classes(model, X, oxford)
        for name, codes in found.items():
            np.testing.assert_array_equal(codes[clear], found["Model.predict"][clear], err_msg=f"{name}, seed {seed}")
        if model.has_probabilities:
            shares = model.predict_proba(X)
            chosen = shares[np.arange(len(X)), found["Model.predict"]]
            assert (chosen >= shares.max(axis=1)).all()
            assert (chosen >= 1 / classes - 1e-9).all()
    assert compared > 600


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("head", HEADS)
def test_ties_go_to_the_first_class(oxford, head, classes):
    model, X = make_problem(head, classes, 0, normalize="none", oxford=oxford)
    step = model.estimator.named_steps["head"]
    for part in getattr(step, "estimators_", [step]):
        part.coef_ = np.zeros_like(part.coef_)
        part.intercept_ = np.zeros_like(part.intercept_)
    found = named_classes(model, X, oxford)
    for name, codes in found.items():
        assert not codes.any(), name
    if classes == 3:  # the second and the third class are equal, and the first is not
        if hasattr(step, "estimators_"):
            step.estimators_[0].intercept_ = np.array([-1.0])
        else:
            step.intercept_ = np.array([-1.0, 0.0, 0.0])
        for name, codes in named_classes(model, X, oxford).items():
            assert (codes == 1).all(), name


@pytest.mark.parametrize("head", ["linear-svc", "ovr-logistic"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_multilabel_heads(oxford, head, classes):
    for seed in range(6):
        model, X = make_problem(head, classes, seed, oxford=oxford)
        rng = np.random.default_rng(seed)
        rows = np.abs(rng.normal(size=(30, X.shape[1]))).astype(np.float32)
        Y = rng.integers(0, 2, (30, classes))
        estimator = refit(make_head(head, 10.0, widths=(X.shape[1],), multilabel=True), rows, Y)
        model = dataclasses.replace(model, estimator=estimator)
        decisions = model.decision_function(X)
        clear = np.abs(decisions) > MARGIN * np.abs(decisions).max()
        answers, label = run_onnx_head(model, X)
        with torch.no_grad():
            logits = to_torch(model, oxford).eval().classify(torch.from_numpy(X)).numpy()
        predicted = list(_predict_rows(model, [""] * len(X), X, None, 1))
        named = np.array([[name in one.classes for name in model.classes] for one in predicted])
        expected = model.predict(X)[clear]
        threshold = 0.5 if model.has_probabilities else 0
        for codes in (answers > threshold, label, logits > 0, named, decisions > 0):
            np.testing.assert_array_equal(codes[clear], expected)
        if model.has_probabilities:
            np.testing.assert_array_equal(model.predict_proba(X)[clear] > 0.5, expected)


def test_a_calibration_changes_no_prediction():
    """On these problems, one sigmoid per class names other classes than the decisions."""
    changed = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(30, 20)), NAMES[np.arange(30) % 3]
        folds = make_folds(y, n_splits=3)
        platt = CalibratedClassifierCV(make_head("linear-svc", normalize="none"), cv=folds, ensemble=False).fit(X, y)
        pipeline, calibration = refit_calibrated(make_head("linear-svc", normalize="none"), X, y, folds)
        decisions = pipeline.decision_function(X)
        changed += (platt.predict(X) != pipeline.predict(X)).sum()
        assert (calibration.predict_proba(decisions).argmax(axis=1) == decisions.argmax(axis=1)).all()
    assert changed > 10


def test_views_are_averaged_before_probabilities(oxford):
    """Two views speak weakly for the first class, and one speaks strongly for the second."""
    model, X = make_problem("softmax", 2, 0, normalize="none", oxford=oxford)
    step = model.estimator.named_steps["head"]
    step.coef_ = np.zeros_like(step.coef_)
    step.coef_[0, 0] = 1.0
    step.intercept_ = np.zeros(1)
    rows = np.zeros((3, X.shape[1]), np.float32)
    rows[:, 0] = (-3, -3, 20)
    assert model.predict_proba(rows)[:, 0].mean() > 0.6
    (found,) = _predict_rows(model, ["a"], rows, 2, 3)
    assert found.classes == ("class b", "class a")
    assert found.decisions[0] > found.decisions[1]
    assert found.probabilities[0] > 0.9 > found.probabilities[1]


@pytest.fixture(scope="module")
def hard_folder(tmp_path_factory):
    """Noisy images whose classes are random, in class folders."""
    folder = tmp_path_factory.mktemp("hard")
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10):
        for number in range(12 * classes):
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize(
                (rng.integers(20, 60), rng.integers(20, 60)), Image.Resampling.BICUBIC
            )
            path = folder / str(classes) / NAMES[number % classes] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        extract(folder / str(classes), folder / f"{classes}.h5", ExtractSpec(size=32, blocks=(1, 2)))
    return folder


def read_image(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("head", ["linear-svc calibrated", "softmax"])
def test_every_file_names_the_class_that_predict_names(hard_folder, oxford, tmp_path, head, classes):
    """From images on disk to the answers of every exported file."""
    store = hard_folder / f"{classes}.h5"
    model = fit(
        store, tmp_path / "m.featx", head=head.split()[0], blocks=(1, 2), C=1.0,
        options=FitOptions(calibrate="calibrated" in head), validation=Validation(folds=3, test_size=0.5),
    )  # fmt: skip
    predicted = list(predict(model, [hard_folder / str(classes)]))
    clear = clear_rows(model, load_features(store, blocks=(1, 2)).data)
    assert clear.mean() > 0.9
    expected = np.array([model.classes.index(one.classes[0]) for one in predicted])
    assert all(one.probabilities[0] >= 1 / classes - 1e-6 for one in predicted)

    session = onnxruntime.InferenceSession(export(model, tmp_path / "m.onnx").path)
    outputs = [session.run(OUTPUTS, {"images": read_image(one.path)[np.newaxis]}) for one in predicted]
    np.testing.assert_array_equal(np.array([shares[0].argmax() for shares, _ in outputs])[clear], expected[clear])
    np.testing.assert_array_equal(np.array([label[0] for _, label in outputs])[clear], expected[clear])

    pixels = np.stack([preprocess(Image.fromarray(read_image(one.path)), model.spec) for one in predicted])
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(export(model, tmp_path / "t.onnx", input="tensor").path)
    shares, label = session.run(OUTPUTS, {"images": (pixels / 255).astype(np.float32)})
    np.testing.assert_array_equal(shares.argmax(axis=1)[clear], expected[clear])
    np.testing.assert_array_equal(label[clear], expected[clear])

    module, images = model.to_torch(oxford).eval(), torch.from_numpy(pixels)
    with torch.no_grad():
        np.testing.assert_array_equal(module(images).argmax(1).numpy()[clear], expected[clear])
        tensors = load_file(export(model, tmp_path / "m.safetensors").path)
        names = {name: name.removeprefix("backbone.").replace("head.", "classifier.") for name in module.state_dict()}
        module.load_state_dict({name: tensors[names[name]] for name in names})
        np.testing.assert_array_equal(module(images).argmax(1).numpy()[clear], expected[clear])

    scored = score_rows(model, store)
    right = expected[scored.rows] == scored.labels
    assert evaluate(model, store)["accuracy"] == pytest.approx(right.mean())


@pytest.mark.slow
@pytest.mark.parametrize("input", ["images", "tensor"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_program_names_the_class_that_predict_names(hard_folder, tmp_path, classes, input):
    model = fit(hard_folder / f"{classes}.h5", head="linear-svc", blocks=(1,), C=1.0, validation=Validation(folds=3),
                options=FitOptions(calibrate=True))  # fmt: skip
    exported = export(model, tmp_path / "m.pt2", input=input)
    extra = {"featx.json": ""}
    program = torch.export.load(exported.path, extra_files=extra).module()
    facts = json.loads(extra["featx.json"])
    predicted = list(predict(model, [hard_folder / str(classes)]))
    pixels = np.stack([preprocess(Image.fromarray(read_image(one.path)), model.spec) for one in predicted])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert facts["input"]["range"] == ([0, 1] if input == "tensor" else [0, 255])
    with torch.no_grad():
        logits = program(images / 255 if input == "tensor" else images)
    assert logits.shape == (len(predicted), classes)
    expected = np.array([model.classes.index(one.classes[0]) for one in predicted])
    clear = clear_rows(model, load_features(hard_folder / f"{classes}.h5", blocks=1).data)
    np.testing.assert_array_equal(logits.argmax(1).numpy()[clear], expected[clear])
    shares = (logits / facts["probabilities"]["temperature"]).softmax(1).numpy()
    np.testing.assert_allclose(shares.max(axis=1), [one.probabilities[0] for one in predicted], atol=1e-4)


@pytest.mark.slow
def test_the_commands_agree(hard_folder, tmp_path):
    """The row of a calibrated linear-svc on few, hard images, as a person would meet it."""

    def run(*arguments):
        command = [sys.executable, "-m", "featx", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    store, path = hard_folder / "2.h5", tmp_path / "m.featx"
    run("fit", store, "-o", path, "--head", "linear-svc", "--C", "1", "--folds", "3", "--calibrate")
    run("predict", path, hard_folder / "2", "-o", tmp_path / "rows.csv")
    run("export", path)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    for row in rows:
        shares, label = session.run(None, {"images": read_image(row["path"])[np.newaxis]})
        assert float(row["probability"]) >= 0.5
        if float(row["probability"]) > 0.501:
            assert classes[shares[0].argmax()] == classes[label[0]] == row["class"]
            assert shares[0].max() == pytest.approx(float(row["probability"]), abs=1e-4)


def test_metadata_say_how_logits_become_probabilities(oxford):
    """With them, a program can compute from logits what featx predicts."""
    functions = {
        "softmax": lambda values: torch.from_numpy(values).softmax(1).numpy(),
        "normalized sigmoid": lambda values: expit(values) / expit(values).sum(axis=1, keepdims=True),
    }
    seen = set()
    for head in HEADS:
        for classes in (2, 3):
            model, X = make_problem(head, classes, 1, oxford=oxford)
            facts = describe_model(model)["probabilities"]
            seen.add(facts["function"])
            if head == "linear-svc":
                assert facts["function"] is None
                continue
            logits = class_decisions(model.decision_function(X))
            shares = functions[facts["function"]](logits / facts["temperature"])
            np.testing.assert_allclose(shares, model.predict_proba(X), atol=1e-6)
    assert seen == {"softmax", "normalized sigmoid", None}
