"""Exporting, merging, selecting and searching stores."""

import csv
import json
import shutil
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import draw

from featx.cli import export_features as export_command
from featx.cli import merge as merge_command
from featx.cli.group import main
from featx.curation import feature_table
from featx.curation.exporting import SUFFIXES, export_features
from featx.curation.merging import DUPLICATES, merge
from featx.curation.neighbors import nearest
from featx.curation.selection import select
from featx.errors import (
    DataError,
    EngineError,
    ListingError,
    SpecError,
    SpecMismatch,
    StoreCorrupt,
    StoreError,
    StoreExists,
)
from featx.extraction import extract
from featx.spec.extract_spec import ExtractSpec
from featx.store import schema
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(1, 3), pools=("avg", "max"))
VIEWS = ExtractSpec(size=32, blocks=(1,), n_views=2, augment="flip")


@pytest.fixture(scope="module")
def place(shared_photos, tmp_path_factory):
    """A manifest of photos with splits and weights, its store, and a multi-label store with augmented copies."""
    root = tmp_path_factory.mktemp("out")
    names = [f"{color}/{number}.png" for color in ("blue", "green", "red") for number in range(4)]
    rows = [f"{name},{name.partition('/')[0]},{'test' if name[-5] == '3' else 'train'},{number / 7}"
            for number, name in enumerate(names)]  # fmt: skip
    (root / "rows.csv").write_text("\n".join(["path,label,split,weight", *rows, "gone.png,,,"]))
    extract(root / "rows.csv", root / "photos.h5", SPEC, root=shared_photos)
    many = [f"{name},{name.partition('/')[0]}|{'odd' if number % 2 else 'even'}" for number, name in enumerate(names)]
    (root / "many.csv").write_text("\n".join(["path,label", *many[:5], "red/5.png,"]))
    extract(root / "many.csv", root / "views.h5", VIEWS, root=shared_photos)
    return root


def contents(path):
    """Return everything that a store holds: rows, and features by name."""
    with Store(path) as store:
        rows, digests = store.image_table()
        features = {name: store.read([name]) for name in store.spec.widths}
        splits = {name: list(column) for name, column in rows.columns.items()}
        return (list(rows.paths), list(rows.labels), splits, digests.tolist(), store.exif_rotated.tolist()), features


def check_same(one, other):
    assert one[0] == other[0]
    for name, values in one[1].items():
        np.testing.assert_array_equal(values, other[1][name])


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(params=["photos", "views"])
def store(place, request, monkeypatch):
    monkeypatch.setattr(feature_table, "BLOCK_BYTES", 4 * 5 * 640)  # five rows per block
    return place / f"{request.param}.h5"


def read_all(path):
    with Store(path) as opened:
        return opened.paths, opened.view_index.tolist(), opened.read(opened.spec.widths), opened.spec


def test_exported_parquet_equals_the_store(store, tmp_path):
    done = export_features(store, tmp_path / "f.parquet")
    paths, views, values, spec = read_all(store)
    found = pq.read_table(tmp_path / "f.parquet")
    assert (found["path"].to_pylist(), found["view"].to_pylist()) == (paths, views)
    wide = [np.stack(found[name].to_numpy(zero_copy_only=False)) for name in spec.widths]
    np.testing.assert_array_equal(np.hstack(wide), values)
    assert found.schema.field("block1_avg").type.list_size == 64
    assert ExtractSpec.from_json(found.schema.metadata[b"featx_spec"].decode()) == spec
    assert (done.rows, done.columns, done.bytes) == (
        len(paths),
        values.shape[1],
        (tmp_path / "f.parquet").stat().st_size,
    )
    labels = found["label"].to_pylist()
    if spec.n_views == 1:
        assert labels == [path.partition("/")[0] for path in paths]
        assert found["split"].to_pylist()[:4] == ["train", "train", "train", "test"]
        assert found["digest"].to_pylist() == [value.decode() for value in contents(store)[0][3]]
    else:
        assert labels[::2] == [
            ["blue", "even"],
            ["blue", "odd"],
            ["blue", "even"],
            ["blue", "odd"],
            ["even", "green"],
            [],
        ]


