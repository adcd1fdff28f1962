"""The engines: torch against an independent run of the backbone, the others against torch, and how one is selected."""

import dataclasses
import itertools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import ncnn
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from featx.backbones.poolings import POOLINGS
from featx.backbones.registry import BACKBONES
from featx.backbones.sources import fetch_wheel
from featx.backbones.vgg16 import BLOCKS
from featx.engines import cpu_features, ncnn_engine, ncnn_network, torch_engine
from featx.engines.ncnn_engine import NO_MEMORY, NcnnEngine
from featx.engines.ncnn_network import NcnnNetwork
from featx.engines.openvino_engine import OpenVINOEngine
from featx.engines.reference_check import check_reference_features, compute_reference_features, relative_error
from featx.engines.selection import make_engine
from featx.engines.torch_backbone import TorchBackbone, TorchPooling
from featx.engines.torch_engine import TorchEngine, find_device
from featx.errors import EngineError, SpecMismatch
from featx.images.decoding.decoder import decode
from featx.images.pixels.preprocessing import preprocess
from featx.spec.extract_spec import ExtractSpec

POOLS = (*POOLINGS, "cov32")

SPEC = ExtractSpec(size=64)


def random_images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return open_graph(tmp_path_factory.mktemp("wheel"))


def open_graph(folder):
    """Open the wheel's graph from its input to its five pooling layers, for any image size."""
    model = onnx.load(fetch_wheel(BACKBONES["oxford"].wheel, folder))
    pooled = [node.output[0] for node in model.graph.node if node.op_type == "MaxPool"]
    keep = list(itertools.takewhile(lambda node: node.op_type != "Shape", model.graph.node))
    value = onnx.helper.make_tensor_value_info(model.graph.input[0].name, onnx.TensorProto.FLOAT, [None, None, None, 3])
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in pooled]
    cut = onnx.helper.make_graph(keep, "backbone", [value], outputs, model.graph.initializer)
    model = onnx.helper.make_model(cut, opset_imports=model.opset_import, ir_version=model.ir_version)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def independent_averages(session, pixels):
    """Compute the average of each block for input as Keras's VGG16 gets it: BGR, minus the mean."""
    bgr = pixels[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    return [output.mean((2, 3)) for output in session.run(None, {session.get_inputs()[0].name: bgr})]


@pytest.mark.slow
def test_fp32_equals_an_independent_run_on_photographs(graph, oxford, flower_paths):
    spec = ExtractSpec()
    pixels = np.stack([preprocess(decode(Path(path).read_bytes()).image, spec) for path in flower_paths])
    features = TorchEngine(oxford, spec, "cpu")(pixels)
    for block, expected in zip(BLOCKS, independent_averages(graph, pixels), strict=True):
        values = features[f"block{block.number}_avg"]
        assert np.abs(values - expected).max() / np.abs(expected).max() < 1e-4
        assert relative_error(values, expected) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_stay_within_their_tolerance(oxford, precision):
    images = random_images(4, 64)
    reference = TorchEngine(oxford, SPEC, "cpu")(images)
    spec = dataclasses.replace(SPEC, precision=precision)
    for name, values in TorchEngine(oxford, spec, "cpu")(images).items():
        assert values.dtype == np.float32
        assert relative_error(values, reference[name]) < spec.tolerance
        cosine = (
            (values * reference[name]).sum(1) / np.linalg.norm(values, axis=1) / np.linalg.norm(reference[name], axis=1)
        )
        assert cosine.min() > 0.999


def test_one_block_alone_equals_it_among_all_blocks(oxford):
    images = random_images(3, 64)
    together = TorchEngine(oxford, SPEC, "cpu")(images)
    for block in range(1, 6):
        alone = TorchEngine(oxford, ExtractSpec(size=64, blocks=(block,)), "cpu")(images)
        np.testing.assert_allclose(alone[f"block{block}_avg"], together[f"block{block}_avg"], rtol=1e-5)


def test_layers_after_the_last_block_are_not_built():
    assert len(TorchBackbone((1, 2)).features) == BLOCKS[1].stop
    assert len(TorchBackbone((5,)).features) == BLOCKS[4].stop
    assert set(TorchBackbone((2, 4))(torch.zeros(1, 3, 32, 32))) == {2, 4}


def test_features_do_not_depend_on_the_batch_size(oxford):
    images = random_images(7, 64)
    one, all_at_once = (TorchEngine(oxford, SPEC, "cpu", size)(images) for size in (1, 7))
    for name in SPEC.widths:
        assert relative_error(one[name], all_at_once[name]) < SPEC.tolerance / 10


def error_in_block(values, reference, name):
    """Return the error of a feature, relative to the scale of its block if that is larger than its own.

    A pooling may have features near 0, such as a minimum after ReLU, whose rounding errors are those of the block.
    """
    block = name.partition("_")[0]
    scale = np.sqrt(np.mean(np.square(reference[f"{block}_avg"]), axis=1))
    own = np.sqrt(np.mean(np.square(reference[name]), axis=1))
    errors = np.sqrt(np.mean(np.square(values - reference[name]), axis=1))
    return float((errors / np.maximum(scale, own)).max())


def test_poolings_of_a_small_feature_map():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    pooled = {name: pooling.formula(TorchPooling(torch.device("cpu")), x) for name, pooling in POOLINGS.items()}
    expected = {
        "avg": [[3.0, 0.0]],
        "max": [[6.0, 0.0]],
        "gem": [[((1 + 8 + 27 + 216) / 4) ** (1 / 3), 1e-6]],
        "flat": [[1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 0.0]],
    }
    assert expected.keys() == POOLINGS.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(pooled[name].numpy(), values, rtol=1e-3 if name == "gem" else 0)


def test_flat_features_are_in_channel_major_order(oxford):
    spec = ExtractSpec(blocks=(4,), pools=("avg", "flat"), size=64)
    features = TorchEngine(oxford, spec, "cpu")(random_images(2, 64))
    np.testing.assert_allclose(
        features["block4_flat"].reshape(2, 512, 16).mean(2), features["block4_avg"], rtol=1e-4, atol=1e-4
    )


class LittleMemory(TorchEngine):
    """An engine whose memory holds three images."""

    fits = 3
    error = torch.OutOfMemoryError("CUDA out of memory")

    def _forward(self, images):
        if len(images) > self.fits:
            raise self.error
        return super()._forward(images)


def test_out_of_memory_halves_the_batch_and_continues(oxford):
    images = random_images(8, 32)
    engine = LittleMemory(oxford, ExtractSpec(size=32), "cpu", batch_size=8)
    features = engine(images)
    assert engine.batch_size == 2
    expected = TorchEngine(oxford, ExtractSpec(size=32), "cpu")(images)
    assert relative_error(features["block5_avg"], expected["block5_avg"]) < 1e-4


def test_the_cpu_allocators_error_counts_as_out_of_memory(oxford):
    engine = LittleMemory(oxford, ExtractSpec(size=32), "cpu", batch_size=4)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    engine.error = caught.value
    assert engine(random_images(4, 32))["block1_avg"].shape == (4, 64)
    assert engine.batch_size == 2


@pytest.mark.parametrize("text", ["MPS backend out of memory (MPS allocated: 17.00 GB)", "CUDA out of memory"])
def test_a_gpus_runtime_error_counts_as_out_of_memory(oxford, text):
    engine = LittleMemory(oxford, ExtractSpec(size=32), "cpu", batch_size=4)
    engine.error = RuntimeError(text)
    engine(random_images(4, 32))
    assert engine.batch_size == 2


def test_no_memory_for_one_image_is_an_error_with_a_remedy(oxford):
    engine = LittleMemory(oxford, ExtractSpec(size=32), "cpu", batch_size=2)
    engine.fits = 0
    with pytest.raises(EngineError, match="one image of 32 × 32 pixels does not fit in memory; use a smaller --size"):
        engine(random_images(2, 32))


def test_other_errors_are_raised_unchanged(oxford):
    engine = LittleMemory(oxford, ExtractSpec(size=32), "cpu", batch_size=8)
    engine.error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        engine(random_images(8, 32))
    assert engine.batch_size == 8


def test_overflow_is_an_error(oxford):
    tensors = {name: values * 100 if name == "features.0.weight" else values for name, values in oxford.tensors.items()}
    weights = dataclasses.replace(oxford, tensors=tensors)
    with pytest.raises(EngineError, match=r"block\d_avg is not finite at precision fp16: .* use --precision bf16"):
        TorchEngine(weights, ExtractSpec(size=32, precision="fp16"), "cpu")(random_images(2, 32))


def test_a_missing_device_is_refused():
    assert find_device("auto").type in torch_engine.BATCH_SIZES
    with pytest.raises(EngineError, match=r"--device must be auto or one of .*cpu, which this machine has; got tpu"):
        find_device("tpu")


def test_reference_features_recognize_another_network(oxford):
    engine = make_engine(oxford, ExtractSpec(size=32), "cpu", engine="torch")
    stored = compute_reference_features(engine)
    assert {name: values.shape for name, values in stored.items()} == {
        name: (3, width) for name, width in engine.spec.widths.items()
    }
    check_reference_features(engine, stored, "photos.h5")
    changed = {**stored, "block3_avg": stored["block3_avg"] * 1.01}
    with pytest.raises(
        SpecMismatch, match=r"block3_avg of the reference images differs by 0\.0099 from that in photos\.h5"
    ):
        check_reference_features(engine, changed, "photos.h5")
    with pytest.raises(SpecMismatch, match="block1_avg"):
        check_reference_features(engine, {**stored, "block1_avg": np.full((3, 64), np.nan, np.float32)}, "photos.h5")


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-4), ("bf16", 2e-2), ("fp16", 2.5e-3)])
def test_openvino_agrees_with_torch(oxford, precision, error):
    images = random_images(5, 64)
    pools = POOLS
    reference = TorchEngine(oxford, ExtractSpec(size=64, pools=pools), "cpu")(images)
    spec = ExtractSpec(size=64, pools=pools, precision=precision)
    features = OpenVINOEngine(oxford, spec)(images)
    assert list(features) == list(reference)
    for name, values in features.items():
        assert values.dtype == np.float32
        assert error_in_block(values, reference, name) < error < spec.tolerance / 2


