"""Exported files against featx: equal pixels, answers equal to rounding, and no file left behind that differs."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper
from PIL import Image
from safetensors import safe_open
from test_bridge import as_tensor, fitted, make_images

import featx.cli.export
from featx.backbones.poolings import POOLINGS
from featx.backbones.registry import PREPROCESSINGS
from featx.cli.group import main
from featx.engines.finetuned import save_finetuned
from featx.errors import EngineError, ModelError, SpecError, SpecMismatch
from featx.exporting.exported_file import SUFFIXES, export
from featx.exporting.metadata import INPUTS, describe_model
from featx.exporting.onnx_file import OnnxFormat
from featx.exporting.onnx_graph import OnnxGraph
from featx.exporting.onnx_resize import OnnxResizer
from featx.heads.pipeline.calibration import TemperatureCalibration
from featx.heads.pipeline.decisions import class_decisions
from featx.heads.pipeline.linear_heads import HEADS, MULTILABEL_HEADS, make_head
from featx.images.pixels.preprocessing import preprocess
from featx.images.pixels.reference_images import draw_reference_images
from featx.models.torch_bridge import from_torch
from featx.spec.extract_spec import INTERPOLATIONS, RESIZES, ExtractSpec

POOLS = (*POOLINGS, "cov32")

SHAPES = [(64, 64), (1, 1), (1, 90), (90, 2), (40, 50), (64, 100), (200, 100), (130, 301), (301, 130), (97, 63)]
"""Heights and widths: that of the input, one pixel, smaller, tall, wide and odd."""


def noise(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resizer(spec):
    """Make a session of only the resizing of an exported file."""
    graph = OnnxGraph()
    value = OnnxResizer(graph, spec)("images")
    source = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", "height", "width", 3])
    target = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, spec.size, spec.size])
    proto = graph.finish(source, {value: target})
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def answers(path, images):
    """Run an ONNX file on arrays (height, width, 3), one by one."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])


@pytest.fixture(scope="module")
def model(oxford):
    return fitted(oxford)[0]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", RESIZES)
def test_pixels_equal_pillows(resize, interpolation):
    spec = ExtractSpec(size=64, resize=resize, interpolation=interpolation)
    session = resizer(spec)
    for shape in SHAPES:
        image = noise(*shape)
        (pixels,) = session.run(None, {"images": image[None]})
        expected = preprocess(Image.fromarray(image), spec).transpose(2, 0, 1)
        assert np.array_equal(pixels[0], expected), shape


def test_nearest_pixels_equal_pillows_where_rounding_decides():
    spec = ExtractSpec(size=96, interpolation="nearest")
    session = resizer(spec)
    for side in (64, 128, 192, 320):
        image = noise(side, side)
        (pixels,) = session.run(None, {"images": image[None]})
        assert np.array_equal(pixels[0], preprocess(Image.fromarray(image), spec).transpose(2, 0, 1)), side


def test_padding_has_the_mean_color():
    for name, preprocessing in PREPROCESSINGS.items():
        spec = ExtractSpec(size=32, resize="pad", preprocessing=name)
        (pixels,) = resizer(spec).run(None, {"images": noise(10, 20)[None]})
        assert pixels[0, :, 0, 0].tolist() == [round(value) for value in preprocessing.mean]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("normalize", ["power", "standard", "none"])
@pytest.mark.parametrize("head", HEADS)
def test_onnx_answers_equal_featx(oxford, tmp_path, head, normalize, classes):
    model, X = fitted(oxford, head, normalize, classes)
    exported = export(model, tmp_path / "m.onnx")
    got = answers(exported.path, make_images())
    assert got.shape == (12, classes)
    if head == "linear-svc":
        assert exported.answers == "decisions"
        decisions = model.decision_function(X)
        expected = np.column_stack((-decisions / 2, decisions / 2)) if classes == 2 else decisions
    else:
        assert exported.answers == "probabilities"
        expected = model.predict_proba(X)
    assert np.abs(got - expected).max() < 1e-4
    assert exported.difference < 1e-4


