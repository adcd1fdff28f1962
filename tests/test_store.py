import contextlib
import dataclasses
import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.errors import DataError, SpecError, SpecMismatch, StoreCorrupt, StoreError, StoreLocked
from featx.files.untrusted_hdf5 import open_untrusted
from featx.spec.extract_spec import ExtractSpec
from featx.store import datasets
from featx.store.assembly import assemble
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.reader import Store, is_store
from featx.store.row_table import RowTable

pytestmark = pytest.mark.core

OLD = Path(__file__).parent / "data" / "old"
SPEC = ExtractSpec(blocks=(1, 2), pools=("avg", "max"), size=32)
REFERENCE = {name: np.full((3, width), 0.5, np.float32) for name, width in SPEC.widths.items()}


def make_part(paths, seed=0, failures=()):
    rng = np.random.default_rng(seed)
    features = {name: rng.random((len(paths), width), np.float32) for name, width in SPEC.widths.items()}
    return Part(
        list(paths),
        [hashlib.sha256(os.fsencode(path)).hexdigest() for path in paths],
        [False] * len(paths),
        features,
        list(failures),
    )


def make_table(parts, splits=None):
    paths = sorted(path for part in parts for path in part.paths)
    digest_of = {path: digest for part in parts for path, digest in zip(part.paths, part.digests, strict=True)}
    labels = np.arange(len(paths)) % 2
    failures = [failure for part in parts for failure in part.failures]
    return RowTable(paths, [digest_of[path] for path in paths], labels, ("cat", "dog"), splits or {}, failures)


@pytest.fixture
def store(tmp_path):
    """A store of two interleaved parts and one failure, and the parts it was assembled from."""
    parts = [make_part("aceg", 1), make_part("bdfh", 2, [("bad.jpg", "empty file")])]
    target = tmp_path / "rows.h5"
    with PartFolder(target) as folder:
        folder.create_run(SPEC, REFERENCE)
        for part in parts:
            folder.write(part)
        splits = {"split": ["train", "test"] * 4}
        assemble(target, make_table(parts, splits), SPEC, REFERENCE, folder.part_files())
        folder.discard()
    return target, parts


def test_a_store_has_its_rows_in_the_order_of_the_table(store):
    path, parts = store
    with Store(path) as opened:
        assert opened.paths == list("abcdefgh")
        assert opened.spec == SPEC
        expected = np.empty((8, 64), np.float32)
        expected[0::2], expected[1::2] = (part.features["block1_avg"] for part in parts)
        np.testing.assert_array_equal(opened.read(["block1_avg"]), expected)
        assert opened.failures == [("bad.jpg", "empty file")]
        assert opened.classes == ["cat", "dog"]
        np.testing.assert_array_equal(opened.reference_features["block2_max"], REFERENCE["block2_max"])
        assert opened.exif_rotated.tolist() == [False] * 8


def test_reading_some_rows_equals_indexing_all_rows(store, monkeypatch):
    path, _ = store
    monkeypatch.setattr(datasets, "BLOCK_BYTES", 4 * 64 * 3)  # three rows per block
    with Store(path) as opened:
        everything = opened.read(SPEC.widths)
        for rows in ([0], [7], [1, 2, 6], range(8), []):
            rows = np.array(rows, int)
            np.testing.assert_array_equal(opened.read(SPEC.widths, rows), everything[rows])
        columns = np.r_[SPEC.slices["block2_max"]]
        np.testing.assert_array_equal(opened.read(["block2_max"]), everything[:, columns])


def test_only_the_requested_chunks_are_read(store):
    path, _ = store
    with h5py.File(path, "r+") as file:
        offset = file["features/block1_max"].id.get_chunk_info(0).byte_offset
    damage(path, offset + 5)
    with Store(path) as opened:
        opened.read(["block1_avg", "block2_avg"])
        with pytest.raises(StoreCorrupt, match=r"rows\.h5 is cut short or damaged"):
            opened.read(["block1_max"])


