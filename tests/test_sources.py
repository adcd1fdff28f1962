"""Every source gives the same images: tar shards, Parquet, data sets and URLs give the same store as the folder."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from moto.server import ThreadedMotoServer
from PIL import Image as Pillow
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from featx.errors import EngineError, ImageError, ListingError
from featx.extraction import extract
from featx.files.limits import ROW_GROUP, SIDECAR, URL_IMAGE
from featx.images.loading import load_thumbnail
from featx.images.sources import metadata
from featx.images.sources import tar as tar_source
from featx.images.sources.any_source import CONTAINER_LISTERS, list_images
from featx.images.sources.found_files import CONTAINERS
from featx.images.sources.local_files import LocalFiles
from featx.images.sources.notes import Note
from featx.images.sources.options import ListingOptions
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(1, 3))


@pytest.fixture(scope="module")
def files(shared_photos):
    """Path, class and bytes of twelve photos, in the order of the folder's listing."""
    paths = sorted(path for path in shared_photos.rglob("*.png") if int(path.stem) < 4)
    return [(path.relative_to(shared_photos).as_posix(), path.parent.name, path.read_bytes()) for path in paths]


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("sources") / "photos"
    for path, _, data in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def expected(folder):
    """Digests, labels and features of the store of the folder."""
    return read(folder, folder.parent / "folder.h5")


@pytest.fixture(autouse=True)
def empty_memory_file_system():
    yield
    fsspec.filesystem("memory").store.clear()


def read(source, output, root=None):
    report = extract(source, output, SPEC, root=root)
    assert report.failures == []
    with Store(output) as store:
        return store.digests, [store.classes[code] for code in store.labels], store.read(store.spec.widths)


def check_same(got, expected):
    assert got[:2] == expected[:2]
    np.testing.assert_array_equal(got[2], expected[2])


def write_tar(path, members):
    """Write a tar file of (name, bytes) pairs, or of members without bytes."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def as_samples(files):
    """Yield the files that WebDataset's writer makes: an image and its class as text, with the same key."""
    for number, (_, label, data) in enumerate(files):
        yield f"{number:05d}.png", data
        yield f"{number:05d}.cls", label.encode()


def parquet_table(files):
    images = pa.array([data for *_, data in files], pa.binary())
    return pa.table({"image": images, "label": [label for _, label, _ in files]})


def as_dataset(files):
    classes = ClassLabel(names=["blue", "green", "red"])
    features = Features({"image": Image(), "label": classes, "note": Value("string")})
    rows = [{"image": {"bytes": data, "path": None}, "label": label, "note": ""} for _, label, data in files]
    return Dataset.from_list(rows, features=features)


def test_tar_shards_give_the_same_store(files, tmp_path, expected):
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "shard-000.tar", [(path, data) for path, _, data in files[:5]])
    write_tar(tmp_path / "shards" / "shard-001.tar", as_samples(files[5:]))
    check_same(read(tmp_path / "shards", tmp_path / "tar.h5"), expected)
    with Store(tmp_path / "tar.h5") as store:
        assert store.paths[4:7] == ["shard-000.tar/green/0.png", "shard-001.tar/00000.png", "shard-001.tar/00001.png"]
    assert extract(tmp_path / "shards", tmp_path / "tar.h5", SPEC).extracted == 0


def test_parquet_shards_give_the_same_store(files, tmp_path, expected):
    (tmp_path / "parts").mkdir()
    pq.write_table(parquet_table(files[:7]), tmp_path / "parts" / "a.parquet", row_group_size=2)
    pq.write_table(parquet_table(files[7:]), tmp_path / "parts" / "b.parquet")
    check_same(read(tmp_path / "parts", tmp_path / "parquet.h5"), expected)
    with Store(tmp_path / "parquet.h5") as store:
        assert store.paths[6:8] == ["a.parquet#6", "b.parquet#0"]


def test_a_hugging_face_data_set_gives_the_same_store(files, tmp_path, expected):
    saved = as_dataset(files)
    saved.save_to_disk(tmp_path / "saved")
    check_same(read(tmp_path / "saved", tmp_path / "disk.h5"), expected)
    check_same(read(saved.select(range(len(files))), tmp_path / "memory.h5"), expected)
    with Store(tmp_path / "disk.h5") as store:
        assert store.paths[11] == "saved#11"
    saved.to_parquet(tmp_path / "hub.parquet")
    check_same(read(tmp_path / "hub.parquet", tmp_path / "hub.h5"), expected)


def test_a_torchvision_image_folder_gives_the_same_store(folder, tmp_path, expected):
    check_same(read(ImageFolder(folder), tmp_path / "folder.h5"), expected)


class Pairs:
    """A data set of (image, label) pairs."""

    classes = ("blue", "green", "red")

    def __init__(self, files):
        self.items = [(Pillow.open(io.BytesIO(data)), self.classes.index(label)) for _, label, data in files]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


