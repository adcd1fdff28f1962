"""HDF5 files that anyone may have made: what refers to other files, or claims what it does not hold, is refused."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.errors import StoreError, WeightsError
from featx.files.limits import CHUNK
from featx.files.untrusted_hdf5 import open_untrusted

Fill = Callable[[h5py.File], object]


def made(path: Path, fill: Fill) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def of(source: str) -> Fill:
    """Fill a file with a virtual dataset of another file's ``x``."""

    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(source, "x", (10,))
        file.create_virtual_dataset("v", layout)

    return fill


def numbers(file: h5py.File) -> None:
    file["x"] = np.arange(10)


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "x")


def swollen(file: h5py.File) -> None:
    """A chunk of 64 KB that inflates to 100 MB."""
    dataset = file.create_dataset("x", (1 << 16,), "u1", chunks=(1 << 16,), compression=9)
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(100 << 20)))


def twice_compressed(file: h5py.File) -> None:
    stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    stored.set_chunk((1000,))
    stored.set_deflate(9)
    stored.set_deflate(9)
    h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((1000,)), stored)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (external_link, r"bad\.h5 must hold its data itself, but x is an external link; do not use it"),
        (lambda file: file.create_group("a").__setitem__("b", h5py.SoftLink("/x")), r"but a/b is a soft link"),
        (
            lambda file: file.create_dataset("x", (10,), "i1", external="/etc/passwd"),
            r"x of .*bad\.h5 must be in the file itself, but its data are in another",
        ),
        (of("/etc/passwd"), r"v of .*bad\.h5 must be made of files in its own folder, got '/etc/passwd'; do not"),
        (of("../outside.h5"), r"must be made of files in its own folder, got '\.\./outside\.h5', which is none"),
        (of("parts/%%b.h5"), r"must be made of files in its own folder, got 'parts/%%b\.h5'"),
        (of("missing.h5"), r"got 'missing\.h5', which is none; copy the folder whole"),
        (of("linked.h5"), r"got 'linked\.h5', which is none"),
        (of("parts/bad.h5"), r"parts/bad\.h5 must hold its data itself, but x is an external link"),
        (
            lambda file: file.create_dataset("x", (1000,), "i4", chunks=(100,), compression="lzf"),
            r"no filter but gzip, shuffle, fletcher32, got number 32000, which may load code; write it without",
        ),
        (twice_compressed, r"must be stored with each filter once, got gzip several times"),
        (lambda file: file.create_dataset("x", data=["a"]), r"x of .* must have a type of fixed length, got object"),
        (
            lambda file: file.create_dataset("x", (10**12,), "i4", chunks=(100,)),
            r"x of .*bad\.h5 claims 4,000,000,000,000 bytes and is stored in [\d,]+, more than 32 times as many",
        ),
        (
            lambda file: file.create_dataset("x", data=np.zeros(1 << 22, "i4"), chunks=(1 << 22,), compression=9),
            r"must have compressed chunks of at most 1,048,576 bytes, got 16,777,216",
        ),
        (swollen, r"x of .*bad\.h5 has a chunk of [\d,]+ bytes, compressed, for 65,536 bytes of data"),
    ],
)
def test_what_leads_out_or_claims_too_much_is_refused(tmp_path: Path, fill: Fill, message: str) -> None:
    made(tmp_path / "outside.h5", numbers)
    folder = tmp_path / "folder"
    made(folder / "linked.h5", numbers).unlink()
    (folder / "linked.h5").symlink_to(tmp_path / "outside.h5")
    made(folder / "parts" / "bad.h5", external_link)
    with pytest.raises(StoreError, match=message):
        open_untrusted(made(folder / "bad.h5", fill), StoreError)


def test_what_holds_its_data_opens(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("a/x", data=np.arange(10_000), compression=1, shuffle=True, fletcher32=True)
        file["a/again"] = file["a"]  # a group within itself
        file.create_dataset("incompressible", data=np.random.default_rng(0).bytes(1 << 10), dtype="V1024")
        noise = np.frombuffer(np.random.default_rng(0).bytes(CHUNK.default), "u1")
        file.create_dataset("noise", data=noise, chunks=noise.shape, compression=9)
        file.create_dataset("empty", data=h5py.Empty("f4"))
        file["one"] = 1.0

    with open_untrusted(made(tmp_path / "good.h5", fill), StoreError) as file:
        assert file["a/x"][-1] == 9999


def test_a_virtual_dataset_of_files_below_opens_and_so_does_one_of_its_own_file(tmp_path: Path) -> None:
    made(tmp_path / "parts" / "one.h5", numbers)

    def fill(file: h5py.File) -> None:
        numbers(file)
        of("parts/one.h5")(file)
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(file["x"])
        file.create_virtual_dataset("own", layout)

    with open_untrusted(made(tmp_path / "good.h5", fill), StoreError) as file:
        assert file["v"][:].tolist() == file["own"][:].tolist() == list(range(10))


def test_a_file_in_memory_has_no_folder() -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        of("one.h5")(file)
    with pytest.raises(WeightsError, match=r"v of member of a\.keras must be made of files in its own folder"):
        open_untrusted(content, WeightsError, "member of a.keras")


def test_sources_are_those_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    made(tmp_path / "real" / "a.h5", of("b.h5"))
    made(tmp_path / "real" / "b.h5", numbers)
    made(tmp_path / "other" / "b.h5", lambda file: file.create_dataset("x", data=np.full(10, 7)))
    (tmp_path / "other" / "a.h5").symlink_to(tmp_path / "real" / "a.h5")
    with open_untrusted(tmp_path / "other" / "a.h5", StoreError) as file:
        np.testing.assert_array_equal(file["v"][:], np.arange(10))


def test_a_source_whose_name_is_no_text_is_no_way_out(tmp_path: Path) -> None:
    with h5py.File(made(tmp_path / "a.h5", numbers), "r+") as file:
        space, stored = h5py.h5s.create_simple((10,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        stored.set_virtual(space, b"/elsewhere/\xff.h5", b"x", space)
        h5py.h5d.create(file.id, b"v", h5py.h5t.NATIVE_INT64, space, stored)
    with pytest.raises((StoreError, UnicodeDecodeError)):
        open_untrusted(tmp_path / "a.h5", StoreError)


def test_a_source_has_no_sources_itself(tmp_path: Path) -> None:
    made(tmp_path / "y.h5", numbers)
    made(tmp_path / "parts" / "nested.h5", of("y.h5"))
    with pytest.raises(StoreError, match=r"own folder, got 'y\.h5'; do not use it"):
        open_untrusted(made(tmp_path / "top.h5", of("parts/nested.h5")), StoreError)