def test_exported_npy_equals_the_store_and_can_be_mapped(store, tmp_path):
    done = export_features(store, tmp_path / "f.npy")
    paths, views, values, _ = read_all(store)
    found = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)
    with (tmp_path / "f.rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], int(row["view"])) for row in rows] == list(zip(paths, views, strict=True))
    assert done.files == (str(tmp_path / "f.npy"), str(tmp_path / "f.rows.csv"))


def test_exported_csv_equals_the_store(store, tmp_path):
    export_features(store, tmp_path / "f.csv")
    paths, _, values, _ = read_all(store)
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == paths
    names = [name for name in rows[0] if name.startswith("block")]
    assert names[64] == "block1_max_0" if len(names) > 64 else names[-1] == "block1_avg_63"
    np.testing.assert_array_equal(np.array([[row[name] for name in names] for row in rows], np.float32), values)


def test_some_blocks_pools_and_rows_can_be_exported(place, tmp_path):
    done = export_features(place / "photos.h5", tmp_path / "f.npy", blocks=(3,), pools=("max",), split="test")
    assert (done.rows, done.columns) == (3, 256)
    with Store(place / "photos.h5") as opened:
        expected = opened.read(["block3_max"], np.array([3, 7, 11]))
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), expected)


def test_file_names_that_are_not_utf8_can_be_exported(photos, tmp_path):
    (photos / "red" / "0.png").rename(photos / "red" / "odd-\udcff.png")
    extract(photos / "red", tmp_path / "red.h5", SPEC)
    for name, suffix in SUFFIXES.items():
        export_features(tmp_path / "red.h5", format=name)
        assert (tmp_path / f"red{suffix}").is_file()
    assert b"\nodd-\xff.png,," in (tmp_path / "red.csv").read_bytes()
    assert r"odd-\xff.png" in pq.read_table(tmp_path / "red.parquet")["path"].to_pylist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"output": "f.xls"},
            SpecError,
            "--format of export-features must be one of parquet, npy, csv, got '.xls'",
        ),
        ({}, SpecError, "--format of export-features must be one of .*, got ''"),
        (
            {"output": "f.csv", "format": "parquet"},
            SpecError,
            r"--format of .* must be csv for a file that ends in \.csv, got parquet; .* or leave out --format",
        ),
        (
            {"output": "there.rows.csv"},
            StoreExists,
            "there.rows.csv already exists; choose another --output, or replace",
        ),
        ({"output": "there.npy"}, StoreExists, "there.rows.csv already exists"),
        ({"output": "f.csv", "blocks": (2,)}, SpecError, "blocks must be among 1, 3, which were extracted, got 2"),
        ({"output": "f.csv", "split": "x"}, DataError, "split of .* has no row with the value 'x'"),
        ({"output": "no/f.csv"}, StoreError, "f.csv cannot be written: No such file or directory"),
    ],
)
def test_an_export_that_is_impossible_is_refused(place, tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    Path("there.rows.csv").touch()
    with pytest.raises(error, match=message):
        export_features(place / "photos.h5", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["there.rows.csv"]
    export_features(place / "photos.h5", "there.npy", overwrite=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("x.parquet", {"format": "parquet"}), ("y.h5", {"format": "npy", "output": "y.h5"}),
     ("z.rows.csv", {"format": "npy", "output": "z.npy"}), ("x.h5", {"output": "link.csv"})],
)  # fmt: skip
def test_an_export_never_overwrites_its_own_store(place, tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "photos.h5", name)
    Path("link.csv").symlink_to(name)
    with pytest.raises(StoreExists, match=r"--output must not be the store that is read, got .*; choose another"):
        export_features(name, overwrite=True, **options)
    check_same(contents(name), contents(place / "photos.h5"))


@pytest.fixture
def damaged(store, tmp_path):
    """A store whose last row is damaged."""
    path = tmp_path / "damaged.h5"
    with h5py.File(store) as whole, h5py.File(path, "w") as file:
        file.attrs.update(whole.attrs)
        for name in whole:
            if name != "features":
                whole.copy(name, file)
        for name, values in whole["features"].items():
            target = file.create_dataset(f"features/{name}", values.shape, "f4", chunks=(1, values.shape[1]),
                                         fletcher32=True)  # fmt: skip
            target[:] = values[:]
        chunk = file["features/block1_avg"].id.get_chunk_info(len(values) - 1)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"x" * 8)
    return path