@pytest.mark.parametrize("module", ["flowers", "datasets.flowers"])  # Users may have a package named datasets.
def test_a_data_set_of_pairs_gives_the_same_features(module, files, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(Pairs, "__module__", module)
    digests, labels, features = read(Pairs(files), tmp_path / "pairs.h5")
    assert labels == expected[1]
    np.testing.assert_array_equal(features, expected[2])
    assert len(set(digests)) == len(files)
    assert extract(Pairs(files), tmp_path / "pairs.h5", SPEC).extracted == 0


def test_urls_give_the_same_store(files, tmp_path, expected):
    memory = fsspec.filesystem("memory")
    for path, _, data in files:
        memory.pipe(f"/bucket/photos/{path}", data)
    memory.pipe("/bucket/photos/.hidden/x.png", b"x")
    memory.pipe("/bucket/photos/notes.txt", b"x")
    write_tar(tmp_path / "a.tar", as_samples(files))
    pq.write_table(parquet_table(files), tmp_path / "a.parquet")
    for name in ("a.tar", "a.parquet"):
        memory.pipe(f"/bucket/{name}", (tmp_path / name).read_bytes())
    lines = "path,label\n" + "".join(f"{path},{label}\n" for path, label, _ in files)
    memory.pipe("/bucket/photos/rows.csv", lines.encode())
    (tmp_path / "rows.csv").write_text(lines)
    for number, source in enumerate(("photos", "photos/", "a.tar", "a.parquet", "photos/rows.csv", "photos")):
        check_same(read(f"memory://bucket/{source}", tmp_path / f"{number}.h5"), expected)
    check_same(read(tmp_path / "rows.csv", tmp_path / "root.h5", "memory://bucket/photos"), expected)
    (image,) = list_images("memory://bucket/photos/red/1.png").paths
    assert image == "1.png"
    listing = list_images("memory://bucket/photos")
    assert listing.full_path(listing.paths[0]) == "memory:///bucket/photos/blue/0.png"


def test_an_s3_server_gives_the_same_store(files, tmp_path, expected, monkeypatch):
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
                            "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("bucket")
        write_tar(tmp_path / "a.tar", as_samples(files))
        s3.put(str(tmp_path / "a.tar"), "bucket/shards/a.tar")
        check_same(read("s3://bucket/shards", tmp_path / "s3.h5"), expected)
    finally:
        server.stop()


def test_a_parquet_manifest_gives_the_same_listing_as_csv(files, folder, tmp_path):
    paths, labels = [path for path, *_ in files][::-1], [[label, "flower"] for _, label, _ in files][::-1]
    weights = [None, *np.arange(len(files) - 1) / 4]
    pq.write_table(pa.table({"path": paths, "label": labels, "weight": weights}), tmp_path / "rows.parquet")
    lines = [f"{path},{'|'.join(label)},{'' if weight is None else weight}" for path, label, weight in
             zip(paths, labels, weights, strict=True)]  # fmt: skip
    (tmp_path / "rows.csv").write_text("\n".join(["path,label,weight", *lines]))
    one, other = (list_images(tmp_path / f"rows.{kind}", folder) for kind in ("csv", "parquet"))
    assert list(one.paths) == list(other.paths) == paths[::-1]
    assert list(one.rows.labels) == list(other.rows.labels)
    assert list(one.columns["weight"]) == list(other.columns["weight"])
    assert other.read(0) == files[0][2]


def test_splits_are_taken_from_the_names_of_shards_and_of_data_sets(files, tmp_path):
    for name in ("train-0", "test-0"):
        pq.write_table(parquet_table(files[:2]), tmp_path / f"{name}.parquet")
    assert list(list_images(tmp_path).columns["split"]) == ["test", "test", "train", "train"]
    DatasetDict(train=as_dataset(files[:1]), validation=as_dataset(files[1:3])).save_to_disk(tmp_path / "saved")
    listing = list_images(tmp_path / "saved")
    assert list(listing.columns["split"]) == ["train", "val", "val"]
    assert list(listing.paths) == ["train#0", "validation#0", "validation#1"]


def test_labels_and_columns_come_from_sidecars_in_a_shard(files, tmp_path):
    png, many = files[0][2], json.dumps({"label": ["b", "a"], "split_0": "train", "weight": 2, "note": 1}).encode()
    write_tar(tmp_path / "a.tar", [("x/1.png", png), ("x/1.json", many), ("y.left.png", png), ("y.right.png", png),
              ("y.json", b'{"label": 7}'), ("./z/3.png", png), ("4.png", png), ("5.txt", b"")])  # fmt: skip
    listing = list_images(tmp_path / "a.tar")
    assert [path.removeprefix("a.tar/") for path in listing.paths] == [
        "x/1.png", "y.left.png", "y.right.png", "z/3.png", "4.png",
    ]  # fmt: skip
    assert list(listing.rows.labels) == [("a", "b"), ("7",), ("7",), ("z",), ()]
    assert {name: list(column) for name, column in listing.columns.items()} == {
        "split_0": ["train", "", "", "", ""], "weight": ["2", "", "", "", ""],
    }  # fmt: skip
    assert [listing.read(row) for row in range(5)] == [png] * 5


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_unsafe_and_damaged_members_of_a_shard_are_failures(files, tmp_path):
    png = files[0][2]
    (tmp_path / "secret.png").write_bytes(png)
    write_tar(tmp_path / "a.tar", [("ok/1.png", png), ("../up.png", png), ("/etc/root.png", png),
              ("ok/../../b.png", png), link("soft.png", "../secret.png"),
              link("hard.png", "ok/1.png", tarfile.LNKTYPE), ("ok/1.png", png),
              ("._ok/2.png", png), ("bad.png", png), ("bad.json", b"[1]"), ("bar.png", png), ("bar.cls", b"a||b"),
              ("big.png", png), ("big.json", b" " * (SIDECAR.default + 1)), ("deep.png", png),
              ("deep.json", b"[" * 200_000), ("odd.png", png), ("odd.json", br'{"label": "\ud800"}'), ("nul.png", png),
              ("nul.json", br'{"split": "a\u0000"}'), ("way.png", png), ("way.json", b'{"split/a": "x"}'),
              ("a|b/1.png", png), link("sparse.png", "", tarfile.GNUTYPE_SPARSE)])  # fmt: skip
    listing = list_images(tmp_path / "a.tar")
    assert list(listing.paths) == ["a.tar/ok/1.png"]
    damaged = "its label or columns are damaged"
    assert dict(listing.failures) == {
        "a.tar/../up.png": tar_source.OUTSIDE,
        "a.tar//etc/root.png": tar_source.OUTSIDE,
        "a.tar/../b.png": tar_source.OUTSIDE,
        "a.tar/soft.png": tar_source.NOT_A_FILE,
        "a.tar/hard.png": tar_source.NOT_A_FILE,
        "a.tar/ok/1.png": tar_source.DUPLICATE,
        "a.tar/bad.png": f"{damaged}: a .json must contain an object, got '[1]'",
        "a.tar/bar.png": f"{damaged}: must have a label on each side of |, got 'a||b'",
        "a.tar/big.png": f"{damaged}: big.json has 1,048,577 bytes, more than 1,048,576; "
        "raise the limit by featx --limit sidecar=SIZE before the command, or by FEATX_LIMIT_SIDECAR",
        "a.tar/deep.png": f"{damaged}: {too_deep()}",
        "a.tar/odd.png": rf"{damaged}: must be UTF-8, got '\ud800'; save the file as UTF-8 (in Excel: CSV UTF-8)",
        "a.tar/nul.png": f"{damaged}: must have no NUL character in labels and columns, got 'a\\x00'",
        "a.tar/way.png": f"{damaged}: way.json must have no / in the names of columns split…, weight… and group…, "
        "got 'split/a'; rename it",
        "a.tar/a|b/1.png": f"{damaged}: must have no |, which separates several labels, and no NUL "
        "in the name of a class, got 'a|b'; rename it",
        "a.tar/sparse.png": tar_source.NOT_A_FILE,
    }


def too_deep():
    with pytest.raises(RecursionError) as raised:
        json.loads("[" * 200_000)
    return raised.value


def test_a_folder_with_a_nul_in_a_shard_is_a_failure(files, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("x/1.png", "x\0/2.png"):
            info = tarfile.TarInfo("x")
            info.size, info.pax_headers = len(files[0][2]), {"path": name}
            tar.addfile(info, io.BytesIO(files[0][2]))
    listing = list_images(tmp_path / "a.tar")
    assert list(listing.paths) == ["a.tar/x/1.png"]
    ((path, reason),) = listing.failures
    assert path == "a.tar/x\0/2.png"
    assert "no NUL in the name of a class, got 'x\\x00'; rename it" in reason


def test_a_sidecar_that_is_not_next_to_its_image_is_a_failure(files, tmp_path):
    png = files[0][2]
    write_tar(tmp_path / "a.tar", [("b.json", b"{}"), ("a.png", png), ("b.png", png), ("a.cls", b"cat"), ("b.txt", b""),
              ("notes.json", b"{}")])  # fmt: skip
    listing = list_images(tmp_path / "a.tar")
    assert len(listing) == 2
    assert listing.failures == (("a.tar/a.cls", tar_source.APART), ("a.tar/b.json", tar_source.APART))


def test_a_truncated_shard_gives_the_images_that_it_has(files, tmp_path):
    write_tar(tmp_path / "a.tar", [(path, data) for path, _, data in files])
    whole = list_images(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:20_000])
    listing = list_images(tmp_path / "a.tar")
    assert 0 < len(listing) < len(whole)
    assert "damaged, or not an uncompressed tar file" in dict(listing.failures)["a.tar"]
    with pytest.raises(ImageError, match=r"cut short: its shard ends after \d+ of \d+ bytes"):
        whole.read(len(listing))


def overwritten_header(data):
    place = data.find(b"c.png")
    data = data[:place] + b"junkjunk" * 64 + data[place + 512 :]
    return data, f"expected a header at byte {place}"


def truncated_header(data):
    place = data.find(b"c.png")
    return data[: place + 100], f"expected a header at byte {place}"


def with_size(data, size):
    """Write another size, in base 256, into the header of c.png."""
    place = data.find(b"c.png")
    header = bytearray(data[place : place + 512])
    header[124:136] = (size % (1 << 96)).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:place] + bytes(header) + data[place + 512 :]


