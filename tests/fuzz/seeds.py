"""Small valid files of every kind, made in memory; the same versions always make the same bytes."""

import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save
from sklearn.datasets import make_blobs

from featx.backbones.vgg16 import BLOCKS
from featx.heads.pipeline.calibration import TemperatureCalibration
from featx.heads.pipeline.linear_heads import NORMALIZERS, make_head
from featx.images.decoding.decoder import decode
from featx.models.saved_model import Model
from featx.spec.extract_spec import ExtractSpec
from featx.store.assembly import assemble
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.row_table import RowTable

SPEC = ExtractSpec(blocks=(1,), pools=("avg",), size=32, backbone_digest="ab" * 32)
VIEWS = ExtractSpec(blocks=(1,), pools=("avg", "max"), size=32, n_views=2, augment="flip", precision="int8",
                    calibration=(1.5,) * 13)  # fmt: skip
REFERENCE = {name: np.full((3, width), 0.5, np.float32) for name, width in SPEC.widths.items()}
LAYERS = [layer for block in BLOCKS for layer in block.convolutions]


def small_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a backbone with one channel per layer, which replace the real ones."""
    return {
        f"features.{layer}.{kind}": shape
        for layer in LAYERS
        for kind, shape in (("weight", (1, 3 if layer == 0 else 1, 3, 3)), ("bias", (1,)))
    }


def store_seeds() -> list[bytes]:
    """Make stores of three images: plain, multi-label with augmented copies, and both with heaps and in old formats."""
    with tempfile.TemporaryDirectory() as folder:
        plain = _store(Path(folder) / "a.h5", SPEC, None)
        several = _store(Path(folder) / "b.h5", VIEWS, [[0, 1], [1], []])
    return [plain, several, *map(_with_heaps, (plain, several)), *map(_without_checksums, (plain, several))]


def part_seeds() -> list[bytes]:
    """Make a part, and the file that records a run."""
    with tempfile.TemporaryDirectory() as place, PartFolder(Path(place) / "a.h5") as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(_part(SPEC))
        return [path.read_bytes() for path in sorted(folder.path.glob("*.h5"))]


def _part(spec: ExtractSpec) -> Part:
    paths = [name for name in ("a.png", "b/ü.png", "c.png") for _ in range(spec.n_views)]
    features = {name: np.ones((len(paths), width), np.float32) for name, width in spec.widths.items()}
    return Part(paths, ["cd" * 32] * len(paths), [False] * len(paths), features, [("bad.png", "empty file")],
                [number % spec.n_views for number in range(len(paths))])  # fmt: skip


def _store(path: Path, spec: ExtractSpec, sets: list[list[int]] | None) -> bytes:
    part = _part(spec)
    count = len(part.paths)
    labels = np.array([0, 1, -1]).repeat(spec.n_views)
    sets = sets and [codes for codes in sets for _ in range(spec.n_views)]
    splits = {"split": ["train"] * count, "weight": ["1.5"] * count}
    table = RowTable(part.paths, part.digests, labels, ("cat", "dög"), splits, part.failures, sets, spec.n_views)
    reference = {name: np.full((3, width), 0.5, np.float32) for name, width in spec.widths.items()}
    with PartFolder(path) as folder:
        folder.create_run(spec, reference)
        folder.write(part)
        assemble(path, table, spec, reference, folder.part_files())
        folder.discard()
    return path.read_bytes()


def _with_heaps(data: bytes) -> bytes:
    """Return the same store with its texts and features in global heaps, which have no checksum.

    Attributes have variable length, as older versions wrote them, and features are virtual datasets.
    """
    image = io.BytesIO(data)
    with h5py.File(image, "r+", libver="v110") as file:
        for name, value in list(file.attrs.items()):
            if isinstance(value, bytes):
                del file.attrs[name]
                file.attrs[name] = value.decode()
        for name in list(file["features"]):
            file.move(f"features/{name}", f"own/{name}")
            layout = h5py.VirtualLayout(file[f"own/{name}"].shape, "f4")
            layout[:] = h5py.VirtualSource(file[f"own/{name}"])
            file["features"].create_virtual_dataset(name, layout)
    return image.getvalue()


def _without_checksums(data: bytes) -> bytes:
    """Return the same store in HDF5's oldest format, where no checksum reveals a changed byte."""
    image = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(image, "w", libver="earliest") as new:
        new.attrs.update(old.attrs)

        def copy(name: str, item: h5py.Dataset | h5py.Group) -> None:  # A result other than None would end the visit.
            if isinstance(item, h5py.Dataset):
                new[name] = item[()]
            else:
                new.require_group(name)

        old.visititems(copy)
    return image.getvalue()