def damage(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def read_everything(path):
    with Store(path) as opened:
        opened.image_table()
        return (
            opened.spec, opened.paths, opened.digests, opened.labels.tolist(), opened.classes, opened.columns,
            opened.failures, opened.exif_rotated.tolist(), opened.read(SPEC.widths).tobytes(),
            {name: values.tobytes() for name, values in opened.reference_features.items()},
        )  # fmt: skip


def test_a_flipped_byte_is_detected_or_changes_nothing(store, tmp_path):
    path, _ = store
    whole = read_everything(path)
    copy = tmp_path / "copy.h5"
    rng = random.Random(0)
    detected = 0
    for _ in range(150):
        shutil.copy(path, copy)
        damage(copy, rng.randrange(path.stat().st_size))
        try:
            assert read_everything(copy) == whole
        except (StoreError, SpecError):
            detected += 1
    assert detected > 50


def test_a_store_cut_short_is_refused(store, tmp_path):
    path, _ = store
    data = path.read_bytes()
    copy = tmp_path / "copy.h5"
    for length in (9, 100, len(data) // 2, len(data) - 1):
        copy.write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"copy\.h5 is (cut short or damaged|not a featx store)"):
            read_everything(copy)


def test_a_file_that_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"does not exist; create it with: featx extract"):
        Store(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    assert not is_store(tmp_path / "text.h5")
    with pytest.raises(StoreError, match="is not a featx store: it is not an HDF5 file"):
        Store(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(StoreError, match="is not a featx store: it has no schema attribute"):
        Store(tmp_path / "other.h5")


def test_a_later_schema_is_refused_with_the_advice_to_update(store):
    path, _ = store
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 99
    with pytest.raises(StoreError, match="has schema 99, but this featx reads at most 2; update featx"):
        Store(path)


def test_a_feature_of_the_wrong_shape_is_refused_on_opening(store):
    path, _ = store
    with h5py.File(path, "r+") as file:
        del file["features/block1_avg"]
        file["features/block1_avg"] = np.zeros((7, 64), "f4")
    with pytest.raises(StoreCorrupt, match=r"block1_avg of .* must have shape \(8, 64\), got \(7, 64\)"):
        Store(path)


def test_rows_in_split_selects_the_rows_of_a_split(store):
    path, _ = store
    with Store(path) as opened:
        assert opened.rows_in_split("train").tolist() == [0, 2, 4, 6]
        assert opened.rows_in_split(None).tolist() == list(range(8))
        with pytest.raises(DataError, match=r"has no row with the value 'val', only test, train"):
            opened.rows_in_split("val")
        with pytest.raises(DataError, match=r"the split column of .* must be one of its columns \(split\), got fold"):
            opened.rows_in_split("train", "fold")


def test_a_store_of_another_spec_is_incompatible(store):
    path, _ = store
    with Store(path) as opened:
        opened.check_compatible(SPEC.select(blocks=(2,)), "the model")
        with pytest.raises(SpecMismatch, match=r"size is 64 in the model but 32 in .*rows\.h5; extract the images"):
            opened.check_compatible(ExtractSpec(blocks=(1,), pools=("avg", "max"), size=64), "the model")
        with pytest.raises(SpecError, match="blocks must be among 1, 2"):
            opened.check_compatible(ExtractSpec(blocks=(5,), size=32), "the model")


NAMES = [
    "plain.png",
    "with space.png",
    "emoji 🌻.png",
    "new\nline.png",
    b"not-utf8-\xff.png".decode("utf-8", "surrogateescape"),
]


def test_unusual_file_names_are_stored_unchanged(tmp_path):
    part = make_part(sorted(NAMES, key=os.fsencode))
    target = tmp_path / "rows.h5"
    with PartFolder(target) as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(part)
        assemble(target, table_of(part), SPEC, REFERENCE, folder.part_files())
    with Store(target) as opened:
        assert opened.paths == part.paths


def table_of(part):
    return RowTable(part.paths, part.digests, np.full(len(part.paths), -1), (), {}, ())


def test_a_second_process_that_writes_the_same_store_is_refused(tmp_path):
    with (
        PartFolder(tmp_path / "rows.h5"),
        pytest.raises(StoreLocked, match=r"rows\.h5 is being written by another featx process; wait until it is done"),
        PartFolder(tmp_path / "rows.h5"),
    ):
        pass


def test_the_lock_of_a_killed_process_can_be_acquired(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from featx.store import PartFolder\n"
        "with PartFolder(Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "rows.h5")], check=False).returncode == 9
    with PartFolder(tmp_path / "rows.h5"):
        pass


def test_a_part_folder_without_parts_is_removed(tmp_path):
    with PartFolder(tmp_path / "rows.h5") as folder:
        pass
    assert not folder.path.exists()


def test_an_unfinished_run_of_another_spec_is_refused_or_overwritten(tmp_path):
    with PartFolder(tmp_path / "rows.h5") as folder:
        assert folder.load_run(SPEC) is None
        folder.create_run(SPEC, REFERENCE)
        folder.write(make_part("ab"))
    other = ExtractSpec(size=64)
    with PartFolder(tmp_path / "rows.h5") as folder:
        assert folder.load_run(SPEC)["block1_avg"].shape == (3, 64)
        with pytest.raises(
            SpecMismatch, match=r"blocks is 1, 2 in the unfinished run in .*; run again with the same options"
        ):
            folder.load_run(other)
        assert len(folder.part_files()) == 1
        assert folder.load_run(other, overwrite=True) is None
        assert folder.part_files() == []


def test_a_damaged_part_is_set_aside_with_a_warning(tmp_path):
    victim, other = two_parts(tmp_path / "rows.h5")
    cut = victim.read_bytes()[:-100]
    victim.write_bytes(cut)
    with PartFolder(tmp_path / "rows.h5") as folder:
        with pytest.warns(UserWarning, match=r"is damaged .*: its images are extracted again; .* kept as .*\.damaged"):
            assert folder.part_files() == [other]
        assert not victim.exists()
        kept = victim.with_name(victim.name + ".damaged")
        assert kept.read_bytes() == cut
        folder.discard()
        assert not folder.path.exists()


def two_parts(store):
    """Write the two parts of an unfinished run and return their paths."""
    with PartFolder(store) as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(make_part("ab"))
        folder.write(make_part("cd"))
        return folder.part_files()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
def test_a_part_that_cannot_be_read_at_the_moment_is_kept(tmp_path):
    part, other = two_parts(tmp_path / "rows.h5")
    part.rename(tmp_path / "away")
    part.symlink_to(part.name)
    with PartFolder(tmp_path / "rows.h5") as folder:
        with pytest.raises(StoreError, match=r"part\.h5 cannot be read \(Too many levels of .*try again"):
            folder.part_files()
        (tmp_path / "away").replace(part)
        assert folder.part_files() == [part, other]


def test_a_part_is_kept_if_reading_it_succeeds_at_the_second_attempt(tmp_path, monkeypatch):
    parts, opened = two_parts(tmp_path / "rows.h5"), []

    def once(path, *args):
        opened.append(path)
        if len(opened) == 1 and path in parts:
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_untrusted(path, *args)

    with PartFolder(tmp_path / "rows.h5") as folder:
        known = folder._identity()
        monkeypatch.setattr(folder, "_identity", lambda: known)
        monkeypatch.setattr("featx.store.part_file.open_untrusted", once)
        assert folder.part_files() == parts
    assert opened == [parts[0], *parts]


def test_each_part_is_checked_only_once(tmp_path, monkeypatch):
    parts, opened = two_parts(tmp_path / "rows.h5"), []
    monkeypatch.setattr(
        "featx.store.part_file.open_untrusted", lambda *args: opened.append(args[0]) or open_untrusted(*args)
    )
    with PartFolder(tmp_path / "rows.h5") as folder:
        assert folder.part_files() == folder.part_files() == parts
    assert sorted(opened) == parts


def test_a_shard_does_not_read_the_features_of_parts(tmp_path):
    victim, other = two_parts(tmp_path / "rows.h5")
    with h5py.File(victim) as file:
        place = file["features/block1_avg"].id.get_chunk_info(0).byte_offset
    data = bytearray(victim.read_bytes())
    data[place] ^= 1
    victim.write_bytes(data)
    with PartFolder(tmp_path / "rows.h5", shard="1/2") as folder:
        assert folder.part_files() == [victim, other]
    with PartFolder(tmp_path / "rows.h5") as folder, pytest.warns(UserWarning, match="is damaged"):
        assert folder.part_files() == [other]


def test_parts_without_a_run_file_are_ignored(tmp_path):
    """run.h5 may have been removed by another program."""
    two_parts(tmp_path / "rows.h5")
    with PartFolder(tmp_path / "rows.h5") as folder:
        (folder.path / "run.h5").unlink()
        assert folder.part_files() == []
        with pytest.warns(UserWarning, match=r"parts but no run\.h5.*: 2 parts not used, and kept as ….orphaned"):
            folder.create_run(SPEC, REFERENCE)
        assert folder.part_files() == []
        assert len(list(folder.path.glob("*.orphaned"))) == 2


@pytest.mark.parametrize("end", [lambda folder: folder.discard(),
                                 lambda folder: folder.load_run(ExtractSpec(size=64), overwrite=True)])  # fmt: skip
def test_the_run_file_is_removed_after_all_parts(end, tmp_path, monkeypatch):
    parts = two_parts(tmp_path / "rows.h5")
    unlink = Path.unlink

    def failing(path, **options):
        if path == parts[1]:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **options)

    with PartFolder(tmp_path / "rows.h5") as folder:
        monkeypatch.setattr(Path, "unlink", failing)
        with contextlib.suppress(PermissionError):
            end(folder)
        assert (folder.spec, folder.part_files()) == (SPEC, parts[1:])


def test_a_damaged_run_file_is_refused_with_advice(tmp_path):
    with PartFolder(tmp_path / "rows.h5") as folder:
        folder.create_run(SPEC, REFERENCE)
        (folder.path / "run.h5").write_bytes(b"nonsense")
        with pytest.raises(StoreCorrupt, match=r"run\.h5 is damaged .*; remove .* to start again"):
            folder.load_run(SPEC)


def test_the_same_rows_are_written_as_the_same_bytes(tmp_path):
    written = []
    for name in ("one.h5", "two.h5"):
        with PartFolder(tmp_path / name) as folder:
            folder.create_run(SPEC, REFERENCE)
            folder.write(make_part("abc", failures=[("d", "empty file")]))
            written.append([(path.name, path.read_bytes()) for path in sorted(folder.path.glob("*.h5"))])
    assert written[0] == written[1]


@pytest.mark.parametrize("sizes", [(3000,), (1000, 1000, 1000), (1, 2999), (37,) * 80 + (40,)])
@pytest.mark.parametrize("order", ["adjacent", "interleaved"])
def test_the_same_rows_give_the_same_bytes_whichever_files_they_are_in(sizes, order, tmp_path, monkeypatch):
    """As after an update, or after an image that could not be read at first. Chunks have 1,024 rows or 512."""
    monkeypatch.setattr("featx.store.row_copy.BLOCK_BYTES", 1 << 20)
    rng = np.random.default_rng(0)
    names = [f"{number:04}" for number in range(3000)]
    features = {name: rng.random((3000, width), np.float32) for name, width in SPEC.widths.items()}
    rows = np.arange(3000) if order == "adjacent" else rng.permutation(3000)

    def part_of(chosen):
        part = make_part([names[row] for row in chosen])
        part.features = {name: values[chosen] for name, values in features.items()}
        return part

    whole = part_of(np.arange(3000))
    parts = [part_of(chosen) for chosen in np.split(rows, np.cumsum(sizes)[:-1])]
    written = []
    for each in ([whole], parts):
        with PartFolder(tmp_path / "rows.h5") as folder:
            folder.create_run(SPEC, REFERENCE)
            for part in each:
                folder.write(part)
            assemble(folder.store, make_table([whole]), SPEC, REFERENCE, folder.part_files())
            folder.discard()
        written.append((tmp_path / "rows.h5").read_bytes())
    with Store(tmp_path / "rows.h5") as opened:
        np.testing.assert_array_equal(opened.read(features), np.hstack(list(features.values())))
    assert written[0] == written[1]


def test_a_full_disk_is_reported_before_writing(store, monkeypatch):
    path, parts = store
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(StoreError, match=r"needs at least 0\.\d[1-9] MB, but its disk has only 0\.00 MB free$"):
        assemble(path, make_table(parts), SPEC, REFERENCE, [path])


def test_the_error_names_the_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"rows\.h5\.parts cannot be written: Not a directory"),
        PartFolder(tmp_path / "file" / "rows.h5"),
    ):
        pass


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_store import make_part, make_table, SPEC, REFERENCE
from featx.errors import StoreError
from featx.store import PartFolder, assemble
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with PartFolder(Path(sys.argv[1])) as folder:
    folder.create_run(SPEC, REFERENCE)
    part = make_part([f"{i:03d}" for i in range(40)])
    folder.write(part)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    for task in (lambda: folder.write(make_part([f"x{i}" for i in range(40)])),
                 lambda: assemble(Path(sys.argv[1]), make_table([part]), SPEC, REFERENCE, folder.part_files())):
        try:
            task()
        except StoreError as error:
            print(error)
    print(sorted(path.name for path in Path(sys.argv[1]).parent.rglob("*.*")))