def test_openvino_computes_the_requested_features(oxford):
    features = OpenVINOEngine(oxford, ExtractSpec(size=32, blocks=(2, 4), pools=("max",)), batch_size=2)(
        random_images(5, 32)
    )
    assert {name: values.shape for name, values in features.items()} == {"block2_max": (5, 128), "block4_max": (5, 512)}


@pytest.mark.parametrize(("threads", "size", "images"), [
    (1, 224, 4), (2, 224, 4), (5, 224, 10), (64, 224, 16), (2, 32, 16), (1, 128, 6), (2, 1024, 4),
])  # fmt: skip
def test_openvino_default_batch_size(oxford, threads, size, images):
    assert OpenVINOEngine(oxford, ExtractSpec(size=size), threads=threads).batch_size == images


def test_openvino_out_of_memory_halves_the_batch(oxford, monkeypatch):
    engine = OpenVINOEngine(oxford, ExtractSpec(size=32), batch_size=4)
    model = OpenVINOEngine._model

    def little_memory(engine, rows):
        if rows > 2:
            raise RuntimeError("std::bad_alloc")
        return model(engine, rows)

    engine(random_images(4, 32))
    monkeypatch.setattr(OpenVINOEngine, "_model", little_memory)
    assert engine(random_images(4, 32))["block1_avg"].shape == (4, 64)
    assert engine.batch_size == 2
    assert list(engine._compiled) == [2]  # the larger model's memory is freed


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_openvino_does_not_bind_threads_to_cores():
    code = """
import os
from pathlib import Path
import numpy as np
from featx.engines.openvino_engine import OpenVINOEngine
from featx.spec import ExtractSpec
from featx.backbones import load_backbone
engine = OpenVINOEngine(load_backbone(), ExtractSpec(size=32, blocks=(1,)))
engine(np.zeros((1, 32, 32, 3), np.uint8))
free = os.sched_getaffinity(0)
bound = [task.name for task in Path("/proc/self/task").iterdir() if os.sched_getaffinity(int(task.name)) != free]
assert not bound, bound
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_a_gpu_device_file_torch_is_not_imported():
    code = (
        "import sys, featx.engines.selection as engines\n"
        "engines.GPU_DEVICES = ()\n"
        "assert engines._is_cpu('auto') or sys.platform != 'linux'\n"
        "assert 'torch' not in sys.modules or sys.platform != 'linux'\n"
        "engines.GPU_DEVICES = ('null',)\n"
        "engines._is_cpu('auto')\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [32, 77, 224])
def test_ncnn_agrees_with_torch_to_float32_rounding(oxford, size):
    spec = ExtractSpec(size=size, pools=POOLS)
    images = random_images(3, size)
    reference, features = TorchEngine(oxford, spec, "cpu")(images), NcnnEngine(oxford, spec)(images)
    assert list(features) == list(reference)
    for name, values in features.items():
        assert (values.dtype, values.shape) == (np.float32, reference[name].shape)
        assert error_in_block(values, reference, name) < 1e-5


@pytest.mark.parametrize(("size", "strips"), [(168, 7), (217, 18), (224, 19), (225, 19)])
def test_ncnn_computes_the_first_block_of_large_images_in_strips(oxford, size, strips):
    # Strips of 24 rows, and of 12. Of 217 rows, the last one alone would leave no row after pooling.
    spec = ExtractSpec(size=size, blocks=(1, 2), pools=("flat",))
    assert len(re.findall(r"^Pooling block1_", NcnnNetwork(oxford, spec).text, re.MULTILINE)) == strips
    images = random_images(2, size)
    reference, features = TorchEngine(oxford, spec, "cpu")(images), NcnnEngine(oxford, spec)(images)
    for name, values in reference.items():
        assert relative_error(features[name], values) < 1e-5


def test_ncnn_does_not_cut_later_blocks_into_strips(oxford):
    text = NcnnNetwork(oxford, ExtractSpec(size=384)).text
    assert re.findall(r"^Pooling (block[2-5]\S*)", text, re.MULTILINE) == ["block2", "block3", "block4", "block5"]


def test_ncnn_computes_the_requested_features_of_each_image_independently(oxford):
    spec = ExtractSpec(size=32, blocks=(2, 4), pools=("max",))
    images = random_images(5, 32)
    features = NcnnEngine(oxford, spec, batch_size=2, threads=1)(images)
    assert {name: values.shape for name, values in features.items()} == {"block2_max": (5, 128), "block4_max": (5, 512)}
    alone = NcnnEngine(oxford, spec, threads=3)
    for number, image in enumerate(images):
        for name, values in alone(image[None]).items():
            np.testing.assert_array_equal(values[0], features[name][number])


def test_ncnn_out_of_memory_halves_the_batch(oxford, monkeypatch):
    engine = NcnnEngine(oxford, ExtractSpec(size=32, blocks=(1,)), batch_size=4)
    extract = ncnn.Extractor.extract

    def little_memory(extractor, name):
        return (NO_MEMORY, ncnn.Mat()) if engine.batch_size > 2 else extract(extractor, name)

    monkeypatch.setattr(ncnn.Extractor, "extract", little_memory)
    assert engine(random_images(4, 32))["block1_avg"].shape == (4, 64)
    assert engine.batch_size == 2


def test_ncnn_that_cannot_load_is_an_error(oxford, monkeypatch):
    spec = ExtractSpec(size=32, blocks=(1,))
    with monkeypatch.context() as context:
        context.setattr(ncnn_network, "MAGIC", 1)
        with pytest.raises(EngineError, match="ncnn could not run the backbone: it returned -1"):
            NcnnEngine(oxford, spec)
    with monkeypatch.context() as context:
        context.setattr(ncnn.Net, "load_model", lambda net, reader: NO_MEMORY)
        with pytest.raises(MemoryError):
            NcnnEngine(oxford, spec)
    monkeypatch.setattr(ncnn_engine._BytesReader, "read", lambda reader, place, size: 0)
    with pytest.raises(
        EngineError, match="ncnn could not run the backbone: it returned -1"
    ):  # the tensors end too early
        NcnnEngine(oxford, spec)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to cores")
def test_ncnn_starts_one_thread_per_core_of_the_process():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from featx.engines import ncnn_engine
from featx.engines.ncnn_engine import IMAGES_PER_THREAD, NcnnEngine
from featx.spec import ExtractSpec
from featx.backbones import load_backbone
engine = NcnnEngine(load_backbone("oxford"), ExtractSpec(size=32, blocks=(1,)))
assert engine.batch_size == IMAGES_PER_THREAD
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ncnn_that_fails_is_an_error(oxford, monkeypatch):
    monkeypatch.setattr(ncnn.Extractor, "extract", lambda extractor, name: (-1, ncnn.Mat()))
    with pytest.raises(EngineError, match="ncnn could not run the backbone: it returned -1"):
        NcnnEngine(oxford, ExtractSpec(size=32, blocks=(1,)))(random_images(1, 32))


AVX2 = {"AVX2": True}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the flag is one of x86")
def test_numpy_knows_the_flag_that_decides():
    assert AVX2.keys() <= cpu_features._cpu_flags().keys()


@pytest.mark.parametrize(
    ("capability", "seconds", "faster"),
    [("AVX512", {torch.float32: 4, torch.bfloat16: 2}, True), ("AVX512", {torch.float32: 2, torch.bfloat16: 4}, False),
     ("AVX512", {torch.float32: 3, torch.bfloat16: 2}, False), ("AVX2", {}, False)],
)  # fmt: skip
def test_bf16_is_faster_if_its_products_are_measured_to_be(monkeypatch, capability, seconds, faster):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(cpu_features, "repeat", lambda code, **given: [9, seconds[given["globals"]["x"].dtype]])
    monkeypatch.setattr(cpu_features, "SIDE", 2)
    assert cpu_features.bf16_is_faster() == faster


@pytest.mark.slow
def test_other_programs_do_not_change_whether_bf16_is_faster():
    """Otherwise a fine-tuning repeated on a busy machine could have another result."""
    alone = cpu_features.bf16_is_faster()
    threads = torch.get_num_threads()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        found = {cpu_features.bf16_is_faster() for _ in range(10)}
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert found == {alone}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("capabilities", "precision", "hint"),
    [(["FP32", "BF16"], "fp16", "f32"), (["FP32", "FP16"], "fp16", "f16"), (["FP32"], "bf16", "bf16"),
     (["FP32", "BF16"], "fp32", "f32")],
)  # fmt: skip
def test_openvino_does_not_compute_float16_in_bfloat16(oxford, monkeypatch, capabilities, precision, hint):
    received = {}

    class Compiled(Exception):
        pass

    class Core:
        def get_property(self, device, name):
            return {("CPU", "OPTIMIZATION_CAPABILITIES"): capabilities}[device, name]

        def compile_model(self, model, device, options):
            received.update(options)
            raise Compiled

    monkeypatch.setattr("featx.engines.openvino_engine._core", Core)
    with pytest.raises(Compiled):
        OpenVINOEngine(oxford, ExtractSpec(size=32, blocks=(1,), precision=precision))(random_images(1, 32))
    assert received["INFERENCE_PRECISION_HINT"] == hint


@pytest.mark.parametrize(
    ("installed", "features", "precision", "size", "chosen"),
    [
        ({"ncnn", "openvino"}, AVX2, "fp32", 96, NcnnEngine),
        ({"ncnn", "openvino"}, AVX2, "fp32", 95, OpenVINOEngine),
        ({"ncnn"}, AVX2, "fp32", 95, TorchEngine),
        ({"ncnn", "openvino"}, {}, "fp32", 96, OpenVINOEngine),
        ({"ncnn", "openvino"}, AVX2, "bf16", 96, OpenVINOEngine),
        ({"ncnn"}, {}, "fp32", 96, TorchEngine),
        ({"ncnn"}, AVX2, "bf16", 96, TorchEngine),
        ({"openvino"}, AVX2, "fp32", 96, OpenVINOEngine),
        (set(), AVX2, "fp32", 96, TorchEngine),
    ],
)
def test_the_fastest_installed_engine_is_selected(oxford, monkeypatch, installed, features, precision, size, chosen):
    monkeypatch.setattr("featx.engines.selection.find_spec", lambda name: name in {*installed, "torch"})
    monkeypatch.setattr("featx.engines.cpu_features._cpu_flags", lambda: features)
    spec = ExtractSpec(size=size, blocks=(1,), precision=precision)
    assert isinstance(make_engine(oxford, spec, "cpu"), chosen)
    auto = make_engine(oxford, spec)
    assert isinstance(auto, TorchEngine if find_device().type != "cpu" else chosen)
    assert isinstance(make_engine(oxford, spec, "cpu", engine="torch"), TorchEngine)


def test_engines_that_cannot_run_are_refused(oxford, monkeypatch):
    spec = ExtractSpec(size=32)
    with pytest.raises(EngineError, match="--engine must be one of auto, torch, openvino, ncnn, got 'tf'"):
        make_engine(oxford, spec, engine="tf")
    for engine in ("openvino", "ncnn"):
        message = f"--device of the {engine} engine must be cpu, got cuda; give --engine torch"
        with pytest.raises(EngineError, match=message):
            make_engine(oxford, spec, "cuda", engine=engine)
        with monkeypatch.context() as context:
            context.setitem(sys.modules, f"featx.engines.{engine}_engine", None)
            package = {"openvino": "openvino", "ncnn": "'featx[ncnn]'"}[engine]
            with pytest.raises(
                EngineError, match=re.escape(f"--engine {engine} needs a package: pip install {package}")
            ):
                make_engine(oxford, spec, engine=engine)
    with pytest.raises(
        EngineError, match="--precision of the ncnn engine must be fp32, got bf16; give --engine openvino"
    ):
        make_engine(oxford, dataclasses.replace(spec, precision="bf16"), engine="ncnn")


def test_a_signal_does_not_crash_after_another_thread_freed_an_engine(oxford):
    code = """
import signal, threading
import numpy as np
from featx.engines.openvino_engine import OpenVINOEngine
from featx.spec import ExtractSpec
from featx.backbones import load_backbone

engines = [OpenVINOEngine(load_backbone("oxford"), ExtractSpec(size=32, blocks=(1,)))]
engines[0](np.zeros((1, 32, 32, 3), np.uint8))
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("survived"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr
