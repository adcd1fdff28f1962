"""Class maps with real weights: exact ones add up to logits, first-order ones agree with finite differences."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_bridge import FEATURES, NAMES, fitted, make_images

from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import BLOCKS
from featx.cli.group import main
from featx.engines.finetuned import save_finetuned
from featx.engines.reference_check import compute_reference_features
from featx.engines.torch_engine import TorchEngine
from featx.errors import EngineError, ImageError, SpecError
from featx.heads.pipeline.hidden_layer import HiddenLayer, add_hidden_layer
from featx.heads.pipeline.linear_heads import HEADS, from_linear_parts, linear_parts, make_head
from featx.inspection.explanation.class_maps import refine_map, sum_maps
from featx.inspection.explanation.explainer import Explainer, explain
from featx.inspection.explanation.overlay import overlay_map, plot_explanation
from featx.models.saved_model import Model
from featx.models.torch_bridge import from_torch, to_torch
from featx.spec.extract_spec import ExtractSpec

SIZE = 64
BLOCK_SETS = {"5": (5,), "2": (2,), "3-5": (3, 4, 5), "1-5": (1, 2, 3, 4, 5)}


def features(model, oxford, pixels):
    return np.hstack(list(TorchEngine(oxford, model.spec, "cpu")(pixels).values()))


def total_logit(found):
    return found.intercept + sum(float(values.sum(dtype=np.float64)) for values in found.blocks.values())


@pytest.fixture(scope="module")
def averages(oxford):
    """Averages of all blocks by name: of the test images, and of the reference images."""
    engine = TorchEngine(oxford, ExtractSpec(size=SIZE), "cpu")
    return engine(make_images()), compute_reference_features(engine)


def averaged(averages, head, normalize, blocks):
    """A model fitted on some blocks' averages, and these."""
    spec = ExtractSpec(size=SIZE, blocks=blocks, backbone_digest=BACKBONES["oxford"].digest)
    values, reference_features = ({name: found[name] for name in spec.widths} for found in averages)
    X = np.hstack(list(values.values()))
    estimator = make_head(head, 1e-3, normalize=normalize).fit(X, NAMES[np.arange(len(X)) % 3])
    return Model(spec, tuple(NAMES.tolist()), head, estimator, reference_features, {}), X


@pytest.mark.parametrize("blocks", BLOCK_SETS.values(), ids=BLOCK_SETS)
@pytest.mark.parametrize("normalize", ["none", "standard"])
@pytest.mark.parametrize("head", HEADS)
def test_maps_and_intercept_add_up_to_scikit_learns_logit(oxford, averages, head, normalize, blocks):
    model, X = averaged(averages, head, normalize, blocks)
    explainer = Explainer(model, weights=oxford)
    for pixels, row in zip(make_images()[::4], X[::4], strict=True):
        found = explainer(pixels, classes=model.classes)
        assert (found.method, found.exact) == ("cam", True)
        expected = model.decision_function(row[np.newaxis])[0]
        for code, one in enumerate(found.classes):
            assert abs(total_logit(one) - expected[code]) < 1e-4
            assert abs(one.logit - expected[code]) < 1e-4
            assert abs(one.intercept + float(one.total.sum(dtype=np.float64)) - one.logit) < 1e-4
            for number, values in one.blocks.items():
                side = SIZE // BLOCKS[number - 1].stride
                assert values.dtype == np.float32
                assert values.shape == (side, side)


def test_without_a_normalizer_the_intercept_is_the_heads_own(oxford, flower_paths):
    spec = ExtractSpec(size=96, blocks=(4, 5), backbone_digest=oxford.digest)
    model, _ = fitted(oxford, "softmax", "none", spec=spec)
    _, bias = linear_parts(model.estimator)
    explainer = Explainer(model, weights=oxford)
    for path in flower_paths[::8]:
        found = explainer(path, classes=model.classes)
        assert found.image == path
        decisions = model.decision_function(features(model, oxford, found.pixels[np.newaxis]))[0]
        for code, one in enumerate(found.classes):
            assert one.intercept == pytest.approx(bias[code], abs=1e-6)
            assert abs(total_logit(one) - decisions[code]) < 1e-4