def negative_size(data):
    return with_size(data, -512), "'c.png' has a size of -512 bytes"


def large_negative_size(data):
    return with_size(data, -4096), "'c.png' has a size of -4096 bytes"


def huge_size(data):
    return with_size(data, 1 << 80), "offset-sized integer"


@pytest.mark.parametrize(
    "damage",
    [overwritten_header, truncated_header, negative_size, large_negative_size,
     huge_size],
)  # fmt: skip
def test_a_damaged_header_in_a_shard_is_a_failure(files, tmp_path, damage):
    names = ("a.png", "a.cls", "b.png", "c.png", "d.png")
    write_tar(tmp_path / "a.tar", [(name, files[0][2] if name.endswith("png") else b"cat") for name in names])
    data, reason = damage((tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tar").write_bytes(data)
    listing = list_images(tmp_path / "a.tar")
    assert listing.paths[0] == "a.tar/a.png"
    assert set(listing.paths) <= {"a.tar/a.png", "a.tar/b.png"}
    assert listing.rows.labels[0] == ("cat",)
    ((path, why),) = listing.failures
    assert path == "a.tar"
    assert reason in why


def test_reading_a_row_without_bytes_or_from_a_damaged_file_fails(files, tmp_path):
    values = {"bytes": [files[0][2], None], "path": ["/etc/passwd", "/etc/passwd"]}
    image = pa.StructArray.from_arrays([pa.array(values["bytes"], pa.binary()), pa.array(values["path"])], list(values))
    pq.write_table(pa.table({"photo": image}), tmp_path / "a.parquet")
    listing = list_images(tmp_path / "a.parquet")
    assert listing.read(0) == files[0][2]
    assert listing.classes == ()
    with pytest.raises(ImageError, match="the row has no image bytes"):
        listing.read(1)
    listing = list_images(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageError, match="cannot be read: "):
        listing.read(0)


def labels_of(table, path, *, root=None, splits=False):
    pq.write_table(table, path)
    listing = list_images(path, root)
    return {name: list(column) for name, column in listing.columns.items()} if splits else list(listing.rows.labels)


NAMED = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})}