def model_seeds() -> list[bytes]:
    """Make models: one per head and normalizer, a calibrated one, and one of two classes."""
    rows, codes = make_blobs(40, SPEC.width, centers=3, cluster_std=4.0, random_state=0)
    rows, names = (rows / 10).astype(np.float32), np.array(["a", "b", "c"])[codes]
    models = []
    for head, normalize in zip(("linear-svc", "softmax", "ovr-logistic"), NORMALIZERS, strict=False):
        estimator = make_head(head, 1.0, normalize=normalize, widths=(64,)).fit(rows, names)
        models.append(_model(head, estimator, ("a", "b", "c")))
    models.append(_model("linear-svc", models[0].estimator, ("a", "b", "c"), TemperatureCalibration(0.5)))
    two = make_head("softmax", 1.0, normalize="power", widths=(64,)).fit(rows[codes < 2], names[codes < 2])
    models.append(_model("softmax", two, ("a", "b")))
    with tempfile.TemporaryDirectory() as folder:
        return [_saved(model, Path(folder) / f"{number}.featx") for number, model in enumerate(models)]


def _model(
    head: str, estimator: object, classes: tuple[str, ...], calibration: TemperatureCalibration | None = None
) -> Model:
    return Model(SPEC, classes, head, estimator, REFERENCE, {"C": 1.0, "rows": 40, "selection": {}}, calibration)


def _saved(model: Model, path: Path) -> bytes:
    model.save(path)
    return path.read_bytes()


def _tensors() -> dict[str, np.ndarray]:
    return {name: np.full(shape, 0.25, np.float32) for name, shape in small_shapes().items()}


def safetensors_seeds() -> list[bytes]:
    """Make weights of the backbone alone, and as a part of a larger module."""
    tensors = _tensors()
    return [save(tensors), save({f"module.{name}": tensor for name, tensor in tensors.items()}, {"format": "pt"})]


def torch_seeds() -> list[bytes]:
    """Make a state dict as zip and as pickle, and a checkpoint that wraps one."""
    state = {name: torch.from_numpy(tensor) for name, tensor in _tensors().items()}
    seeds = []
    for content, is_zip in ((state, True), ({"epoch": 3, "state_dict": state}, True), (state, False)):
        torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=is_zip)
        seeds.append(file.getvalue())
    return seeds


