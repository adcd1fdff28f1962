"""Read weights from every file format, and refuse other files."""

import io
import pickle
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from featx.backbones.digest import backbone_digest
from featx.backbones.loading import load_backbone
from featx.backbones.readers.formats import read_weights
from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import BLOCKS, tensor_shapes
from featx.errors import WeightsError

pytestmark = pytest.mark.core

FIRST = "features.0.weight"
LAYERS = [layer for block in BLOCKS for layer in block.convolutions]
KERAS_1 = [f"block{block.number}_conv{i + 1}" for block in BLOCKS for i in range(len(block.convolutions))]
KERAS_3 = ["conv2d", *(f"conv2d_{i}" for i in range(1, 13))]


@pytest.fixture(scope="module")
def oxford():
    return load_backbone().tensors


@pytest.fixture(scope="module")
def blank():
    """A backbone of zeros, for files that are refused."""
    return {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes().items()}


@pytest.fixture
def path(tmp_path):
    """A file with the suffix of no format; removed after the test, because it is large."""
    file = tmp_path / "weights.bin"
    yield file
    file.unlink(missing_ok=True)


def as_torch(tensors, prefix=""):
    return {prefix + name: torch.from_numpy(tensor) for name, tensor in tensors.items()}


def bgr(tensors):
    return {**tensors, FIRST: np.ascontiguousarray(tensors[FIRST][:, ::-1])}


def write_keras(file, tensors, groups, kernel, bias):
    for layer, group in zip(LAYERS, groups, strict=True):
        file[f"{group}/{kernel}"] = tensors[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
        file[f"{group}/{bias}"] = tensors[f"features.{layer}.bias"]


def torch_plain(path, tensors):
    classifier = {"classifier.0.weight": torch.full((8, 4), float("nan"))}
    torch.save({**as_torch(tensors), **classifier}, path)


def torch_before_1_6(path, tensors):
    torch.save(as_torch(tensors), path, _use_new_zipfile_serialization=False)


def torch_checkpoint(path, tensors):
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in as_torch(tensors, "module.").items()}
    torch.save({"epoch": 3, "state_dict": parameters}, path)


def torch_double(path, tensors):
    torch.save({"model": {name: tensor.double() for name, tensor in as_torch(tensors, "model.vgg.").items()}}, path)


def safetensors_plain(path, tensors):
    save_file({**tensors, "classifier.0.bias": np.zeros(3, np.float32)}, path)