def test_class_numbers_have_the_same_meaning_in_every_source(files, tmp_path):
    numbers = [1, -1, None, 2, 0]
    expected = [("dog",), (), (), ("2",), ("cat",)]
    images = pa.array([files[0][2]] * 5, pa.binary())
    table = pa.table({"image": images, "label": numbers})
    assert labels_of(table.replace_schema_metadata(NAMED), tmp_path / "named.parquet") == expected
    floats = pa.table({"image": images[:3], "label": [1.5, float("nan"), None]})
    assert labels_of(floats, tmp_path / "floats.parquet") == [("1.5",), (), ()]
    assert labels_of(table, tmp_path / "plain.parquet") == [("1",), ("-1",), (), ("2",), ("0",)]
    pairs = Labeled(files[:4] + files[:1])
    pairs.classes, pairs.targets = ("cat", "dog"), numbers
    assert list(list_images(pairs).rows.labels) == expected
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    rows = [{"image": {"bytes": b"", "path": None}, "label": label} for label in (1, -1, None, 0)]
    assert list(list_images(Dataset.from_list(rows, features=features)).rows.labels) == [("dog",), (), (), ("cat",)]
    manifest = pa.table({"path": [f"{row}.png" for row in range(5)], "label": numbers})
    for row in range(5):
        (tmp_path / f"{row}.png").write_bytes(files[0][2])
    assert labels_of(manifest.replace_schema_metadata(NAMED), tmp_path / "manifest.parquet") == expected


def test_lists_of_class_numbers_become_class_names(files, tmp_path):
    features = Features({"image": Image(), "label": List(ClassLabel(names=["cat", "dog"]))})
    rows = [{"image": {"bytes": files[0][2], "path": None}, "label": label} for label in ([0, 1], [1], [])]
    made = Dataset.from_list(rows, features=features)
    expected = [("cat", "dog"), ("dog",), ()]
    assert list(list_images(made).rows.labels) == expected
    made.to_parquet(tmp_path / "hub.parquet")
    assert list(list_images(tmp_path / "hub.parquet").rows.labels) == expected


@pytest.mark.parametrize(
    "said",
    ["[" * 100_000, "{", "[]", '{"info": {"features": {"label": {"names": 3}}}}'],
    ids=["deep", "cut", "list", "3"],
)
def test_invalid_class_names_in_parquet_leave_the_numbers(files, tmp_path, said):
    table = pa.table({"image": pa.array([files[0][2]], pa.binary()), "label": [1]})
    assert labels_of(table.replace_schema_metadata({"huggingface": said}), tmp_path / "a.parquet") == [("1",)]


def test_lists_of_labels_may_be_empty(files, tmp_path):
    lists, expected = [["b", None, "a"], [], None, ["0"]], [("a", "b"), (), (), ("0",)]
    images = pa.array([files[0][2]] * 4, pa.binary())
    assert labels_of(pa.table({"image": images, "label": lists}), tmp_path / "image.parquet") == expected
    for name in "abcd":
        (tmp_path / name).touch()
    table = pa.table({"path": list("abcd"), "label": lists, "weight": [1.5, float("nan"), None, 2]})
    assert labels_of(table, tmp_path / "rows.parquet") == expected
    assert labels_of(table, tmp_path / "rows.parquet", splits=True) == {"weight": ["1.5", "", "", "2.0"]}


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), "fixed"], ids=["plain", "large", "view", "fixed"]
)
def test_image_bytes_may_have_any_binary_type(files, tmp_path, kind):
    data = files[0][2]
    images = pa.array([data], pa.binary(len(data)) if kind == "fixed" else kind)
    pq.write_table(pa.table({"photo": images}), tmp_path / "a.parquet")
    assert list_images(tmp_path / "a.parquet").read(0) == data


def test_columns_of_bytes_that_are_not_images_are_recognized(files, folder, tmp_path):
    split = pa.array([b"train"], pa.binary())
    table = pa.table({"photo": pa.array([files[0][2]], pa.binary()), "split": split, "label": split})
    assert labels_of(table, tmp_path / "a.parquet", splits=True) == {"split": ["train"]}
    assert labels_of(table, tmp_path / "a.parquet") == [("train",)]
    digests = pa.array([b"x"], pa.binary())
    table = pa.table({"path": [files[0][0]], "label": ["a"], "digest": digests, "split": split})
    assert labels_of(table, tmp_path / "rows.parquet", root=folder) == [("a",)]
    assert labels_of(table, tmp_path / "rows.parquet", root=folder, splits=True) == {"split": ["train"]}
    encoded = pa.table({"path": pa.array([files[0][0].encode()], pa.binary())})
    assert labels_of(encoded, tmp_path / "rows.parquet", root=folder) == [()]
    named = pa.table({"path": [""], "image": pa.array([files[0][2]], pa.binary())})
    pq.write_table(named, tmp_path / "named.parquet")
    assert list_images(tmp_path / "named.parquet").read(0) == files[0][2]


