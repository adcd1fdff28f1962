"""HDF5 files from untrusted sources are refused if they refer to other files or claim more data than they hold."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.errors import StoreError, WeightsError
from featx.files.hdf5_heaps import _messages, check_attribute_heaps
from featx.files.limits import CHUNK
from featx.files.untrusted_hdf5 import open_untrusted

Fill = Callable[[h5py.File], object]


def make(path: Path, fill: Fill) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def virtual(source: str) -> Fill:
    """Return a function that adds a virtual dataset of the ``x`` of another file."""

    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(source, "x", (10,))
        file.create_virtual_dataset("v", layout)

    return fill


def numbers(file: h5py.File) -> None:
    file["x"] = np.arange(10)


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "x")


def chunk_bomb(file: h5py.File) -> None:
    """A chunk of 64 KB that decompresses to 100 MB."""
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
            r"x of .*bad\.h5 must be in the file itself, but its data is in another",
        ),
        (virtual("/etc/passwd"), r"v of .*bad\.h5 must be made of files in its own folder, got '/etc/passwd'; do not"),
        (
            virtual("../outside.h5"),
            r"must be made of files in its own folder, got '\.\./outside\.h5', which is not one",
        ),
        (virtual("parts/%%b.h5"), r"must be made of files in its own folder, got 'parts/%%b\.h5'"),
        (virtual("missing.h5"), r"got 'missing\.h5', which is not one; copy the folder with all its files"),
        (virtual("linked.h5"), r"got 'linked\.h5', which is not one"),
        (virtual("parts/bad.h5"), r"parts/bad\.h5 must hold its data itself, but x is an external link"),
        (
            lambda file: file.create_dataset("x", (1000,), "i4", chunks=(100,), compression="lzf"),
            r"gzip, shuffle, fletcher32, got number 32000, which may load code; write it without that filter",
        ),
        (twice_compressed, r"must be stored with each filter once, got gzip repeatedly"),
        (lambda file: file.create_dataset("x", data=["a"]), r"x of .* must have a type of fixed length, got object"),
        (
            lambda file: file.create_dataset("x", (10**12,), "i4", chunks=(100,)),
            r"x of .*bad\.h5 claims 4,000,000,000,000 bytes but is stored in [\d,]+, more than 32 times as many",
        ),
        (
            lambda file: file.create_dataset("x", data=np.zeros(1 << 22, "i4"), chunks=(1 << 22,), compression=9),
            r"must have compressed chunks of at most 1,048,576 bytes, got 16,777,216",
        ),
        (
            chunk_bomb,
            r"bad\.h5 must have chunks that are no larger compressed than the 65,536 bytes of their data, got [\d,]+",
        ),
    ],
)
def test_a_file_that_refers_to_others_or_claims_too_much_is_refused(tmp_path: Path, fill: Fill, message: str) -> None:
    make(tmp_path / "outside.h5", numbers)
    folder = tmp_path / "folder"
    make(folder / "linked.h5", numbers).unlink()
    (folder / "linked.h5").symlink_to(tmp_path / "outside.h5")
    make(folder / "parts" / "bad.h5", external_link)
    with pytest.raises(StoreError, match=message):
        open_untrusted(make(folder / "bad.h5", fill), StoreError)


def test_a_file_that_holds_its_own_data_can_be_opened(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("a/x", data=np.arange(10_000), compression=1, shuffle=True, fletcher32=True)
        file["a/again"] = file["a"]  # a group within itself
        file.create_dataset("incompressible", data=np.random.default_rng(0).bytes(1 << 10), dtype="V1024")
        noise = np.frombuffer(np.random.default_rng(0).bytes(CHUNK.default), "u1")
        file.create_dataset("noise", data=noise, chunks=noise.shape, compression=9)
        file.create_dataset("empty", data=h5py.Empty("f4"))
        file["one"] = 1.0

    with open_untrusted(make(tmp_path / "good.h5", fill), StoreError) as file:
        assert file["a/x"][-1] == 9999


def test_virtual_datasets_of_the_same_file_and_of_files_below_can_be_opened(tmp_path: Path) -> None:
    make(tmp_path / "parts" / "one.h5", numbers)

    def fill(file: h5py.File) -> None:
        numbers(file)
        virtual("parts/one.h5")(file)
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(file["x"])
        file.create_virtual_dataset("own", layout)

    with open_untrusted(make(tmp_path / "good.h5", fill), StoreError) as file:
        assert file["v"][:].tolist() == file["own"][:].tolist() == list(range(10))


def test_a_file_in_memory_must_not_have_a_virtual_dataset_of_another_file() -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        virtual("one.h5")(file)
    with pytest.raises(WeightsError, match=r"v of member of a\.keras must be made of files in its own folder"):
        open_untrusted(content, WeightsError, "member of a.keras")


def test_the_sources_of_a_symbolic_link_are_beside_its_target(tmp_path: Path) -> None:
    make(tmp_path / "real" / "a.h5", virtual("b.h5"))
    make(tmp_path / "real" / "b.h5", numbers)
    make(tmp_path / "other" / "b.h5", lambda file: file.create_dataset("x", data=np.full(10, 7)))
    (tmp_path / "other" / "a.h5").symlink_to(tmp_path / "real" / "a.h5")
    with open_untrusted(tmp_path / "other" / "a.h5", StoreError) as file:
        np.testing.assert_array_equal(file["v"][:], np.arange(10))


def test_a_source_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with h5py.File(make(tmp_path / "a.h5", numbers), "r+") as file:
        space, stored = h5py.h5s.create_simple((10,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        stored.set_virtual(space, b"/elsewhere/\xff.h5", b"x", space)
        h5py.h5d.create(file.id, b"v", h5py.h5t.NATIVE_INT64, space, stored)
    with pytest.raises((StoreError, UnicodeDecodeError)):
        open_untrusted(tmp_path / "a.h5", StoreError)


def test_a_source_with_sources_of_its_own_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "y.h5", numbers)
    make(tmp_path / "parts" / "nested.h5", virtual("y.h5"))
    with pytest.raises(StoreError, match=r"own folder, got 'y\.h5'; do not use it"):
        open_untrusted(make(tmp_path / "top.h5", virtual("parts/nested.h5")), StoreError)


def damage_heap(path: Path) -> None:
    """Give the free space of the first global heap the size 0, on which HDF5 loops forever."""
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    data[place + 8 : place + 16] = bytes(8)
    path.write_bytes(data)


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("userblock", [0, 512])
def test_a_damaged_heap_of_a_virtual_dataset_is_refused(tmp_path: Path, libver: str, userblock: int) -> None:
    make(tmp_path / "one.h5", numbers)
    path = tmp_path / "good.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        virtual("one.h5")(file)
    with open_untrusted(path, StoreError) as file:
        assert file["v"][:].tolist() == list(range(10))
    damage_heap(path)
    with pytest.raises(ValueError, match="a heap is damaged"):
        open_untrusted(path, StoreError)


def test_a_damaged_heap_of_an_attribute_in_a_header_of_several_blocks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="v110", track_order=True) as file:
        for number in range(7):
            file.attrs[f"fixed{number}"] = np.arange(100)
        file.attrs["text"] = "variable"

    def check() -> None:
        with open_untrusted(path, StoreError) as file, path.open("rb") as raw:
            check_attribute_heaps(file, raw)

    check()
    damage_heap(path)
    with pytest.raises(ValueError, match="a heap is damaged"):
        check()


def test_attributes_outside_the_object_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="v110") as file:
        for number in range(20):  # more than eight are moved out of the header
            file.attrs[f"name{number}"] = "x"
    with (
        open_untrusted(path, StoreError) as file,
        path.open("rb") as raw,
        pytest.raises(ValueError, match="stored in a way that featx never uses"),
    ):
        check_attribute_heaps(file, raw)


def test_an_object_header_that_continues_in_itself_is_refused() -> None:
    header = struct.pack("<BxHII4x", 1, 1, 1, 24) + struct.pack("<HHB3xQQ", 0x10, 16, 0, 16, 24)
    with pytest.raises(ValueError, match="an object header is damaged"):
        list(_messages(io.BytesIO(header), 0, 0))