"""


def test_a_failed_write_leaves_the_finished_parts(tmp_path):
    """A file size limit makes writing a part and assembling the store fail, as a full disk does."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "rows.h5"), str(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].endswith("cannot be written: File too large")
    assert "cannot be assembled:" in lines[1]
    assert "kept" not in lines[1]
    kept = lines[2]
    assert kept.count(".part.h5") == 1
    assert ".tmp" not in kept
    assert "'rows.h5'" not in kept


def test_multilabel_rows_are_stored_as_schema_2(tmp_path):
    parts = [make_part("abcd", 1)]
    table = dataclasses.replace(make_table(parts), label_sets=[(0, 1), (1,), (), (0,)], labels=np.array([0, 1, -1, 0]))
    with PartFolder(tmp_path / "rows.h5") as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(parts[0])
        assemble(tmp_path / "rows.h5", table, SPEC, REFERENCE, folder.part_files())
    with Store(tmp_path / "rows.h5") as opened:
        np.testing.assert_array_equal(opened.multilabel_targets, np.array([[1, 1], [0, 1], [0, 0], [1, 0]], bool))
        assert opened.labels.tolist() == [0, 1, -1, 0]
    with h5py.File(tmp_path / "rows.h5") as file:
        assert file.attrs["schema"] == 2
        assert file["rows/labels_multi"].fletcher32