def test_a_folder_of_parquet_manifests_takes_a_root(files, folder, tmp_path):
    for name, (path, label, _) in zip("ab", files, strict=False):
        pq.write_table(pa.table({"path": [path], "label": [label]}), tmp_path / f"{name}.parquet")
    listing = list_images(tmp_path, folder)
    assert [listing.read(row) for row in (0, 1)] == [data for *_, data in files[:2]]
    pq.write_table(pa.table({"path": [files[2][0]]}), tmp_path / "b.parquet")
    with pytest.raises(ListingError, match=r"b.parquet must have the column label as the first file has, got path$"):
        list_images(tmp_path, folder)
    pq.write_table(pa.table({"path": ["../x"], "label": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(
        ListingError, match=r"row 1 of manifest .*a.parquet and 1 more \(rows are counted across files\)"
    ):
        list_images(tmp_path, folder)


@pytest.mark.parametrize("name", ["photos", "a.tar", "shards", "a.parquet", "saved", "a.png", "pairs"])
def test_a_root_is_refused_for_sources_without_paths_relative_to_one(files, folder, tmp_path, name):
    write_tar(tmp_path / "a.tar", as_samples(files[:1]))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "a.tar", as_samples(files[:1]))
    pq.write_table(parquet_table(files[:1]), tmp_path / "a.parquet")
    as_dataset(files[:1]).save_to_disk(tmp_path / "saved")
    (tmp_path / "a.png").touch()
    source = {"photos": folder, "pairs": Pairs(files[:1])}.get(name, tmp_path / name)
    with pytest.raises(ListingError, match=r"--root must be left out for .*: it is only for the paths of"):
        list_images(source, folder)


@pytest.mark.parametrize(
    ("label", "message"),
    [("a|", r"a.parquet#1 must have a label on each side of \|, got 'a\|'"), ("a\0", "a.parquet#1 must have no NUL")],
)
def test_the_message_for_an_invalid_label_names_its_row(files, tmp_path, label, message):
    images = pa.array([files[0][2]] * 2, pa.binary())
    with pytest.raises(ListingError, match=message):
        labels_of(pa.table({"image": images, "label": ["a", label]}), tmp_path / "a.parquet")
    rows = [{"image": {"bytes": b"", "path": None}, "label": label} for label in ("a", label)]
    features = Features({"image": Image(), "label": Value("string")})
    saved = Dataset.from_list(rows, features=features)
    with pytest.raises(ListingError, match=message.replace("a.parquet", "dataset")):
        list_images(saved)
    pairs = Labeled(files[:2])
    pairs.targets = ["a", label]
    with pytest.raises(ListingError, match=message.replace("a.parquet", "Labeled")):
        list_images(pairs)
    pairs.classes, pairs.targets = ("a|b",), [0, 0]
    with pytest.raises(ListingError, match=r"Labeled#0 must have no \|.* in the name of a class, got 'a\|b'; rename"):
        list_images(pairs)


def test_a_column_name_with_a_slash_is_refused(files, tmp_path):
    table = parquet_table(files[:1]).append_column("split/a", pa.array(["x"]))
    message = r"must have no / in the names of columns split…, weight… and group…, got 'split/a'; rename it"
    with pytest.raises(ListingError, match="a.parquet " + message):
        labels_of(table, tmp_path / "a.parquet")
    saved = as_dataset(files[:1]).add_column("split/a", ["x"])
    with pytest.raises(ListingError, match="somewhere " + message):
        list_images(saved, "somewhere")


def test_shard_names_give_splits_only_if_all_of_them_do(files, tmp_path):
    for name in ("other", "train-0"):
        pq.write_table(parquet_table(files[:2]), tmp_path / f"{name}.parquet")
    assert list_images(tmp_path).columns == {}


def test_a_row_group_is_read_only_once(files, tmp_path, monkeypatch):
    pq.write_table(parquet_table(files), tmp_path / "a.parquet", row_group_size=6)
    listing, opened = list_images(tmp_path / "a.parquet"), []
    monkeypatch.setattr(
        LocalFiles, "open", lambda self, path, old=LocalFiles.open: opened.append(path) or old(self, path)
    )
    assert [listing.read(row) for row in range(12)] == [data for *_, data in files]
    assert len(opened) == 2


def test_a_saved_data_set_with_paths_instead_of_bytes_reads_no_other_files(folder, tmp_path):
    """A data set from a stranger may name any file; one in the user's own program may read its files."""
    source = Dataset.from_dict({"image": [str(folder / "red/1.png"), None]}).cast_column("image", Image())
    source.save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    with pa.ipc.open_stream(arrow.read_bytes()) as reader:
        kind = reader.schema.field("image").type
        table = pa.table({"image": pa.array([{"path": str(folder / "red/1.png")}, None], kind)}, schema=reader.schema)
    with pa.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    listing = list_images(tmp_path / "saved")
    with pytest.raises(ImageError, match="the data set has only a path, not the bytes; give the folder"):
        listing.read(0)
    assert list_images(source, "somewhere").read(0) == (folder / "red/1.png").read_bytes()
    for either in (listing, list_images(source)):
        with pytest.raises(ImageError, match="the row has no image"):
            either.read(1)


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/passwd", "linked.arrow"])
def test_a_saved_data_set_that_names_other_files_is_refused(files, tmp_path, name):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"image": [{"bytes": files[0][2], "path": None}]})
    data.cast_column("image", datasets.Image()).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    (tmp_path / "outside.arrow").write_bytes(arrow.read_bytes())
    (tmp_path / "saved" / "linked.arrow").symlink_to(tmp_path / "outside.arrow")
    assert len(list_images(tmp_path / "saved")) == 1
    state = tmp_path / "saved" / "state.json"
    state.write_text(state.read_text().replace(arrow.name, name))
    with pytest.raises(ListingError, match=r"state\.json must name files beside it, got .*(arrow|passwd).; do not use"):
        list_images(tmp_path / "saved")


@pytest.mark.parametrize("name", ["../outside", "deep/train", "..", "linked"])
def test_a_saved_data_set_that_names_splits_elsewhere_is_refused(files, tmp_path, name):
    saved = tmp_path / "saved"
    DatasetDict({"train": as_dataset(files[:1])}).save_to_disk(saved)
    (saved / "deep").mkdir()
    for copy in (tmp_path / "outside", saved / "deep" / "train"):
        shutil.copytree(saved / "train", copy)
    (saved / "linked").symlink_to(tmp_path / "outside")
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(ListingError, match=r"dataset_dict\.json must name splits that are folders beside it, got"):
        list_images(saved)


def test_paths_with_a_root_must_not_lead_out_of_it(files, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "in.png").write_bytes(files[0][2])
    (tmp_path / "secret.png").write_bytes(files[0][2])
    paths = ["in.png", "../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png"]
    listing = list_images(paths, tmp_path / "root")
    assert listing.read(0) == files[0][2]
    for row in (1, 2, 3):
        for read in (listing.read, listing.size):
            with pytest.raises(ImageError, match="leads out of the root"):
                read(row)
    assert list_images([str(tmp_path / "secret.png")]).read(0) == files[0][2]
    with pytest.raises(ImageError, match="leads out of the root"):
        load_thumbnail(tmp_path / "root", "../secret.png")


def test_a_data_set_without_rows_is_refused():
    with pytest.raises(ListingError, match="somewhere must have at least one row, got none"):
        list_images(Dataset.from_dict({"image": []}, features=Features({"image": Image()})), "somewhere")


def test_many_rows_and_the_column_named_image(files, tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "BATCH", 5)
    table = parquet_table(files).append_column("mask", pa.array([b"x"] * len(files), pa.binary()))
    pq.write_table(table, tmp_path / "a.parquet")
    source = (
        as_dataset(files)
        .add_column("thumb", [{"bytes": b"x", "path": None}] * len(files))
        .cast_column("thumb", Image())
    )
    for listing in (list_images(tmp_path / "a.parquet"), list_images(source)):
        assert [listing.read(row) for row in range(len(files))] == [data for *_, data in files]
        assert [name for (name,) in listing.rows.labels] == [label for _, label, _ in files]


def test_a_data_set_may_have_no_labels_and_its_own_splits(files, tmp_path):
    rows = [{"image": {"bytes": files[0][2], "path": None}, "split": "a", "label": -1}]
    features = Features({"image": Image(), "split": Value("string"), "label": ClassLabel(names=["x"])})
    listing = list_images(DatasetDict(train=Dataset.from_list(rows, features=features)), "somewhere")
    assert list(listing.columns["split"]) == ["a"]
    assert listing.labels.tolist() == [-1]


class Odd(Pairs):
    def __getitem__(self, row):
        if row == 2:
            raise RuntimeError("no row 2")
        return (np.zeros((3, 3)), 0) if row else super().__getitem__(row)


class Labeled(Pairs):
    """A data set with labels of any kind, in ``targets``."""

    def __init__(self, files):
        super().__init__(files)
        self.targets = ["sky", None, 7, np.int64(1)]


def test_pairs_with_labels_of_any_kind(files):
    listing = list_images(Labeled(files[:4]))
    assert list(listing.rows.labels) == [("sky",), (), ("7",), ("green",)]
    assert list(listing.paths) == ["Labeled#0", "Labeled#1", "Labeled#2", "Labeled#3"]


def test_subsets_of_a_data_set_keep_files_and_class_names(files, folder):
    whole = ImageFolder(folder)
    inner = Subset(Subset(whole, [5, 0, 7]), [2, 0])
    listing = list_images(inner)
    assert list(listing.paths) == [files[7][0], files[5][0]]
    assert list(listing.rows.labels) == [(files[7][1],), (files[5][1],)]
    assert [listing.read(row) for row in range(2)] == [files[7][2], files[5][2]]
    assert listing.size(1) == len(files[5][2])
    listing = list_images(Subset(Pairs(files), [7, 5]))
    assert list(listing.rows.labels) == [(files[7][1],), (files[5][1],)]
    assert listing.notes == ()


def test_numbers_as_labels_are_reported(files):
    pairs = Labeled(files[:2])
    pairs.targets, pairs.classes = [0, 1], ()
    listing = list_images(pairs)
    assert list(listing.rows.labels) == [("0",), ("1",)]
    assert listing.notes == (
        Note("hint", "labels are numbers, because Labeled has no attribute classes with their names"),
    )