@pytest.mark.parametrize("format", SUFFIXES)
def test_an_export_that_fails_leaves_existing_files_unchanged(damaged, tmp_path, format):
    target = tmp_path / "f"
    for name in ("f", "f.rows.csv"):
        (tmp_path / name).write_text("before")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreCorrupt, match=r"damaged\.h5 is cut short or damaged"):
        export_features(damaged, target, format, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before
    assert [(tmp_path / name).read_text() for name in ("f", "f.rows.csv")] == ["before"] * 2


def test_a_format_whose_package_is_missing_names_the_extra(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EngineError, match=r"--format parquet of export-features needs a package: .*'featx\[parquet\]'"):
        export_features(place / "photos.h5", tmp_path / "f", "parquet")
    assert list(tmp_path.iterdir()) == []


def test_merging_complementary_selections_gives_the_store_again(place, tmp_path):
    whole = place / "photos.h5"
    done = select(whole, tmp_path / "test.h5", "split == 'test' and weight <= 1")
    assert (done.images, done.source_images) == (2, 12)
    select(whole, tmp_path / "rest.h5", "not (split == 'test' and weight <= 1)")
    merged = merge([tmp_path / "rest.h5", tmp_path / "test.h5"], tmp_path / "both.h5")
    assert (merged.images, merged.duplicates) == (12, 0)
    rows, _ = contents(tmp_path / "both.h5")
    assert rows[0][-2:] == ["blue/3.png", "green/3.png"]
    merge([whole, tmp_path / "both.h5"], tmp_path / "again.h5")
    check_same(contents(tmp_path / "again.h5"), contents(whole))
    with Store(tmp_path / "again.h5") as opened:
        assert opened.failures == [("gone.png", "does not exist")]
        with Store(whole) as old:
            assert opened.spec == old.spec
            np.testing.assert_array_equal(opened.reference_features["block3_max"], old.reference_features["block3_max"])


def test_select_keeps_augmented_copies_and_all_labels(place, tmp_path):
    select(place / "views.h5", tmp_path / "s.h5", "label == 'odd'")
    with Store(tmp_path / "s.h5") as opened:
        assert opened.paths == ["blue/1.png", "blue/1.png", "blue/3.png", "blue/3.png"]
        assert opened.classes == ["blue", "odd"]
        assert opened.view_index.tolist() == [0, 1, 0, 1]
        assert opened.multilabel_targets.all()
        values = opened.read(["block1_avg"])
    with Store(place / "views.h5") as opened:
        np.testing.assert_array_equal(values, opened.read(["block1_avg"], np.array([2, 3, 6, 7])))


def test_select_by_path_and_output(place, tmp_path):
    assert select(place / "photos.h5", tmp_path / "s.h5", path_glob="re*/[12].png").images == 2
    with pytest.raises(StoreExists, match=r"s\.h5 already exists; choose another --output, or replace it"):
        select(tmp_path / "nothing is read.h5", tmp_path / "s.h5")
    with pytest.raises(StoreExists, match=r"s\.h5 already exists"):
        merge([tmp_path / "nothing is read.h5"] * 2, tmp_path / "s.h5")
    assert select(place / "photos.h5", tmp_path / "s.h5", overwrite=True).images == 12
    shutil.copy(place / "photos.h5", tmp_path / "itself.h5")
    select(tmp_path / "itself.h5", tmp_path / "itself.h5", "label == 'red'", overwrite=True)
    assert contents(tmp_path / "itself.h5")[0][0] == [f"red/{number}.png" for number in range(4)]
    message = "but none of the 12 of .* has label == 'red' and --path-glob blue.*"
    with pytest.raises(DataError, match=message):
        select(place / "photos.h5", tmp_path / "x.h5", "label == 'red'", path_glob="blue*")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["itself.h5", "s.h5"]


@pytest.fixture
def changed(place, shared_photos, tmp_path):
    """A store in which one image has other bytes, one has another label, and one is new."""
    folder = tmp_path / "photos"
    shutil.copytree(shared_photos, folder)
    draw(0, 77).save(folder / "red" / "0.png")
    lines = (place / "rows.csv").read_text().replace("red/1.png,red", "red/1.png,pink").splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([lines[0], *lines[9:12], "red/9.png,red,train,1"]))
    extract(tmp_path / "rows.csv", tmp_path / "changed.h5", SPEC, root=folder)
    return tmp_path / "changed.h5"