@pytest.mark.parametrize("resize", RESIZES)
def test_onnx_with_every_pooling_and_images_of_any_size(oxford, tmp_path, resize):
    spec = ExtractSpec(size=64, blocks=(2, 4), pools=POOLS, resize=resize)
    model, _ = fitted(oxford, spec=spec)
    path = export(model, tmp_path / "m.onnx").path
    images = [noise(*shape) for shape in ((40, 50), (200, 100), (130, 301))]
    pixels = np.stack([preprocess(Image.fromarray(image), spec) for image in images])
    with torch.no_grad():
        logits = model.to_torch(oxford)(as_tensor(pixels))
    assert np.abs(answers(path, images) - logits.softmax(1).numpy()).max() < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (batch,) = session.run(["probabilities"], {"images": np.stack([images[1]] * 3)})
    np.testing.assert_allclose(batch, np.repeat(answers(path, images[1:2]), 3, axis=0), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_calibrated_probabilities_are_exported(oxford, tmp_path, classes):
    model, X = fitted(oxford, "linear-svc", classes=classes)
    model = dataclasses.replace(model, calibration=TemperatureCalibration(0.3))
    exported = export(model, tmp_path / "m.onnx")
    assert exported.answers == "probabilities"
    assert np.abs(answers(exported.path, make_images()) - model.predict_proba(X)).max() < 1e-5
    # The metadata let a program turn logits into probabilities.
    assert describe_model(model)["probabilities"] == {"function": "softmax", "temperature": 0.3}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", MULTILABEL_HEADS)
def test_multilabel_models(oxford, tmp_path, head, classes):
    plain, X = fitted(oxford, head, classes=classes)
    indicator = np.arange(len(X) * classes).reshape(len(X), classes) % 5 < 2
    widths = tuple(plain.spec.widths.values())
    estimator = make_head(head, 10.0, widths=widths, multilabel=True).fit(X, indicator.astype(int))
    model = dataclasses.replace(plain, estimator=estimator)
    exported = export(model, tmp_path / "m.onnx")
    expected = model.decision_function(X) if head == "linear-svc" else model.predict_proba(X)
    assert exported.answers == ("decisions" if head == "linear-svc" else "probabilities")
    assert np.abs(answers(exported.path, make_images()) - expected).max() < 1e-4
    back, _ = from_torch(model.to_torch(oxford), model, oxford)
    assert back.multilabel
    np.testing.assert_allclose(back.decision_function(X), model.decision_function(X), atol=1e-5)


def test_very_negative_decisions_keep_their_order(oxford, tmp_path):
    """In float32, all sigmoids of one-vs-rest would be 0."""
    model, X = fitted(oxford, "ovr-logistic")
    for part in model.estimator.named_steps["head"].estimators_:
        part.intercept_ = part.intercept_ - 800
    got = answers(export(model, tmp_path / "m.onnx").path, make_images())
    np.testing.assert_allclose(got, model.predict_proba(X), atol=1e-3)
    np.testing.assert_array_equal(np.array(model.classes)[got.argmax(axis=1)], model.predict(X))
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)