def test_a_data_frame_is_read_like_a_manifest(files, folder, monkeypatch):
    paths = [files[5][0], files[0][0], files[5][0], None]
    frame = pd.DataFrame({"filename": paths, "class": ["b", "a", "c", None], "patient": [1, 2, 1, None]})
    options = ListingOptions(group_column="patient")
    listing = list_images(frame, folder, options=options)
    assert list(listing.paths) == [files[0][0], files[5][0]]
    assert list(listing.rows.labels) == [("a",), ("b", "c")]
    assert list(listing.columns["group"]) == ["2.0", "1.0"]
    assert listing.read(0) == files[0][2]
    monkeypatch.chdir(folder)
    assert list(list_images(frame).paths) == list(listing.paths)
    frame["filename"] = [str(folder / path) for path in frame["filename"][:3]] + [None]
    assert list_images(frame[["filename", "class"]]).read(1) == files[5][2]
    frame["class"] = pd.Series(["x", pd.NA, "x", pd.NA], dtype="string")
    assert list(list_images(frame, folder).rows.labels) == [(), ("x",)]
    frame.loc[1, "filename"] = "../a.png"
    with pytest.raises(ListingError, match=r"row 1 of a DataFrame must name a file below the root"):
        list_images(frame, folder)
    with pytest.raises(ListingError, match=r"a DataFrame must have a column .path. .*, got the header 'x'"):
        list_images(pd.DataFrame({"x": [1]}))


def test_items_that_are_not_pairs_are_refused(files):
    with pytest.raises(
        ImageError, match="an item of Odd must be a pair of a Pillow image and a label; create the data"
    ):
        list_images(Odd(files[:3]))
    source = Labeled(files[:4])
    source.items[1] = (1, 2, 3)
    source.items[2] = None
    listing = list_images(source)
    for row in (1, 2):
        with pytest.raises(ImageError, match="an item of Labeled must be a pair"):
            listing.read(row)
    odd = Odd(files[:4])
    odd.targets = [0] * 4
    with pytest.raises(ImageError, match="cannot be read: no row 2"):
        list_images(odd).read(2)


@pytest.mark.parametrize("kind", [np.array, pd.Series, iter, tuple])
def test_paths_may_be_in_any_array_like(folder, kind):
    paths = sorted(map(str, folder.rglob("*.png")))
    assert list(list_images(kind(paths)).paths) == paths
    assert list(list_images(folder.rglob("*.png")).paths) == list(map(str, folder.rglob("*.png")))
    with pytest.raises(ListingError, match=r"must be a path, an array .* or a data set with a length, got object"):
        list_images(object())


def test_duplicate_paths_of_a_sequence_are_one_row(folder, tmp_path):
    paths = [folder / "red/1.png", folder / "red/0.png", folder / "red/1.png"]
    assert extract(paths, tmp_path / "a.h5", SPEC).rows == 2
    with Store(tmp_path / "a.h5") as store:
        assert [Path(path).name for path in store.paths] == ["1.png", "0.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("texts.tar", r"texts\.tar in .* must contain images that Pillow opens .*, got shards without images$"),
        ("empty.tar", r"got shards without images; 'empty\.tar' damaged, or not an uncompressed tar file"),
        ("twice.parquet", "columns of twice.parquet must have different names, got 'label' more than once"),
        ("none.parquet", "none.parquet must have at least one row, got none"),
        ("text.parquet", "text.parquet is damaged or not a Parquet file"),
        ("two.parquet", "two.parquet must have one column of image bytes, or one named image among several, got a, b"),
        ("no.parquet", "no.parquet must have a column of image bytes .* paths named path or file_name, got x$"),
        ("gone.parquet", "manifest .*gone.parquet must name .* of its 1 rows names a file .*; 'a.jpg' does not exist"),
        ("out.parquet", r"row 0 of manifest .*out.parquet must name a file below the root .* got '\.\./a.jpg'"),
        ("link", r"link/a\.parquet cannot be read: .*No such file"),
        ("other", r"b.parquet must have the column image as the first file has, got note"),
        ("both", "both must contain .tar or .parquet shards, got .parquet and .tar; give a folder of one kind"),
        ("saved", "saved cannot be read as a saved data set: "),
        ("no_image", "no_image must have one column of images, or one named image among several, got none among note;"),
        ("two_images", "two_images must have one column of images, .* got a, b among a, b;"),
    ],
)
def test_a_source_without_images_is_refused_with_the_reason(files, tmp_path, name, message):
    write_tar(tmp_path / "texts.tar", [("a.txt", b"x")])
    (tmp_path / "empty.tar").write_bytes(b"no tar")
    (tmp_path / "text.parquet").write_bytes(b"no parquet")
    bytes_of = pa.array([b"x"], pa.binary())
    (tmp_path / "other").mkdir()
    for part, table in {
        "none": parquet_table([]), "two": pa.table({"a": bytes_of, "b": bytes_of}), "no": pa.table({"x": ["y"]}),
        "twice": pa.Table.from_arrays([bytes_of, *[pa.array(["x"])] * 2], names=["image", "label", "label"]),
        "gone": pa.table({"path": ["a.jpg"]}), "out": pa.table({"path": ["../a.jpg"]}),
        "other/a": parquet_table(files[:1]), "other/b": pa.table({"note": ["x"]}),
    }.items():  # fmt: skip
        pq.write_table(table, tmp_path / f"{part}.parquet")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.parquet").symlink_to("nothing")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.tar").touch()
    pq.write_table(parquet_table(files[:1]), tmp_path / "both" / "a.parquet")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    for folder, values in {"no_image": {"note": ["x"]}, "two_images": {"a": [None], "b": [None]}}.items():
        features = Features({key: Image() if len(values) > 1 else Value("string") for key in values})
        Dataset.from_dict(values, features=features).save_to_disk(tmp_path / folder)
    with pytest.raises(ListingError, match=message):
        list_images(tmp_path / name)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere", "memory://nowhere must be a folder or a file, but does not exist"),
        ("strange://x", "strange://x must be a folder, a file or a URL that fsspec supports: .*strange"),
        ("http://127.0.0.1:9/x.tar", r"http://127.0.0.1:9/x.tar (cannot be reached|must be a folder or a file)"),
    ],
)
def test_urls_that_cannot_be_reached_are_refused(url, message):
    with pytest.raises(ListingError, match=message):
        list_images(url)