def test_flat_pooling_and_two_classes_are_exact(oxford):
    model, X = fitted(oxford, "linear-svc", "standard", classes=2, spec=ExtractSpec(size=SIZE, **FEATURES["flat"]))
    found = explain(model, make_images()[1], weights=oxford)
    second = float(model.decision_function(X[1:2])[0])
    assert found.exact
    logits = {one.name: one.logit for one in found.classes}
    assert logits == pytest.approx({"daisy": -second / 2, "iris": second / 2}, abs=1e-4)
    assert found.classes[0].logit > 0
    for one in found.classes:
        assert abs(total_logit(one) - one.logit) < 1e-4


@pytest.mark.parametrize("name", FEATURES)
def test_a_first_order_map_agrees_with_finite_differences(oxford, name):
    """Scaling the activations at a position changes the logit at the rate that the map states."""
    model, _ = fitted(oxford, "softmax", spec=ExtractSpec(size=SIZE, **FEATURES[name]))
    explainer = Explainer(model, weights=oxford, method="cam")
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)  # without equal maxima
    (found,) = explainer(pixels, top=1).classes
    assert not explainer.exact
    code = model.classes.index(found.name)
    feature_maps = explainer.feature_maps(pixels)
    number = model.spec.blocks[-1]
    for row, column in ((0, 0), (1, 0), (1, 1)):
        moved = []
        for step in (1e-3, -1e-3):
            changed = feature_maps[number].clone()
            changed[..., row, column] *= 1 + step
            moved.append(float(explainer.logits({**feature_maps, number: changed})[code]))
        slope = (moved[0] - moved[1]) / 2e-3
        scale = float(np.abs(found.blocks[number]).max())
        assert found.blocks[number][row, column] == pytest.approx(slope, abs=5e-3 * scale)


def test_behind_power_normalization_each_map_adds_up_to_0(oxford):
    model, _ = fitted(oxford, spec=ExtractSpec(size=SIZE, blocks=(3, 5)))
    found = explain(model, make_images()[0], weights=oxford)
    assert "first-order approximation: gradient × activation" in found.note
    for one in found.classes:
        assert one.intercept == pytest.approx(one.logit, abs=1e-6)
        assert all(np.abs(values).max() > 1e-4 for values in one.blocks.values())


def test_removing_a_position_lowers_the_logit_by_about_its_value_in_the_map(oxford):
    model, _ = fitted(oxford, spec=ExtractSpec(size=SIZE, blocks=(4,)))
    explainer = Explainer(model, weights=oxford)
    pixels = make_images()[2]
    (found,) = explainer(pixels, top=1).classes
    code, output = model.classes.index(found.name), explainer.feature_maps(pixels)[4]
    values, lost = found.blocks[4], np.zeros_like(found.blocks[4])
    for row, column in np.ndindex(values.shape):
        without = output.clone()
        without[..., row, column] = 0
        lost[row, column] = found.logit - float(explainer.logits({4: without})[code])
    assert np.corrcoef(values.ravel(), lost.ravel())[0, 1] > 0.95


def with_hidden_units(model):
    """Return the model with a hidden layer of eight units."""
    columns, rng = sum(model.spec.widths.values()), np.random.default_rng(0)
    layer = HiddenLayer.from_parts(rng.normal(size=(8, columns)).astype(np.float32), np.zeros(8, np.float32))
    W, b = rng.normal(size=(3, 8)).astype(np.float32), np.zeros(3, np.float32)
    normalizer = model.estimator.named_steps["normalizer"]
    pipeline = add_hidden_layer(from_linear_parts(model.head, W, b, np.array(model.classes), normalizer), layer)
    return dataclasses.replace(model, estimator=pipeline)


@pytest.mark.parametrize(
    ("name", "hidden", "method", "exact"),
    [
        ("block 5 avg", False, "cam", False),
        ("avg and max", False, "grad-cam", False),
        ("gem", False, "grad-cam", False),
        ("block 5 avg", True, "grad-cam", False),
    ],
)
def test_auto_selects_the_method_that_suits_the_model(oxford, name, hidden, method, exact):
    model, _ = fitted(oxford, spec=ExtractSpec(size=SIZE, **FEATURES[name]))
    explainer = Explainer(with_hidden_units(model) if hidden else model, weights=oxford)
    assert (explainer.method, explainer.exact) == (method, exact)
    found = explainer(make_images()[0], top=2)
    assert len(found.classes) == 2
    assert found.classes[0].logit > found.classes[1].logit
    if method == "grad-cam":
        assert "Grad-CAM" in found.note
        assert all(one.intercept is None and one.total.min() >= 0 for one in found.classes)
        assert max(one.total.max() for one in found.classes) > 0