def keras_1_notop(path, tensors):
    """Write the layout of the published file without top."""
    with h5py.File(path, "w") as file:
        for layer, name in zip(LAYERS, KERAS_1, strict=True):
            file[f"{name}/{name}_W_1:0"] = tensors[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
            file[f"{name}/{name}_b_1:0"] = tensors[f"features.{layer}.bias"]
        file.create_group("block1_pool")


def keras_2_model(path, tensors):
    """Write a whole model: a nested backbone, a top, and moments of the optimizer, with the shapes of the kernels."""
    with h5py.File(path, "w") as file:
        write_keras(file, tensors, [f"model_weights/vgg16/{name}" for name in KERAS_1], "kernel:0", "bias:0")
        file["model_weights/dense/dense/kernel:0"] = np.zeros((512, 4), np.float32)
        file["model_weights/dense/dense/bias:0"] = np.zeros(4, np.float32)
        file["optimizer_weights/block1_conv1/kernel:0"] = np.ones((3, 3, 3, 64), np.float32)
        file["optimizer_weights/block1_conv1/bias:0"] = np.ones(64, np.float32)


def keras_3_weights(path, tensors):
    """Write a file where conv2d_10 is before conv2d_2, and with a 14th convolution on top of the backbone."""
    with h5py.File(path, "w") as file:
        write_keras(file, tensors, [f"layers/{name}/vars" for name in KERAS_3], "0", "1")
        file["layers/conv2d_13/vars/0"] = np.ones((1, 1, 512, 8), np.float32)
        file["layers/conv2d_13/vars/1"] = np.ones(8, np.float32)
        file.create_group("layers/input_layer/vars")


def keras_3_archive(path, tensors):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write_keras(file, tensors, [f"layers/functional/layers/{name}/vars" for name in KERAS_3], "0", "1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content.getvalue())


def onnx_model(tensors, count=13, inputs=3):
    nodes, last = [], "x"
    for number in range(count):
        # The names sort in the reverse order of the graph.
        names = [f"{99 - number}w", f"{99 - number}b"][: inputs - 1]
        nodes.append(helper.make_node("Conv", [last, *names], [f"y{number}"], name=f"conv{number}"))
        last = f"y{number}"
    initializers = [
        numpy_helper.from_array(tensors[f"features.{layer}.{kind}"], f"{99 - number}{kind[0]}")
        for number, layer in reversed(list(enumerate(LAYERS[:count])))
        for kind in ("bias", "weight")
    ]
    graph = helper.make_graph(
        nodes,
        "vgg",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph)


def onnx_plain(path, tensors):
    onnx.save(onnx_model(tensors), path)


WRITERS = [
    torch_plain,
    torch_before_1_6,
    torch_checkpoint,
    torch_double,
    safetensors_plain,
    keras_1_notop,
    keras_2_model,
    keras_3_weights,
    keras_3_archive,
    onnx_plain,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_has_the_same_weights(oxford, path, write):
    published_order = bgr(oxford) if write.__name__.startswith(("keras", "onnx")) else oxford
    write(path, published_order)
    tensors = read_weights(str(path))
    assert list(tensors) == list(tensor_shapes())
    assert all(tensor.dtype == np.float32 and tensor.flags.c_contiguous for tensor in tensors.values())
    assert backbone_digest(tensors) == BACKBONES["oxford"].digest


def test_a_known_first_layer_in_bgr_is_converted_to_rgb(oxford, path):
    save_file(bgr({**oxford, "features.28.bias": oxford["features.28.bias"] + 1}), path)
    assert np.array_equal(read_weights(path)[FIRST], oxford[FIRST])


def test_an_unknown_first_layer_is_not_changed(blank, path):
    first = np.random.default_rng(0).normal(size=(64, 3, 3, 3)).astype(np.float32)
    save_file({**blank, FIRST: first}, path)
    assert np.array_equal(read_weights(path)[FIRST], first)


def test_nan_values_are_refused(blank, path):
    bad = blank["features.10.bias"].copy()
    bad[7] = np.nan
    save_file({**blank, "features.10.bias": bad}, path)
    with pytest.raises(WeightsError, match=r"features\.10\.bias of .*weights\.bin must be finite, got 1 NaN"):
        read_weights(path)


def one_of_two(path, tensors):
    torch.save({**as_torch({FIRST: tensors[FIRST]}, "student."), **as_torch({FIRST: tensors[FIRST]}, "teacher.")}, path)


def without_bias(path, tensors):
    onnx.save(onnx_model({name: tensors[name] for name in tensors}, count=1, inputs=2), path)


def vgg16_with_batch_norm(path, tensors):
    save_file({FIRST: tensors[FIRST], "features.1.weight": np.zeros(64, np.float32)}, path)


def keras_with_batch_norm(path, tensors):
    keras_3_weights(path, tensors)
    with h5py.File(path, "r+") as file:
        for number in range(13):
            for value in range(4):
                file[f"layers/batch_normalization_{number}/vars/{value}"] = np.ones(8, np.float32)


def onnx_with_batch_norm(path, tensors):
    model = onnx_model(tensors)
    model.graph.node.insert(1, helper.make_node("BatchNormalization", ["y0", "s", "b", "m", "v"], ["z0"]))
    onnx.save(model, path)


def computed_weight(path, tensors):
    model = onnx_model(tensors, count=1)
    del model.graph.initializer[:]
    onnx.save(model, path)


def external_weight(path, tensors):
    model = onnx_model(tensors, count=1)
    onnx.save(model, path, save_as_external_data=True, location="other.data", size_threshold=0)


def external_dataset(path, tensors):
    with h5py.File(path, "w") as file:
        secret = [(str(path.with_name("secret")), 0, 3 * 3 * 3 * 64 * 4)]
        file.create_dataset("block1_conv1/kernel", (3, 3, 3, 64), np.float32, external=secret)
        file["block1_conv1/bias"] = tensors["features.0.bias"]


def virtual_dataset(path, tensors):
    layout = h5py.VirtualLayout((3, 3, 3, 64), np.float32)
    layout[:] = h5py.VirtualSource(str(path.with_name("secret")), "k", (3, 3, 3, 64))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("block1_conv1/kernel", layout)
        file["block1_conv1/bias"] = tensors["features.0.bias"]


def terabytes(path, tensors):
    with h5py.File(path, "w") as file:
        file.create_dataset("block1_conv1/kernel", (3, 3, 3, 1 << 40), np.float32, chunks=(3, 3, 3, 64))
        file["block1_conv1/bias"] = tensors["features.0.bias"]


def keras_with_no_convolution(path, tensors):
    with h5py.File(path, "w") as file:
        file["dense/kernel"] = np.zeros((3, 3))


def large_archive(path, tensors):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = b"\xfe\xff\xff\xff"
    path.write_bytes(raw)


class Harmful:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return open, ("harmed", "w")


def harmful(path, tensors):
    path.write_bytes(pickle.dumps({"features.0.weight": Harmful()}, protocol=2))


def harmful_zip(path, tensors):
    torch.save({"features.0.weight": Harmful()}, path)


def cut(write, size):
    def write_cut(path, tensors):
        write(path, tensors)
        content = path.read_bytes()[:size]
        path.write_bytes(content)

    write_cut.__name__ = f"{write.__name__}_cut"
    return write_cut


def holding(content):
    def write_content(path, tensors):
        path.write_bytes(content)

    write_content.__name__ = f"holding_{len(content)}"
    return write_content


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (holding(b""), r"weights\.bin must have the 13 convolutions of VGG16; read as ONNX, it has no convolution"),
        (
            holding(b"these are no weights\n" * 9),
            r"weights\.bin cannot be read as torch, safetensors, Keras HDF5 or ONNX",
        ),
        (holding(b"PK\x03\x04" + bytes(60)), r"weights\.bin must be a torch state dict, saved by"),
        (holding(b"PK\x03\x04" + bytes(26) + b"config.json"), r"cannot be read as a Keras archive: File is not a zip"),
        (holding(b"\x10" + bytes(7) + b"{" + b"x" * 20), r"weights\.bin cannot be read as safetensors: "),
        (holding(bytes(4) + b"\x02" + bytes(3) + b"{}"), r"its header must have at most 2 bytes, got 8,589,934,592"),
        (cut(torch_plain, 10_000_000), r"weights\.bin must be a torch state dict, .* \(RuntimeError\)$"),
        (cut(torch_before_1_6, 10_000_000), r"weights\.bin must be a torch state dict, .* torch cannot load it"),
        (cut(safetensors_plain, 10_000_000), r"weights\.bin cannot be read as safetensors: "),
        (cut(keras_1_notop, 10_000_000), r"weights\.bin cannot be read as Keras HDF5: .*truncated"),
        (cut(onnx_plain, 10_000_000), r"weights\.bin cannot be read as .* ONNX, the formats"),
        (harmful, r"must be a torch state dict, .* \(UnpicklingError\)$"),
        (harmful_zip, r"must be a torch state dict, .* \(UnpicklingError\)$"),
        (lambda path, tensors: torch.save([1], path), r"weights\.bin must have a torch state dict, got list$"),
        (lambda path, tensors: torch.save({}, path), r"must have the tensors of VGG16, .* but is empty"),
        (lambda path, tensors: torch.save({"fc.bias": torch.zeros(2)}, path), r"but has 1 other: fc\.bias$"),
        (lambda path, tensors: torch.save({FIRST: 3}, path), r"weights\.bin cannot be read as a torch state dict: "),
        (one_of_two, r"must have one VGG16, got several, under 'student\.', 'teacher\.'"),
        (
            vgg16_with_batch_norm,
            r"weights\.bin must have the 13 convolutions of VGG16, but features\.0\.bias is missing",
        ),
        (keras_with_batch_norm, r"weights\.bin must have VGG16 without batch normalization, but has one after each"),
        (onnx_with_batch_norm, r"weights\.bin must have VGG16 without batch normalization; fold it into"),
        (keras_with_no_convolution, r"weights\.bin must have the 13 .* but features\.0\.weight is missing"),
        (external_dataset, r"block1_conv1/kernel of .* must be in the file itself, but its data is in another"),
        (virtual_dataset, r"block1_conv1/kernel of .* must be made of files in its own folder, got '/.*/secret'"),
        (
            terabytes,
            r"block1_conv1/kernel of .* claims 118,747,255,799,808 bytes but is stored in [\d,]+, more than 32 times",
        ),
        (large_archive, r"model\.weights\.h5 of .* must have at most 3,221,225,472 bytes, got 4,294,967,294"),
        (without_bias, r"whose convolutions have a bias, but 'conv0' does not"),
        (computed_weight, r"features\.0\.weight of .* must be an initializer of the graph"),
        (
            external_weight,
            r"must contain its weights, but features\.0\.weight refers to another file; save it with",
        ),
    ],
)
def test_a_wrong_file_is_refused(blank, path, write, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    write(path, blank)
    with pytest.raises(WeightsError, match=message):
        read_weights(path)
    assert not (tmp_path / "harmed").exists()


def test_a_first_convolution_of_another_size_is_refused(blank, path):
    save_file({**blank, FIRST: np.zeros((64, 3, 7, 7), np.float32)}, path)
    with pytest.raises(WeightsError, match=r"must have the shape of VGG16, \(64, 3, 3, 3\), got \(64, 3, 7, 7\)"):
        read_weights(path)


@pytest.mark.parametrize(("name", "reason"), [("absent", "No such file or directory"), (".", "Is a directory")])
def test_a_path_that_is_not_a_file_is_refused(tmp_path, name, reason):
    with pytest.raises(WeightsError, match=f"^the weights file .* cannot be read: {reason}$"):
        read_weights(tmp_path / name)