def test_errors_of_a_service_become_reasons(files, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe("/b/a.png", files[0][2])
    listing = list_images("memory://b")
    memory.rm("/b/a.png")
    with pytest.raises(FileNotFoundError):
        listing.read(0)

    def broken(*args, **options):
        raise RuntimeError("no credit")

    monkeypatch.setattr(type(memory), "cat_file", broken)
    with pytest.raises(OSError, match="RuntimeError: no credit"):
        listing.read(0)
    memory.pipe("/b/rows.csv", b"path\na.png\n")
    memory.pipe("/b/a.tar", write_tar(tmp_path / "a.tar", as_samples(files[:1])).read_bytes())
    for way, source, message in (
        ("_open", "rows.csv", "manifest .*rows.csv cannot be read: RuntimeError: no credit"),
        ("_open", "a.tar", "'a.tar' damaged, .*: RuntimeError: no credit"),
        ("find", "", "memory:///b cannot be listed: RuntimeError: no credit"),
        ("isdir", "", "memory://b/ cannot be reached: RuntimeError: no credit"),
    ):
        monkeypatch.setattr(type(memory), way, broken)
        with pytest.raises(ListingError, match=message):
            list_images(f"memory://b/{source}")


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [("pyarrow", "a.parquet", "parquet"), ("datasets", "saved", "datasets"), ("fsspec", "memory://x", "remote"),
     ("s3fs", "s3://x/y", "remote")],
)  # fmt: skip
def test_a_source_without_its_package_names_the_extra(files, tmp_path, monkeypatch, module, source, extra):
    pq.write_table(parquet_table(files[:1]), tmp_path / "a.parquet")
    as_dataset(files[:1]).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, module, None)
    # fsspec caches the classes that it has imported.
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(EngineError, match=rf"needs a package: pip install 'featx\[{extra}\]'"):
        list_images(source if "://" in source else tmp_path / source)


def test_listing_images_imports_no_optional_package():
    code = "import sys, featx.images; assert not {'pyarrow', 'datasets', 'fsspec', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_row_group_is_read_up_to_its_limit(files, tmp_path, monkeypatch):
    pq.write_table(parquet_table(files), tmp_path / "a.parquet", row_group_size=2)
    most = pq.read_table(tmp_path / "a.parquet", columns=["image"]).slice(0, 2).nbytes + 100
    table = pa.table({"image": [bytes(most + 1), b"x"], "label": ["red", "red"]})
    pq.write_table(table, tmp_path / "b.parquet", compression="zstd")
    assert (tmp_path / "b.parquet").stat().st_size < most
    monkeypatch.setenv(ROW_GROUP.variable, str(most))
    listing = list_images(tmp_path / "a.parquet")
    assert listing.read(0) == files[0][2]
    listing = list_images(tmp_path / "b.parquet")
    read = pq.ParquetFile.iter_batches
    reads = []
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *a, **k: reads.append(1) or read(*a, **k))
    for row in (0, 1, 0):
        with pytest.raises(ImageError, match=f"row group 0 has more than the {most:,} bytes .* fewer rows per group"):
            listing.read(row)
    assert len(reads) == 1


def test_an_image_behind_a_url_is_read_up_to_its_limit(monkeypatch):
    system = fsspec.filesystem("memory")
    system.pipe_file("/endless/a.png", bytes(1000))
    asked = []
    plain = type(system).cat_file
    monkeypatch.setattr(
        type(system),
        "cat_file",
        lambda self, path, start=None, end=None: asked.append(end) or plain(self, path, start, end),
    )
    monkeypatch.setenv(URL_IMAGE.variable, "999")
    listing = list_images("memory://endless")
    with pytest.raises(ImageError, match="more than the 999 bytes that are read from a URL"):
        listing.read(0)
    assert asked == [1000]


@pytest.mark.parametrize(("label", "expected"), [(np.int64(2), "red"), (torch.tensor(1), "green"), (np.str_("x"), "x")])
def test_a_label_may_be_a_scalar_of_any_library(label, expected):
    assert metadata.label_names(label, Pairs.classes) == (expected,)


@pytest.mark.parametrize("label", [torch.tensor([1, 0, 1]), np.array([1.0]), {"annotation": "a"}])
def test_arrays_and_dictionaries_are_refused_as_labels(label):
    with pytest.raises(ListingError, match="must have a text, a number or a list of these as its label, got"):
        metadata.label_names(label)


def test_a_byte_order_mark_is_not_part_of_a_label(tmp_path):
    image = io.BytesIO()
    Pillow.new("RGB", (4, 4)).save(image, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, label in enumerate((b"\xef\xbb\xbfcat", b"cat")):
            for name, data in ((f"{number}.png", image.getvalue()), (f"{number}.cls", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    assert list_images(tmp_path / "a.tar").classes == ("cat",)


def test_every_container_has_a_function_that_lists_it():
    assert CONTAINER_LISTERS.keys() == set(CONTAINERS)