def test_the_onnx_file_has_metadata(model, tmp_path):
    proto = onnx.load(export(model, tmp_path / "m.onnx").path)
    onnx.checker.check_model(proto, full_check=True)
    facts = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert facts["classes"] == list(model.classes)
    assert (facts["head"], facts["multilabel"]) == ("softmax", False)
    assert facts["probabilities"] == {"function": "softmax", "temperature": 1}
    assert facts["input"] == {
        "name": "images", "dtype": "uint8", "shape": ["n", "height", "width", 3], "layout": "NHWC", "color": "RGB",
        "range": [0, 255], "resized by the file": True,
    }  # fmt: skip
    assert set(facts["outputs"]) == {"probabilities", "label"}
    assert ExtractSpec.from_json(json.dumps(facts["spec"])) == model.spec
    assert facts["normalizer"] == {"kind": "BlockNormalizer", "widths": [64, 128], "power": 0.5}
    assert facts["preprocessing"]["mean"] == [123.68, 116.779, 103.939]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (source,), (target, label) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("images", "tensor(uint8)", ["n", "height", "width", 3])
    assert (target.name, target.type, target.shape) == ("probabilities", "tensor(float)", ["n", 3])
    assert (label.name, label.type, label.shape) == ("label", "tensor(int64)", ["n"])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_file_that_takes_tensors(oxford, tmp_path, head, classes):
    """It has no float64, no resizing and no operator of a later opset, and takes any number of images."""
    model, X = fitted(oxford, head, classes=classes)
    exported = export(model, tmp_path / "m.onnx", input="tensor")
    assert exported.difference < 1e-4
    proto = onnx.shape_inference.infer_shapes(onnx.load(exported.path), strict_mode=True, data_prop=True)
    onnx.checker.check_model(proto, full_check=True)
    types = {value.type.tensor_type.elem_type for value in (*proto.graph.value_info, *proto.graph.input)}
    assert types | {constant.data_type for constant in proto.graph.initializer} <= {
        TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    }  # fmt: skip
    assert proto.opset_import[0].version == 17
    assert not {node.op_type for node in proto.graph.node} & {"Cast", "Resize", "Range", "Shape", "Gather"}
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert (source.name, source.type, source.shape) == ("images", "tensor(float)", ["n", 3, 64, 64])
    facts = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert facts["input"] == {
        "name": "images", "dtype": "float32", "shape": ["n", 3, 64, 64], "layout": "NCHW", "color": "RGB",
        "range": [0, 1], "resized by the file": False,
    }  # fmt: skip
    tensor = (make_images().transpose(0, 3, 1, 2) / 255).astype(np.float32)
    expected = class_decisions(model.decision_function(X)) if head == "linear-svc" else model.predict_proba(X)
    for count in (1, 2, 12):
        (got,) = session.run([exported.answers], {"images": tensor[:count]})
        assert np.abs(got - expected[:count]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "normalize", "pools", "accelerators"),
    [
        ("linear-svc", "power", ("avg",), {"NNAPI", "CoreML MLProgram"}),
        ("softmax", "standard", ("avg", "gem"), {"NNAPI", "CoreML MLProgram"}),
        ("ovr-logistic", "power", tuple(POOLINGS), {"CoreML MLProgram"}),
    ],
)
def test_the_accelerators_of_phones_run_a_file_that_takes_tensors(
    oxford, tmp_path, head, normalize, pools, accelerators
):
    """The tool of onnxruntime says for each accelerator how much of a file it can run."""
    model, _ = fitted(oxford, head, normalize, spec=ExtractSpec(size=64, blocks=(2, 3), pools=pools))
    export(model, tmp_path / "any.onnx", input="tensor")
    tool = [sys.executable, "-m", "onnxruntime.tools.make_dynamic_shape_fixed", "--dim_param", "n", "--dim_value", "1"]
    subprocess.run([*tool, tmp_path / "any.onnx", tmp_path / "one.onnx"], check=True)
    command = [sys.executable, "-m", "onnxruntime.tools.check_onnx_model_mobile_usability", tmp_path / "one.onnx"]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    good = set(re.findall(r"Model should perform well with (.*) as is: YES", said.stdout + said.stderr))
    assert good >= accelerators


@pytest.mark.parametrize("classes", [2, 3])
def test_multilabel_labels_are_a_matrix(oxford, tmp_path, classes):
    plain, X = fitted(oxford, "ovr-logistic", classes=classes)
    indicator = np.arange(len(X) * classes).reshape(len(X), classes) % 5 < 2
    estimator = make_head("ovr-logistic", 1.0, multilabel=True).fit(X, indicator.astype(int))
    model = dataclasses.replace(plain, estimator=estimator)
    session = onnxruntime.InferenceSession(export(model, tmp_path / "m.onnx").path)
    label = np.concatenate([session.run(["label"], {"images": image[None]})[0] for image in make_images()])
    np.testing.assert_array_equal(label, model.predict(X))
    facts = describe_model(model)
    assert facts["predicted"] == "every class whose decision is above 0"
    assert facts["probabilities"]["function"] == "sigmoid"


@pytest.mark.parametrize("input", ["images", "tensor"])
def test_a_program_of_two_classes_has_two_logits(oxford, tmp_path, input):
    model, X = fitted(oxford, "ovr-logistic", classes=2)
    program = torch.export.load(export(model, tmp_path / "m.pt2", input=input).path).module()
    images = as_tensor(make_images())
    with torch.no_grad():
        logits = program(images / 255 if input == "tensor" else images).numpy()
    assert logits.shape == (12, 2)
    assert np.abs(logits[:, 1] - logits[:, 0] - model.decision_function(X)).max() < 1e-4
    (tmp_path / "m.pt2").unlink()
    export(model, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        assert file.get_tensor("classifier.weight").shape == (2, 192)


def test_an_input_that_a_file_cannot_take_is_refused(model, tmp_path):
    with pytest.raises(SpecError, match="--input of export must be images or tensor, got 'jpeg'"):
        export(model, tmp_path / "m.onnx", input="jpeg")
    with pytest.raises(SpecError, match="--input tensor of export is for onnx and torch; a safetensors file has only"):
        export(model, tmp_path / "m.safetensors", input="tensor")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_equal_models_give_equal_files(model, tmp_path, format):
    one, *others = (export(model, tmp_path / str(number), format).path.read_bytes() for number in range(4))
    assert others == [one] * 3


def test_weights_have_torchvisions_names(oxford, tmp_path):
    model, _ = fitted(oxford, normalize="standard")
    exported = export(model, tmp_path / "m.safetensors", "safetensors")
    assert exported.answers == "logits"
    with safe_open(exported.path, framework="numpy") as file:
        names, facts = set(file.keys()), file.metadata()
        backbone = {f"features.{i}.{part}" for i in (0, 2, 5, 7) for part in ("weight", "bias")}
        others = {"classifier.weight", "classifier.bias", "normalizer.mean", "normalizer.scale"}
        assert names == backbone | others
        for name in backbone:
            assert np.array_equal(file.get_tensor(name), oxford.tensors[name])
        assert np.array_equal(file.get_tensor("classifier.bias"), model.estimator[-1].intercept_.astype(np.float32))
    facts = json.loads(facts["featx"])
    assert facts["classes"] == list(model.classes)
    assert facts["normalizer"] == {"kind": "StandardScaler"}


@pytest.mark.parametrize("normalize", ["power", "none"])
def test_a_program_runs_with_any_batch_size(oxford, tmp_path, normalize):
    model, X = fitted(oxford, normalize=normalize)
    exported = export(model, tmp_path / "m.pt2", "torch")
    extra = {"featx.json": ""}
    module = torch.export.load(exported.path, extra_files=extra).module()
    for count in (1, 2, 5):
        logits = module(as_tensor(make_images(count)))
        assert np.abs(logits.detach().numpy() - model.decision_function(X)[:count]).max() < 1e-4
    assert json.loads(extra["featx.json"])["classes"] == list(model.classes)


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_fine_tuned_model_is_exported_with_its_own_backbone(oxford, model, tmp_path, format):
    from featx.models.model_file import load_model

    module = model.to_torch(oxford)
    with torch.no_grad():
        module.backbone.features[0].bias += 1
    tuned, weights = from_torch(module, model, oxford)
    tuned.save(tmp_path / "tuned.featx")
    save_finetuned(weights, tmp_path / "tuned.featx")
    assert export(load_model(tmp_path / "tuned.featx"), tmp_path / "m", format).difference < 1e-4


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_file_with_other_answers_is_not_left_behind(model, tmp_path, monkeypatch, format):
    # The file is run on the reference images in another order than featx.
    monkeypatch.setattr("featx.exporting.exported_file.draw_reference_images", lambda: draw_reference_images()[::-1])
    with pytest.raises(
        EngineError,
        match=r"of the exported file must differ by at most 0[.]001\d? from those of featx on the .*, got \d",
    ):
        export(model, tmp_path / "m", format)
    assert list(tmp_path.iterdir()) == []


def test_nan_answers_are_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxFormat, "run", lambda *_: np.full((3, 3), np.nan))
    with pytest.raises(EngineError, match="got nan; no file was written"):
        export(model, tmp_path / "m.onnx")


