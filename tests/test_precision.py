"""int8 with its calibration, and the choice of the fastest precision."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from click.testing import CliRunner
from conftest import draw
from test_engine import random_images

from featx.backbones.registry import PREPROCESSINGS
from featx.cli.group import main
from featx.engines import precision_selection
from featx.engines.int8 import calibrate_int8, check_int8_agreement
from featx.engines.openvino_engine import OpenVINOEngine
from featx.engines.precision_selection import fastest_precision
from featx.engines.reference_check import relative_error
from featx.engines.selection import make_engine
from featx.engines.torch_backbone import Normalize, TorchBackbone
from featx.engines.torch_engine import TorchEngine
from featx.errors import EngineError, ImageError, SpecMismatch
from featx.extraction import extract
from featx.images.loading import load_images
from featx.images.sources.any_source import list_images
from featx.models.fitting import fit
from featx.models.prediction import predict
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.reader import Store

FLAGS = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
exact_int8 = pytest.mark.skipif(
    "avx2" in FLAGS and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(FLAGS),
    reason="sums of 8-bit products overflow on a processor without VNNI; featx extract refuses int8 there",
)

SPEC = ExtractSpec(size=32, blocks=(1, 3), precision="int8")
FP32 = dataclasses.replace(SPEC, precision="fp32")


@pytest.fixture(scope="module")
def int8(oxford):
    return dataclasses.replace(SPEC, calibration=calibrate_int8(oxford, SPEC, random_images(6, 32)).bounds)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_calibration_finds_the_largest_inputs_and_fp32_features(oxford, monkeypatch, engine):
    """With OpenVINO if it is installed, else with torch. Six images are no multiple of the batch size."""
    other = "torch" if engine == "openvino" else "openvino"
    monkeypatch.setattr("featx.engines.int8.find_spec", lambda name: name == engine or None)
    monkeypatch.setattr(f"featx.engines.{other}_engine.largest_inputs", None)
    images = (
        random_images(6, 32) // 5 + 100
    )  # grey, so that a black image that fills a batch would have the largest inputs
    found = calibrate_int8(oxford, SPEC, images)
    preprocessing = PREPROCESSINGS["oxford"]
    x = Normalize(preprocessing.mean, preprocessing.std)(torch.from_numpy(images).permute(0, 3, 1, 2))
    largest = []
    with torch.inference_mode():
        for layer in TorchBackbone.from_tensors(oxford.tensors, (1, 2, 3, 4, 5)).features:
            if isinstance(layer, torch.nn.Conv2d):
                largest.append(float(x.abs().max()))
            x = layer(x)
    np.testing.assert_allclose(found.bounds, largest, rtol=1e-4)
    plain = TorchEngine(oxford, FP32, "cpu")(images)
    assert list(found.features) == ["block1_avg", "block3_avg"]
    for name, values in found.features.items():
        assert relative_error(values, plain[name]) < 1e-4


def test_an_input_of_zeros_has_a_positive_bound(oxford):
    silent = {**oxford.tensors, **{name: 0 * oxford.tensors[name] for name in ("features.0.weight", "features.0.bias")}}
    bounds = calibrate_int8(dataclasses.replace(oxford, tensors=silent), SPEC, random_images(1, 32)).bounds
    assert bounds[1] == 1.0
    assert bounds[0] > 100


@exact_int8
def test_both_engines_round_in_the_same_way(oxford, int8):
    images = random_images(5, 32)
    ours, theirs = OpenVINOEngine(oxford, int8)(images), TorchEngine(oxford, int8, "cpu")(images)
    plain = TorchEngine(oxford, FP32, "cpu")(images)
    for name, values in ours.items():
        assert relative_error(values, theirs[name]) < int8.tolerance / 4
        assert relative_error(theirs[name], plain[name]) > 1e-5


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_int8_without_a_calibration_is_refused(oxford, engine):
    with pytest.raises(
        EngineError, match="--precision int8 needs a spec with a calibration; extract with --precision int8"
    ):
        make_engine(oxford, SPEC, "cpu", engine=engine)


@pytest.mark.slow
@exact_int8
def test_both_engines_agree_on_photographs(oxford, flower_paths, flowers):
    pixels = [image.pixels for image in load_images(list_images(flower_paths[:4]), range(4), ExtractSpec(), 2)]
    images = np.stack(pixels)
    found = calibrate_int8(oxford, ExtractSpec(), images)
    spec = ExtractSpec(precision="int8", calibration=found.bounds)
    ours, theirs = OpenVINOEngine(oxford, spec)(images), TorchEngine(oxford, spec, "cpu")(images)
    assert all(relative_error(values, theirs[name]) <= spec.tolerance for name, values in ours.items())
    assert min(check_int8_agreement(make_engine(oxford, spec, "cpu"), images, found.features).values()) > 0.999


def test_convolutions_run_in_int8(oxford, int8):
    nodes = [node.get_rt_info() for node in OpenVINOEngine(oxford, int8)._model(4).get_runtime_model().get_ops()]
    assert "INT8" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    kinds = [node["runtimePrecision"].astype(str) for node in nodes if node["layerType"].astype(str) == "Convolution"]
    assert len(kinds) == 7
    assert set(kinds) <= {"u8", "i8"}


def test_int8_too_far_from_fp32_is_an_error(oxford, int8):
    images = random_images(4, 32)
    reference = calibrate_int8(oxford, SPEC, images).features
    clipped = dataclasses.replace(int8, calibration=(1.0,) * 13)
    with pytest.raises(EngineError, match=r"block\d_avg at --precision int8 must have a mean cosine of at least 0\.99"):
        check_int8_agreement(OpenVINOEngine(oxford, clipped), images, reference)


def test_the_calibration_is_kept_in_store_and_model(photos, tmp_path, monkeypatch):
    output = tmp_path / "photos.h5"
    report = extract(photos, output, SPEC)
    assert report.precision == "int8"
    assert list(report.agreement) == ["block1_avg", "block3_avg"]
    assert all(0.999 < cosine <= 1.000001 for cosine in report.agreement.values())
    with Store(output) as store:
        bounds = store.spec.calibration
    assert len(bounds) == 13
    model = fit(output, head="softmax", C=1.0)
    assert model.spec.calibration == bounds
    assert next(predict(model, [photos / "red" / "0.png"])).classes == ("red",)
    # An existing calibration is used, and no new one is made.
    monkeypatch.setattr("featx.extraction.precision.calibrate_int8", None)
    draw(0, 99).save(photos / "red" / "new.png")
    for precision in ("auto", "int8"):
        report = extract(photos, output, dataclasses.replace(FP32, precision=precision))
        assert (report.precision, report.agreement) == ("int8", {})
    with Store(output) as store:
        assert (store.n_rows, store.spec.calibration) == (25, bounds)
    with pytest.raises(SpecMismatch, match=r"precision is int8 in .* but fp32 in this extraction"):
        extract(photos, output, FP32)


def test_an_unfinished_run_resumes_with_its_calibration(photos, tmp_path, int8, oxford, monkeypatch):
    output = tmp_path / "photos.h5"
    spec = int8.with_backbone(oxford.name, oxford.digest, oxford.preprocessing)
    with PartFolder(output) as folder:
        golden = make_engine(oxford, spec, "cpu")(np.stack([np.zeros((32, 32, 3), np.uint8)] * 3))
        folder.create_run(spec, golden)
        folder.write(Part(failures=[("gone.png", "empty file")]))
        assert folder.spec == spec
    monkeypatch.setattr("featx.extraction.extraction_run.check_reference_features", lambda *parts: None)
    extract(photos, output, SPEC)
    with Store(output) as store:
        assert store.spec.calibration == int8.calibration


def test_calibration_needs_a_readable_image(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(
        ImageError, match=r"none of the 1 images drawn to calibrate int8 can be read; .* bad\.png: no image"
    ):
        extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)


class Slow:
    """An engine with given features and a given speed."""

    def __init__(self, spec, value, seconds):
        self.spec, self.value, self.seconds = spec, value, seconds

    def __call__(self, images):
        if self.value is None:
            raise EngineError("not finite")
        return {"block1_avg": np.full((len(images), 64), self.value, np.float32)}


@pytest.mark.parametrize(
    ("engines", "chosen"),
    [
        ({"fp32": (1.0, 1.0), "bf16": (1.01, 0.5), "fp16": (1.001, 0.6)}, "bf16"),
        ({"fp32": (1.0, 1.0), "bf16": (1.01, 0.5), "fp16": (1.001, 0.4)}, "fp16"),
        ({"fp32": (1.0, 1.0), "bf16": (1.01, 0.9), "fp16": (1.001, 2.0)}, "fp32"),
        ({"fp32": (1.0, 1.0), "bf16": (1.1, 0.1), "fp16": (None, 0.1)}, "fp32"),
    ],
    ids=["faster", "fastest", "no gain", "no agreement"],
)
def test_the_fastest_precision_that_agrees_is_chosen(engines, chosen, monkeypatch):
    monkeypatch.setattr(precision_selection, "_time_engine", lambda engine, images: (engine(images), engine.seconds))
    spec = fastest_precision(lambda spec: Slow(spec, *engines[spec.precision]), SPEC)
    assert spec == dataclasses.replace(SPEC, precision=chosen)


def test_auto_chooses_a_precision_and_keeps_it(photos, tmp_path):
    report = extract(photos, tmp_path / "photos.h5", dataclasses.replace(FP32, precision="auto"))
    assert report.precision in {"fp32", "bf16", "fp16"}
    again = extract(photos, tmp_path / "photos.h5", dataclasses.replace(FP32, precision="auto"))
    assert (again.precision, again.extracted) == (report.precision, 0)


@pytest.mark.slow
def test_the_command_prints_the_agreement_of_int8_and_the_bottleneck(photos, tmp_path):
    arguments = ["extract", str(photos), "-o", str(tmp_path / "p.h5"), "--size", "32", "--precision", "int8"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "int8 was calibrated on a sample of the images; mean cosine to fp32: block1_avg " in result.output
    assert "int8; images/s of each stage alone: reading " in result.output
    assert "the bottleneck is " in result.output
    result = CliRunner().invoke(main, [*arguments, "--overwrite", "--json"])
    document = json.loads(result.stdout)
    assert set(document["rates"]) == {"reading", "decoding", "resizing", "computing", "writing"}
    assert set(document["agreement"]) == {f"block{block}_avg" for block in range(1, 6)}


def test_engines_are_timed_on_enough_images_for_all_cores(monkeypatch):
    monkeypatch.setattr(precision_selection, "cpu_count", lambda: 4)
    counts = []

    def engine(images):
        counts.append(len(images))
        return {}

    precision_selection._time_engine(engine, random_images(5, 32))
    assert counts == [5] + [8] * precision_selection.ROUNDS