def test_a_store_without_multilabel_rows_is_stored_as_schema_1(store):
    with Store(store[0]) as opened:
        assert opened.multilabel_targets is None
    with h5py.File(store[0]) as file:
        assert file.attrs["schema"] == 1
        assert set(file["rows"]) == {"path", "digest", "label", "view", "turned"}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rows/label", np.array([0, 1, -1, 0, 1, 0, 2, 0], "i4"), "labels of .* must be -1 to 1, got -1 to 2"),
        ("rows/label", np.zeros(7, "i4"), r"/rows/label must have one value per row, 8, of kind i, got int32 \(7,\)"),
        ("rows/digest", np.zeros(8, "i4"), r"/rows/digest must have one value per row, 8, of kind S, got int32 \(8,\)"),
        ("splits/split", np.zeros(2, "S1"), r"/splits/split must have one value per row, 8"),
        ("failures/reason", np.zeros(3, "S1"), r"/failures/reason must have one value per row, 1"),
        ("rows/labels_multi", np.zeros((8, 3), bool), r"labels_multi of .* must be bool \(8, 2\), got bool \(8, 3\)"),
        (
            "golden/block1_avg",
            np.zeros((2, 64), "f4"),
            r"features of the reference images must be .* got .*float32 \(2, 64\)",
        ),
        ("features/block1_avg", np.zeros((8, 64), "i4"), "block1_avg must be float32 or float16 .*got int32"),
    ],
)
def test_columns_of_wrong_length_type_or_range_are_refused(store, name, values, message):
    path, _ = store
    with h5py.File(path, "r+") as file:
        file.pop(name, None)
        file[name] = values
    with pytest.raises(StoreCorrupt, match=message):
        read_everything(path)


