"""The hostile files of SECURITY.md: each is refused with a message; nothing is run, and memory stays small.

One more, a label with a script, is the class of `hostile_model`: ``tests/test_report_page.py`` opens its report.
"""

import io
import pickle
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from conftest import draw

from featx.backbones.registry import BackboneWeights
from featx.cli.group import main
from featx.engines.reference_check import compute_reference_features
from featx.engines.selection import make_engine
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_folder import PartFolder

PEAK_MB = 700
"""Memory that a refusal may add to this process; the bombs here would add gigabytes."""
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("harmed", "w")


def resident_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) / 1e3


def refused(message: str, *arguments: object, code: int = 1) -> str:
    """Run a command that must end with a message and an exit code, and must not use much memory."""
    if linux := PEAK.exists():
        PEAK.write_text("5")
        before = resident_mb("VmRSS")
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    assert re.search(message, result.output), result.output
    assert not linux or resident_mb("VmHWM") - before < PEAK_MB
    assert not Path("harmed").exists()
    return result.output


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(shared_store: Path, folder: Path) -> Path:
    return Path(shutil.copy(shared_store, folder / "stranger.h5"))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"features.0.weight": Payload()}, path),
        lambda path: path.write_bytes(pickle.dumps(Payload(), 2)),
    ],
    ids=["zip", "plain"],
)
def test_weights_that_are_a_pickle_are_refused(folder: Path, write: Callable[[Path], object]) -> None:
    write(folder / "weights.pt")
    refused(
        r"weights\.pt must be a torch state dict.*torch cannot load it", "backbones", "add", "weights.pt", "--name", "x"
    )


def test_a_model_that_is_a_pickle_is_refused(folder: Path) -> None:
    (folder / "model.featx").write_bytes(pickle.dumps(Payload()))
    draw(0, 0).save("one.png")
    refused(r"model\.featx is not a featx model", "predict", "model.featx", "one.png")


def test_tar_members_outside_the_shard_are_refused(folder: Path, oxford: object) -> None:
    data = io.BytesIO()
    draw(0, 0).save(data, "PNG")
    with tarfile.open("shard.tar", "w") as tar:
        for name in ("../escaped.png", "/tmp/escaped.png", "a/good.png"):
            info = tarfile.TarInfo(name)
            info.size = len(data.getvalue())
            tar.addfile(info, io.BytesIO(data.getvalue()))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    output = refused(r"its name leads out of the shard", "extract", "shard.tar", "-o", "s.h5", "--size", "32", code=3)
    assert "a link or device in the shard, not followed" in output
    assert "s.h5: 1 row, 1 extracted" in output
    assert not list(folder.parent.glob("escaped*"))