def test_duplicates_that_differ_are_refused_or_chosen(place, changed, tmp_path):
    whole = place / "photos.h5"
    with pytest.raises(DataError, match=r"'red/0.png' has other bytes in .*changed.h5 than in .*photos.h5; choose"):
        merge([whole, changed], tmp_path / "m.h5")
    select(changed, tmp_path / "label.h5", "label == 'pink'")
    with pytest.raises(DataError, match=r"'red/1.png' has other labels in .*label.h5 than"):
        merge([whole, tmp_path / "label.h5"], tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()
    old, new = contents(whole), contents(changed)
    for duplicates, picture, label in (
        ("first", old[1]["block3_max"][8], "red"),
        ("last", new[1]["block3_max"][0], "pink"),
    ):
        done = merge([whole, changed], tmp_path / "m.h5", duplicates=duplicates, overwrite=True)
        assert (done.images, done.duplicates) == (13, 3)
        rows, features = contents(tmp_path / "m.h5")
        assert rows[0] == [*old[0][0], "red/9.png"]
        assert rows[1][9] == (label,)
        np.testing.assert_array_equal(features["block3_max"][8], picture)


@pytest.mark.parametrize(("duplicates", "taken"), [("error", 1), ("first", 1), ("last", 3)])
def test_the_features_of_equal_images_come_from_one_store(place, tmp_path, duplicates, taken):
    stores = [tmp_path / f"{number}.h5" for number in (1, 2, 3)]
    for number, path in enumerate(stores, 1):
        shutil.copy(place / "photos.h5", path)
        with h5py.File(path, "r+") as file:
            file["features/block3_max"][:] = number
    done = merge(stores, tmp_path / "m.h5", duplicates=duplicates)
    assert (done.images, done.duplicates) == (12, 12)
    assert (contents(tmp_path / "m.h5")[1]["block3_max"] == taken).all()


def test_the_message_names_both_stores_in_which_an_image_differs(place, changed, tmp_path):
    for name, where in (("1", "label == 'blue'"), ("2", "label == 'red'"), ("3", "label == 'green'")):
        select(place / "photos.h5", tmp_path / f"{name}.h5", where)
    stores = [tmp_path / f"{name}.h5" for name in "123"]
    with pytest.raises(DataError, match=r"'red/0.png' has other bytes in .*changed.h5 than in .*/2.h5; choose"):
        merge([*stores, changed], tmp_path / "m.h5")
    with pytest.raises(DataError, match=r"'red/0.png' has other bytes in .*/2.h5 than in .*changed.h5; choose"):
        merge([changed, *stores], tmp_path / "m.h5")
    assert merge([*stores, changed], tmp_path / "m.h5", duplicates="last").duplicates == 3
    paths, labels, *_ = contents(tmp_path / "m.h5")[0]
    assert [path for path in paths if path.startswith("red")] == [f"red/{number}.png" for number in (0, 1, 2, 3, 9)]
    assert labels[paths.index("red/1.png")] == ("pink",)


def test_failures_are_merged_except_for_images_that_another_store_has(place, tmp_path):
    stores = [tmp_path / f"{number}.h5" for number in (1, 2)]
    for path, (paths, reasons) in zip(stores, (
        (["a.png", "both.png", "red/0.png"], ["one", "one", "one"]), (["both.png", "z.png"], ["two", "two"]),
    ), strict=True):  # fmt: skip
        shutil.copy(place / "photos.h5", path)
        with h5py.File(path, "r+") as file:
            del file["failures"]
            schema.write_failures(file, list(zip(paths, reasons, strict=True)))
    merge(stores, tmp_path / "m.h5")
    with Store(tmp_path / "m.h5") as opened:
        assert opened.failures == [("a.png", "one"), ("both.png", "one"), ("z.png", "two")]


def test_a_column_that_only_one_store_has_differs(place, shared_photos, tmp_path):
    (tmp_path / "rows.csv").write_text("path,label,split_9\nblue/0.png,blue,train\n")
    extract(tmp_path / "rows.csv", tmp_path / "s.h5", SPEC, root=shared_photos)
    with pytest.raises(DataError, match=r"'blue/0.png' has other split in .*s.h5 than"):
        merge([place / "photos.h5", tmp_path / "s.h5"], tmp_path / "m.h5")
    merge([place / "photos.h5", tmp_path / "s.h5"], tmp_path / "m.h5", duplicates="first")
    assert contents(tmp_path / "m.h5")[0][2]["split_9"] == [""] * 12


def test_incompatible_stores_are_not_merged(place, tmp_path):
    with pytest.raises(SpecError, match="merge needs at least two stores, got 1"):
        merge([place / "photos.h5"], tmp_path / "m.h5")
    with pytest.raises(SpecError, match="--duplicates of merge must be one of error, first, last, got 'ask'"):
        merge([place / "photos.h5"] * 2, tmp_path / "m.h5", duplicates="ask")
    with pytest.raises(SpecMismatch, match=r"blocks is 1, 3 in .*photos\.h5 but 1 in .*views\.h5; extract one of them"):
        merge([place / "photos.h5", place / "views.h5"], tmp_path / "m.h5")
    shutil.copy(place / "photos.h5", tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5", "r+") as file:
        file["golden/block3_max"][...] *= 1.1
    with pytest.raises(
        SpecMismatch, match=r"reference images differ by 0\.1 in block3_max between .*photos\.h5 and .*other\.h5"
    ):
        merge([place / "photos.h5", tmp_path / "other.h5"], tmp_path / "m.h5")


def test_nearest_finds_the_images_with_the_largest_mean_cosines(place, shared_photos, monkeypatch):
    monkeypatch.setattr("featx.curation.neighbors.BLOCK_BYTES", 4 * 5 * 640)
    with Store(place / "photos.h5") as opened:
        features = [opened.read([name]).astype(np.float64) for name in opened.spec.widths]
    roots = [np.sqrt(values) for values in features]
    cosines = np.mean([(unit := root / np.linalg.norm(root, axis=1, keepdims=True)) @ unit.T for root in roots], axis=0)
    found = dict(
        nearest(place / "photos.h5", [shared_photos / path for path in contents(place / "photos.h5")[0][0]], top=4)
    )
    assert len(found) == 12
    paths = contents(place / "photos.h5")[0][0]
    for row, (path, matches) in enumerate(found.items()):
        expected = np.argsort(-cosines[row], kind="stable")[:4]
        assert path == str(shared_photos / paths[row])
        assert [match.path for match in matches] == [paths[other] for other in expected]
        np.testing.assert_allclose([match.similarity for match in matches], cosines[row, expected], atol=1e-5)
        assert matches[0].labels == (paths[row].partition("/")[0],)


def test_nearest_compares_plain_images_and_records_failures(place, shared_photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    shutil.copy(shared_photos / "blue" / "1.png", tmp_path / "copy.png")
    found = dict(nearest(place / "views.h5", tmp_path, top=99))
    assert found[str(tmp_path / "bad.png")] == "empty file"
    matches = found[str(tmp_path / "copy.png")]
    assert len(matches) == 6
    assert (matches[0].path, matches[0].labels) == ("blue/1.png", ("blue", "odd"))
    assert matches[0].similarity == pytest.approx(1, abs=1e-5)
    assert list(nearest(place / "views.h5", tmp_path / "bad.png")) == [(str(tmp_path / "bad.png"), "empty file")]


def test_invalid_arguments_of_nearest_are_refused(place, shared_photos, tmp_path):
    with pytest.raises(SpecError, match="--top of search must be at least 1, got 0"):
        next(nearest(place / "photos.h5", shared_photos, top=0))
    with pytest.raises(SpecError, match="pools must be among avg, max, which were extracted, got gem"):
        next(nearest(place / "photos.h5", shared_photos, pools=("gem",)))
    with pytest.raises(ListingError, match=r"none\.png must be a folder"):
        next(nearest(place / "photos.h5", tmp_path / "none.png"))


def test_the_commands_of_stores(place, shared_photos, tmp_path):
    store = place / "photos.h5"
    assert (
        f"{tmp_path}/a.h5: 4 of 12 images"
        in run("select", store, "-o", tmp_path / "a.h5", "--where", "label == 'red'").output
    )
    run("select", store, "-o", tmp_path / "b.h5", "--path-glob", "[bg]*")
    said = json.loads(run("merge", tmp_path / "b.h5", tmp_path / "a.h5", "-o", tmp_path / "m.h5", "--json").output)
    assert said == {"store": str(tmp_path / "m.h5"), "images": 12, "duplicates": 0}
    check_same(contents(tmp_path / "m.h5"), contents(store))
    assert "12 images; 4 were in several" in run("merge", store, tmp_path / "a.h5", "-o", tmp_path / "n.h5").output
    said = run(
        "export-features", store, "--format", "parquet", "-o", tmp_path / "x", "--blocks", "3", "--pools", "avg"
    ).output
    assert said.startswith(f"{tmp_path}/x: 12 rows, 256 columns, ")
    assert json.loads(run("export-features", store, "-o", tmp_path / "f.npy", "--json").output)["rows"] == 12
    said = run("search", store, shared_photos / "red" / "2.png", "--top", "2", "--max-pixels", "10000").stdout
    first, second, _ = said.splitlines()
    assert first == str(shared_photos / "red" / "2.png")
    assert second == "  1.0000  red/2.png  red"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "bad.png").write_bytes(b"")
    shutil.copy(shared_photos / "red" / "3.png", tmp_path / "new")
    result = run("search", store, tmp_path / "new", "--json", "--top", "1", code=3)
    assert "bad.png: empty file" in result.stderr
    said = json.loads(result.stdout)
    assert said["failures"] == [[str(tmp_path / "new" / "bad.png"), "empty file"]]
    assert said["matches"][str(tmp_path / "new" / "3.png")][0]["path"] == "red/3.png"
    assert len(said["matches"]) == 1
    assert "a query must consist of" in run("select", store, "-o", tmp_path / "c.h5", "--where", "1", code=1).output


def test_the_choices_of_commands_agree_with_the_functions():
    assert tuple(SUFFIXES) == export_command.FORMATS
    assert merge_command.DUPLICATES == DUPLICATES


def test_nearest_reads_images_from_a_tar_shard(place, shared_photos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("red/1.png", "blue/2.png"):
            tar.add(shared_photos / name, name)
        tar.add(place / "rows.csv", "red/bad.png")
    found = dict(nearest(place / "photos.h5", tmp_path / "a.tar", top=1))
    (one,), (other,) = (found[f"{tmp_path}/a.tar/{name}"] for name in ("red/1.png", "blue/2.png"))
    assert (one.path, other.path) == ("red/1.png", "blue/2.png")
    assert "Pillow" in found[f"{tmp_path}/a.tar/red/bad.png"]