@pytest.mark.parametrize("name", ["rows", "rows/path", "rows/digest", "failures", "failures/path"])
def test_a_malformed_part_is_set_aside_and_a_malformed_run_file_is_refused(tmp_path, name):
    with PartFolder(tmp_path / "rows.h5") as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(make_part("ab", failures=[("c", "empty file")] * 2))
        (part,) = folder.path.glob("*.part.h5")
        with h5py.File(part, "r+") as file:
            del file[name]
            file[name] = np.zeros(2, "i4")
        with pytest.warns(UserWarning, match=r"part\.h5 is damaged \(.*: its images are extracted again"):
            assert folder.part_files() == []
        with h5py.File(folder.path / "run.h5", "r+") as file:
            del file["golden"]
            file["golden"] = np.zeros(3, "i4")
        with pytest.raises(StoreCorrupt, match=r"run\.h5 is damaged \(.*; remove .* to start again"):
            folder.load_run(SPEC)


def free_space(data):
    """Position of the object at the end of the first heap that stands for its free space."""
    place = data.index(b"GCOL") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    return place


@pytest.mark.parametrize("change", [(8, 0), (8, 2**64 - 16), (8, 2**63), (0, 0x10005)])
@pytest.mark.parametrize("userblock", [0, 512])
def test_a_damaged_heap_of_attributes_on_which_hdf5_would_hang_is_refused(tmp_path, change, userblock):
    """Stores of earlier versions have attributes of variable length, which lie in such heaps."""
    path = tmp_path / "rows.h5"
    data = bytearray((OLD / "store-schema1.h5").read_bytes())
    heap, place, (at, value) = data.index(b"GCOL"), free_space(data), change
    data[place + at : place + at + 8] = value.to_bytes(8, "little")
    path.write_bytes(bytes(userblock) + data)
    with pytest.raises(StoreError, match=r"rows\.h5 is cut short or damaged \(a heap is damaged\)"):
        Store(path)
    data[heap + 8 : heap + 16] = (2**40).to_bytes(8, "little")
    path.write_bytes(bytes(userblock) + data)
    with pytest.raises(StoreError, match=r"rows\.h5 is cut short or damaged"):
        Store(path)