def test_with_average_pooling_grad_cam_is_the_positive_part_of_the_gradient_map(oxford):
    """The gradient is the same at each position, so it equals its mean."""
    model, _ = fitted(oxford, spec=ExtractSpec(size=SIZE, blocks=(3, 5)))
    pixels = make_images()[0]
    cam = explain(model, pixels, method="cam", weights=oxford)
    grad_cam = explain(model, pixels, method="grad-cam", weights=oxford)
    for one, other in zip(cam.classes, grad_cam.classes, strict=True):
        for number, values in one.blocks.items():
            np.testing.assert_allclose(np.maximum(values, 0), other.blocks[number], atol=1e-7)


@pytest.mark.parametrize("name", ["avg and max", "gem"])
def test_grad_cam_weights_each_channel_by_the_mean_of_its_gradient(oxford, name):
    """The mean gradient, measured: how the logit changes if a channel is raised by the same amount everywhere."""
    model, _ = fitted(oxford, normalize="standard", spec=ExtractSpec(size=SIZE, **FEATURES[name]))
    explainer = Explainer(model, weights=oxford, method="grad-cam")
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    (found,) = explainer(pixels, top=1).classes
    code, feature_maps = model.classes.index(found.name), explainer.feature_maps(pixels)
    for number, values in feature_maps.items():
        channels = values.shape[1]
        slopes = torch.zeros(channels, dtype=torch.float64)
        steps = 1e-3 * values[0].mean(dim=(1, 2))
        for channel in range(channels):
            if steps[channel] == 0:
                continue  # A channel without activations adds nothing to the map.
            logits = []
            for sign in (-1, 1):
                moved = values.clone()
                moved[:, channel] += sign * steps[channel]
                logits.append(explainer.logits({**feature_maps, number: moved})[code])
            slopes[channel] = (logits[1] - logits[0]) / (2 * steps[channel] * values[0, 0].numel())
        expected = (slopes[:, None, None] * values[0]).sum(dim=0).relu().numpy()
        np.testing.assert_allclose(found.blocks[number], expected, atol=0.01 * found.blocks[number].max())


def test_explanations_have_short_reprs(oxford):
    model, _ = fitted(oxford, spec=ExtractSpec(size=SIZE, blocks=(3, 5)))
    found = Explainer(model, weights=oxford)(make_images()[0], classes=["iris"])
    assert repr(found) == f"Explanation('', cam; logits: iris {found.classes[0].logit:.3f})"
    assert repr(found.classes[0]) == f"ClassMap('iris', logit {found.classes[0].logit:.3f}, maps of blocks 3, 5)"


@pytest.mark.parametrize(("normalize", "method"), [("power", "grad-cam"), ("standard", "cam")])
def test_a_fine_tuned_backbone_is_found_beside_its_model(oxford, tmp_path, normalize, method):
    model, _ = fitted(oxford, normalize=normalize)
    module = to_torch(model, oxford)
    with torch.no_grad():
        module.backbone.features[5].weight += 1e-3
    changed, weights = from_torch(module, model, oxford)
    path = tmp_path / "tuned.featx"
    changed.save(path)
    save_finetuned(weights, path)
    explainer = Explainer(dataclasses.replace(changed, path=path))
    assert (explainer.method, explainer.exact) == (method, method == "cam")
    found = explainer(make_images()[0])
    with torch.no_grad():
        logits = module(torch.from_numpy(make_images()[:1].transpose(0, 3, 1, 2).copy()))[0].numpy()
    for one in found.classes:
        assert one.logit == pytest.approx(logits[changed.classes.index(one.name)], abs=1e-4)