def test_an_existing_file_is_kept(model, tmp_path):
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(ModelError, match=r"m\.onnx exists already; choose another --output, or replace it"):
        export(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "mine"
    assert export(model, tmp_path / "m.onnx", overwrite=True).bytes == (tmp_path / "m.onnx").stat().st_size


def test_a_missing_folder(model, tmp_path):
    with pytest.raises(ModelError, match=re.escape("gone/m.onnx cannot be written: No such file or directory")):
        export(model, tmp_path / "gone" / "m.onnx")


def test_an_unknown_format(model, tmp_path):
    with pytest.raises(SpecError, match="--format of export must be one of onnx, safetensors, torch, got 'caffe'"):
        export(model, tmp_path / "m", "caffe")


def test_without_onnxruntime(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=re.escape("pip install 'featx[export]'")):
        export(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_other_weights_are_refused(oxford, model, tmp_path):
    other = {name: values + np.float32(name == "features.0.bias") for name, values in oxford.tensors.items()}
    file = save_finetuned(dataclasses.replace(oxford, tensors=other), tmp_path / "other.featx")
    spec = dataclasses.replace(model.spec, backbone="mine")
    with pytest.raises(SpecMismatch, match="give the weights that it was fitted with, by --weights"):
        export(dataclasses.replace(model, spec=spec), tmp_path / "m.onnx", weights=file)


def test_the_command(model, tmp_path):
    saved = tmp_path / "photos.featx"
    model.save(saved)
    result = CliRunner().invoke(main, ["export", str(saved)])
    assert result.exit_code == 0, result.output
    assert re.search(
        r"photos\.onnx: 1\.\d MB; its probabilities are within \d\.\de-\d+ of featx's on the three", result.output
    )
    assert (tmp_path / "photos.onnx").is_file()
    result = CliRunner().invoke(
        main, ["export", str(saved), "--format", "safetensors", "-o", str(tmp_path / "w"), "--json"]
    )
    report = json.loads(result.output)
    assert report["path"] == str(tmp_path / "w")
    assert report["answers"] == "logits"
    assert report["bytes"] == (tmp_path / "w").stat().st_size
    again = CliRunner().invoke(main, ["export", str(saved)])
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert tuple(SUFFIXES) == featx.cli.export.FORMATS
    assert featx.cli.export.INPUTS == INPUTS
    result = CliRunner().invoke(main, ["export", str(saved), "--input", "tensor", "-o", str(tmp_path / "web.onnx")])
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(tmp_path / "web.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(float)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "name"),
    [("onnx", "m.onnx"), ("safetensors", "m.SafeTensors"), ("torch", "m.pt2"), ("onnx", "m")],
)
def test_the_suffix_decides_the_format(model, tmp_path, format, name):
    found = export(model, tmp_path / name).path.read_bytes()
    assert len(found) == export(model, tmp_path / "m.of", format).bytes


def test_a_suffix_of_another_format_is_refused(model, tmp_path):
    model.save(tmp_path / "photos.featx")
    for format, suffix, expected in (("onnx", ".pt2", "torch"), ("safetensors", ".onnx", "onnx")):
        name = f"m{suffix}"
        arguments = ["export", str(tmp_path / "photos.featx"), "--format", format, "-o", str(tmp_path / name)]
        refused = CliRunner().invoke(main, arguments)
        assert f"must be {expected} for a file that ends in {suffix}, got {format}; name the file" in refused.output
        assert not (tmp_path / name).exists()


def test_a_suffix_of_no_format_is_refused(model, tmp_path):
    with pytest.raises(
        SpecError, match=r"must end in \.onnx, \.safetensors or \.pt2, got model\.txt; change the suffix"
    ):
        export(model, tmp_path / "model.txt")
    assert list(tmp_path.iterdir()) == []
    assert export(model, tmp_path / "model.txt", "safetensors").path.is_file()