def keras_seeds(libver: str = "earliest") -> list[bytes]:
    """Make weights in HDF5 as Keras writes them."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=libver) as file:
        for number, layer in enumerate(LAYERS):
            group = f"layers/conv2d_{number}/vars"
            file[f"{group}/0"] = np.full((3, 3, 3 if layer == 0 else 1, 1), 0.25, np.float32)
            file[f"{group}/1"] = np.zeros(1, np.float32)
    return [image.getvalue()]


def archive_seeds() -> list[bytes]:
    """Make a ``.keras`` archive."""
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("metadata.json", b"{}"), ("config.json", b"{}"), ("model.weights.h5", keras_seeds()[0])):
            archive.writestr(zipfile.ZipInfo(name), content)
    return [file.getvalue()]


def onnx_seeds() -> list[bytes]:
    """Make a graph of 13 convolutions, with values as bytes and as floats."""
    nodes, initializers, last = [], [], "x"
    for number, (name, tensor) in enumerate(_tensors().items()):
        made = numpy_helper.from_array(tensor, name)
        if number == 1:
            made = helper.make_tensor(name, TensorProto.FLOAT, tensor.shape, tensor.ravel().tolist())
        initializers.append(made)
        if name.endswith("bias"):
            nodes.append(helper.make_node("Conv", [last, name.replace("bias", "weight"), name], [f"y{number}"]))
            last = f"y{number}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", last)]
    graph = helper.make_graph(nodes, "vgg", values[:1], values[1:], initializers)
    return [bytes(helper.make_model(graph).SerializeToString())]


CSV = (
    "path,label,split,weight\na.png,cat,train,1\nb/c.png,cat|dog,test,0.5\n",
    '﻿label,path,split_0\n"a ""b"", c",x y.png,val\r\n,"z,1.png",\r\n',
    "path\na.png\nb.png\n\nc.png\n",
)


def csv_seeds() -> list[bytes]:
    """Make manifests with and without labels, quotes, a byte order mark and names that are not UTF-8."""
    return [*(text.encode() for text in CSV), b"path,label\n\xff\xfe.png,a\n" + b"".join(
        b"%d.png,b\n" % number for number in range(50))]  # fmt: skip


def parquet_seeds() -> list[bytes]:
    """Make a manifest, and images with labels as Hugging Face writes them."""
    manifest = pyarrow.table({"path": ["a.png", "b.png"], "label": [["x", "y"], []], "split": ["train", None],
                              "weight": [0.5, None]})  # fmt: skip
    image = image_seeds()[0]
    names = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}})
    images = pyarrow.table({"image": [{"bytes": image, "path": "a"}, {"bytes": None, "path": None}], "label": [1, 0],
                            "split": ["train", "test"]}).replace_schema_metadata({"huggingface": names})  # fmt: skip
    plain = pyarrow.table({"image": [image] * 3, "label": ["a", "b|c", None]})
    seeds = []
    for table in (manifest, images, plain):
        for compression in ("snappy", "none"):
            pyarrow.parquet.write_table(table, sink := io.BytesIO(), compression=compression, row_group_size=2)
            seeds.append(sink.getvalue())
    return seeds


def image_seeds() -> list[bytes]:
    """Make a small image in every format and mode that Pillow can write and open, some with EXIF and a profile."""
    Image.init()
    pixels = np.random.default_rng(0).integers(0, 256, (14, 12, 4), np.uint8)
    base, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    seeds = []
    for name in sorted(Image.SAVE.keys() & Image.OPEN.keys()):
        for mode in ("RGB", "RGBA", "L", "P", "1", "I;16", "CMYK", "F"):
            image = _in_mode(base, mode)
            seeds += _written(image, name)
            if mode == "RGB" and name in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "MPO"):
                seeds += _written(image, name, exif=exif, icc_profile=b"\0" * 128)
    for options in ({"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"compression": "jpeg"}):
        seeds += _written(base.convert("RGB"), "TIFF", **options)
    seeds += _written(base.convert("1"), "TIFF", compression="group4")
    seeds += _written(base.convert("RGB"), "JPEG", progressive=True, subsampling=2, quality=30)
    for name in ("GIF", "PNG", "WEBP", "TIFF"):
        seeds += _written(base.convert("RGB"), name, save_all=True, append_images=[base.convert("L").convert("RGB")])
    return seeds


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    between = {"I;16": "L", "CMYK": "RGB"}
    return image.convert(between.get(mode, "RGBA")).convert(mode)


def _written(image: Image.Image, name: str, **options: object) -> list[bytes]:
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        image.save(file, name, **options)
        decode(file.getvalue())
        return [file.getvalue()]
    return []