@pytest.mark.parametrize("size", [64, 100, 33])
def test_refining_a_map_keeps_its_sum_and_its_maximum(size):
    for block in BLOCKS:
        side = size // block.stride
        values = np.zeros((side, side), np.float32)
        values[side // 2, 0] = 3
        fine = refine_map(values, block.stride, 1, size)
        assert fine.shape == (size, size)
        assert fine.sum(dtype=np.float64) == pytest.approx(3, abs=1e-5)
        assert np.unravel_index(fine.argmax(), fine.shape)[1] <= block.stride
    maps = {number: np.ones((size // 2**number,) * 2, np.float32) for number in (2, 4)}
    total = sum_maps(maps, size)
    assert total.shape == (size // 4, size // 4)
    assert total.sum(dtype=np.float64) == pytest.approx(sum(values.size for values in maps.values()), rel=1e-5)


def test_an_overlay_is_red_where_positive_blue_where_negative_and_gray_elsewhere():
    pixels = np.full((64, 64, 3), 128, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0, 0], values[3, 3] = 1, -1
    seen = overlay_map(pixels, values).astype(int)
    assert seen[4, 4, 0] > seen[4, 4, 2] + 80
    assert seen[-4, -4, 2] > seen[-4, -4, 0] + 80
    assert np.ptp(seen[4, -4]) == 0
    np.testing.assert_array_equal(overlay_map(pixels, np.zeros((4, 4), np.float32)), pixels)


def test_an_overlay_of_another_shape_than_a_feature_map_is_refused():
    with pytest.raises(
        SpecError, match=r"must have the shape of a block's feature map, \(32, 32\), \(16, 16\), .*, got \(5, 5\)"
    ):
        overlay_map(np.zeros((64, 64, 3), np.uint8), np.zeros((5, 5), np.float32))


def test_a_model_of_another_precision_is_explained_in_fp32_with_a_note(oxford):
    model, _ = fitted(oxford, normalize="none")
    halves = dataclasses.replace(model, spec=dataclasses.replace(model.spec, precision="bf16"))
    found = explain(halves, make_images()[0], weights=oxford)
    assert found.note.endswith("; in fp32, while the model predicts in bf16")
    assert found.classes[0].logit == explain(model, make_images()[0], weights=oxford).classes[0].logit


def test_too_large_images_are_refused(files):
    assert "(--max-pixels)" in run(*files, "-o", "cam.png", "--max-pixels", "10", code=1)


@pytest.fixture(scope="module")
def files(oxford, tmp_path_factory):
    """A model file and an image file."""
    folder = tmp_path_factory.mktemp("explain")
    fitted(oxford, normalize="standard")[0].save(folder / "m.featx")
    Image.fromarray(make_images()[0]).save(folder / "one.png")
    return folder / "m.featx", folder / "one.png"


def run(*args, code=0):
    result = CliRunner().invoke(main, ["explain", *map(str, args)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


@pytest.mark.slow
def test_the_command_draws_maps_and_prints_logits(files, tmp_path):
    said = run(*files, "-o", tmp_path / "cam.png")
    assert said.count("logit") == 4
    assert said.splitlines()[-1].startswith("exact: the map's sum plus the intercept is the logit")
    with Image.open(tmp_path / "cam.png") as drawn:
        assert drawn.width > drawn.height > 300
    told = json.loads(run(*files, "-o", tmp_path / "cam.svg", "--class", "lily", "--json"))
    assert (told["method"], told["exact"], len(told["classes"])) == ("cam", True, 1)
    (lily,) = told["classes"]
    assert lily["logit"] == pytest.approx(lily["intercept"] + sum(lily["blocks"].values()), abs=1e-4)
    drawn = (tmp_path / "cam.svg").read_text()
    for text in ("lily", "block 1", "sum", "exact"):
        assert f"<!-- {text}" in drawn
    assert run(*files, "-o", tmp_path / "cam.png", "--method", "grad-cam", "-q") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--class", "rose"), "--class of explain must be one of the model's classes, daisy, iris, lily, got 'rose'"),
        (("-o", "cam.xyz"), "name of a plot must end in one of .*got 'cam.xyz'"),
        (("-o", "/nowhere/cam.png"), "/nowhere/cam.png cannot be written: its folder /nowhere does not exist"),
        (("--device", "tpu"), "--device must be auto or one of"),
    ],
)
def test_wrong_options_are_refused(files, arguments, message):
    assert re.search(message, run(*files, "-o", "cam.png", *arguments, code=1))


def test_wrong_methods_arrays_and_images_are_refused(oxford, tmp_path, monkeypatch):
    model, _ = fitted(oxford)
    with pytest.raises(SpecError, match="--method of explain must be one of auto, cam, grad-cam, got 'lime'"):
        Explainer(model, method="lime")
    explainer = Explainer(model, weights=oxford)
    with pytest.raises(ImageError, match=r"pixels to explain must be uint8 \(64, 64, 3\), got float64 \(64, 64, 3\)"):
        explainer(make_images()[0] / 255)
    (tmp_path / "bad.jpg").write_text("not an image")
    with pytest.raises(ImageError, match=r"bad\.jpg: no image format"):
        explainer(tmp_path / "bad.jpg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delattr("matplotlib.figure", raising=False)
    with pytest.raises(EngineError, match=r"plots need a package: pip install 'featx\[plot\]'"):
        plot_explanation(explainer(make_images()[0]))