def test_attributes_are_written_with_a_fixed_length_so_that_a_checksum_covers_them(store):
    path, _ = store
    data = path.read_bytes()
    assert b"GCOL" not in data
    with h5py.File(path) as file:
        assert set(file.attrs) == {"schema", "spec", "featx", "versions"}
    place = data.index(b'"size": 32')
    damage(path, place + len(b'"size": '))
    with pytest.raises(StoreError, match=r"rows\.h5 is cut short or damaged"):
        Store(path)


def test_a_store_in_the_oldest_format_of_hdf5_is_refused(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w", libver="earliest") as file:
        file.attrs["schema"] = 1
    with pytest.raises(StoreError, match="it is in HDF5's oldest format"):
        Store(tmp_path / "old.h5")


FLAT = ExtractSpec(blocks=(5,), pools=("avg", "flat"), size=224)


def store_of_flat(folder, values, dtype=None):
    """Write a store of one part with the flat features ``values`` (rows, 25,088), and return the part's path."""
    part = make_part([f"{row:04}" for row in range(len(values))])
    part.features = {"block5_avg": np.random.default_rng(0).random((len(values), 512), np.float32),
                     "block5_flat": values}  # fmt: skip
    golden = {name: np.zeros((3, width), np.float32) for name, width in FLAT.widths.items()}
    with PartFolder(folder / "flat.h5") as parts:
        parts.create_run(FLAT, golden)
        parts.write(part)
        assemble(folder / "flat.h5", make_table([part]), FLAT, golden, parts.part_files(), dtype=dtype)
        return parts.part_files()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_flat_features_are_compressed_and_pooled_ones_are_not(tmp_path, dtype):
    values = np.maximum(np.random.default_rng(1).standard_normal((300, 25_088), np.float32) - 1.5, 0)
    parts = store_of_flat(tmp_path, values, dtype)
    for path, wanted in ((parts[0], "float32"), (tmp_path / "flat.h5", dtype)):
        with h5py.File(path) as file:
            flat, pooled = file["features/block5_flat"], file["features/block5_avg"]
            assert (flat.compression, flat.fletcher32, pooled.compression) == ("gzip", True, None)
            assert flat.dtype == wanted
            assert flat.id.get_storage_size() < flat.nbytes / 4
    with Store(tmp_path / "flat.h5") as opened:
        np.testing.assert_array_equal(opened.read(["block5_flat"]), values.astype(dtype))


@pytest.mark.parametrize("color", [0.0, 1.5])
def test_flat_features_of_images_of_one_color_can_be_read(tmp_path, monkeypatch, color):
    values = np.full((300, 25_088), color, np.float32)
    monkeypatch.setenv("FEATX_LIMIT_DATASET", "1000000")
    store_of_flat(tmp_path, values)
    with Store(tmp_path / "flat.h5") as opened:
        np.testing.assert_array_equal(opened.read(["block5_flat"]), values)


def test_a_row_larger_than_the_chunk_limit_is_not_compressed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        values = np.maximum(np.random.default_rng(1).standard_normal((2, 1 + (1 << 18)), np.float32) - 1.5, 0)
        datasets.write_feature_arrays(file, {"block1_flat": values[:, 1:], "block2_flat": values})
        datasets.write_feature_arrays(file, {"block3_flat": np.zeros((0, 8), np.float32)})
        assert (file["block1_flat"].compression, file["block2_flat"].compression) == ("gzip", None)
        widths = {name: file[name].shape[1] for name in ("block1_flat", "block2_flat")}
        estimate = datasets.feature_bytes(widths, 2, 4, 1 / 4)
        stored = sum(file[name].id.get_storage_size() for name in widths)
    assert estimate / 1.5 < stored < estimate
    open_untrusted(tmp_path / "x.h5", StoreError).close()


def test_assembling_opens_one_part_at_a_time(tmp_path):
    """An extraction of millions of images has more parts than a process may open."""
    resource = pytest.importorskip("resource")
    parts, target = [make_part([f"{number}.jpg"], number) for number in range(30)], tmp_path / "rows.h5"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with PartFolder(target) as folder:
        folder.create_run(SPEC, REFERENCE)
        for part in parts:
            folder.write(part)
        limit = max(int(path.name) for path in Path("/dev/fd").iterdir()) + 12
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            assemble(target, make_table(parts), SPEC, REFERENCE, folder.part_files())
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, hard)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with Store(target) as opened:
        rows = [opened.paths.index(part.paths[0]) for part in parts]
        expected = np.concatenate([part.features["block2_max"] for part in parts])
        np.testing.assert_array_equal(opened.read(["block2_max"])[rows], expected)