@pytest.mark.parametrize("name", ["rows/path", "features/block1_avg"])
def test_a_store_with_a_link_to_another_file_is_refused(store: Path, name: str) -> None:
    with h5py.File(store, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink("/etc/passwd", "x")
    refused(rf"stranger\.h5 must hold its data itself, but {name} is an external link", "info", "stranger.h5")


def test_a_store_with_a_column_in_another_file_is_refused(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        rows = len(file["rows/label"])
        del file["rows/label"]
        file["rows"].create_dataset("label", (rows,), "i4", external="/etc/passwd")
    refused(r"rows/label of stranger\.h5 must be in the file itself", "fit", "stranger.h5", "-o", "m.featx")


def test_a_part_with_a_link_is_damaged(folder: Path, shared_photos: Path, oxford: BackboneWeights) -> None:
    spec = ExtractSpec(size=32).with_backbone(oxford.name, oxford.digest, oxford.preprocessing)
    with PartFolder(folder / "s.h5") as run:
        run.create_run(spec, compute_reference_features(make_engine(oxford, spec, "cpu")))
        with h5py.File(run.path / ("0" * 16 + ".part.h5"), "w") as file:
            file["rows"] = h5py.ExternalLink("/etc/passwd", "x")
    said = refused(r"s\.h5: 36 rows, 36 extracted", "extract", shared_photos, "-o", "s.h5", "--size", "32", code=0)
    assert re.search(r"part\.h5 is damaged \(.* must hold its data itself, but rows is an external link", said)


def bomb(megabytes: int) -> bytes:
    """Return deflated zeros of so many megabytes; the checksum at the end is missing."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + megabytes * block


def png_bomb(side: int) -> bytes:
    """Return a PNG of side × side black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_png_bomb_fails_its_image_alone(folder: Path, oxford: object) -> None:
    (folder / "images").mkdir()
    draw(0, 0).save("images/good.png")
    (folder / "images" / "bomb.png").write_bytes(png_bomb(30_000))
    said = r"bomb\.png: 30000 × 30000 pixels, more than the 178956970 allowed \(--max-pixels\)"
    refused(said, "extract", "images", "-o", "s.h5", "--size", "32", code=3)


def test_a_bomb_in_a_chunk_of_a_store_is_refused(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        rows = file["rows/label"].shape
        del file["rows/label"]
        label = file["rows"].create_dataset("label", rows, "i4", chunks=rows, compression=9)
        label.id.write_direct_chunk((0,), bomb(8192))
    refused(
        r"rows/label of stranger\.h5 must have chunks that are no larger compressed than the 144 bytes",
        "info",
        "stranger.h5",
    )


def test_a_bomb_in_a_chunk_of_weights_is_refused(folder: Path) -> None:
    with h5py.File("weights.h5", "w") as file:
        kernel = (3, 3, 3, 64)
        chunk = file.create_dataset("block1_conv1/kernel", kernel, "f4", chunks=kernel, compression=9)
        chunk.id.write_direct_chunk((0,) * 4, bomb(8192))
        file["block1_conv1/bias"] = np.zeros(64, "f4")
    refused(
        r"block1_conv1/kernel of weights\.h5 must have chunks that are no larger compressed",
        "backbones",
        "add",
        "weights.h5",
        "--name",
        "x",
    )


def test_a_bomb_in_a_keras_archive_or_checkpoint_is_refused(folder: Path) -> None:
    for path, member, megabytes in (("w.keras", "model.weights.h5", 300), ("w.pt", "archive/data.pkl", 1)):
        with zipfile.ZipFile(folder / path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(member, bytes(megabytes << 20))
    refused(
        r"model\.weights\.h5 of w\.keras claims 314,572,800 bytes but", "backbones", "add", "w.keras", "--name", "x"
    )
    refused(r"'archive/data\.pkl' is compressed, from 1,048,576 to [\d,]+", "backbones", "add", "w.pt", "--name", "x")


@pytest.mark.parametrize("whole", [True, False], ids=["sparse", "short"])
def test_a_safetensors_header_of_eight_gigabytes_is_refused(folder: Path, whole: bool) -> None:
    for name in ("weights.safetensors", "model.featx"):
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", 8 << 30) + b'{"a":1}')
            file.truncate((8 << 30) + 100 if whole else 100)
    said = (
        r"must have at most 3,221,225,472 bytes"
        if whole
        else r"its header must have at most 92 bytes, got 8,589,934,592"
    )
    refused(said, "backbones", "add", "weights.safetensors", "--name", "x")
    draw(0, 0).save("one.png")
    refused(r"model\.featx is not a featx model, or is cut short: its header", "predict", "model.featx", "one.png")


def test_a_tensor_of_the_wrong_shape_is_refused_before_it_is_read(folder: Path) -> None:
    header = b'{"features.0.weight":{"dtype":"F32","shape":[64,3,3,1000000],"data_offsets":[0,2304000000]}}'
    with (folder / "weights.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2_304_000_000)
    said = r"must have the shape of VGG16, \(64, 3, 3, 3\), got \(64, 3, 3, 1000000\)"
    refused(said, "backbones", "add", "weights.safetensors", "--name", "x")
    torch.save({"features.0.weight": torch.zeros(1, dtype=torch.float16).expand(1 << 36)}, "weights.pt")
    said = r"must have the shape of VGG16, \(64, 3, 3, 3\), got \(68719476736,\)"
    refused(said, "backbones", "add", "weights.pt", "--name", "x")


def onnx_file(path: Path, tensor: onnx.TensorProto) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"])
    bias = onnx.numpy_helper.from_array(np.zeros(64, "f4"), "b")
    graph = onnx.helper.make_graph([node], "g", [], [], [tensor, bias])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def test_an_onnx_file_that_refers_to_another_is_refused(folder: Path) -> None:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(64, 3, 3, 3))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    onnx_file(folder / "weights.onnx", tensor)
    said = r"weights\.onnx must contain its weights, but features\.0\.weight refers to another file"
    refused(said, "backbones", "add", "weights.onnx", "--name", "x")


def test_an_onnx_file_that_claims_terabytes_is_refused(folder: Path) -> None:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(1 << 20, 1 << 20), raw_data=b"1234")
    onnx_file(folder / "weights.onnx", tensor)
    refused(r"VGG16, \(64, 3, 3, 3\), got \(1048576, 1048576\)", "backbones", "add", "weights.onnx", "--name", "x")


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.png", "a/../../outside.png"])
def test_a_manifest_path_outside_the_root_is_refused(folder: Path, path: str) -> None:
    (folder / "rows.csv").write_text(f"path,label\n{path},x\n")
    said = r"line 2 of manifest rows\.csv must name a file below the root by a relative path, got '.*'; move the root"
    refused(said, "extract", "rows.csv", "-o", "s.h5")