def test_damage_in_the_last_column_of_a_part_is_detected(tmp_path):
    with PartFolder(tmp_path / "rows.h5") as folder:
        folder.create_run(SPEC, REFERENCE)
        folder.write(make_part("ab"))
        (part,) = folder.path.glob("*.part.h5")
        with h5py.File(part) as file:
            offset = file["rows/turned"].id.get_chunk_info(0).byte_offset
        damage(part, offset)
        with pytest.warns(UserWarning, match=r"part\.h5 is damaged"):
            assert folder.part_files() == []


def test_a_store_describes_itself(store):
    path, _ = store
    with Store(path) as opened:
        text = f"""\
<Store: {path}
  images: 8 in 2 classes
  rows: 8 (n_views 1)
  features: blocks 1, 2, avg, max: 384 columns
  computed with: backbone oxford, fp32, from 32 pixels, squash>"""
        assert repr(opened) == text
    assert repr(opened) == text  # also when it is closed


def test_a_store_describes_itself_in_a_notebook(store, tmp_path):
    path, _ = store
    shutil.copy(path, tmp_path / "<b>.h5")
    with Store(tmp_path / "<b>.h5") as opened:
        page = opened._repr_html_()
    assert "&lt;b&gt;.h5</strong>" in page
    assert "8 in 2 classes" in page
    assert "<b>" not in page
