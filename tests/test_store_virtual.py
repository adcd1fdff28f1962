"""Virtual stores, stores in float16, and which chunks a reader touches."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.curation.selection import select
from featx.errors import SpecError, StoreError
from featx.extraction import AssemblyOptions, extract
from featx.inspection.summary import describe
from featx.spec.extract_spec import ExtractSpec
from featx.store.assembly import assemble
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.reader import Store
from featx.store.row_table import RowTable

SPEC = ExtractSpec(blocks=(1, 2), backbone_digest="0" * 64)
ROWS = 12
FAR = np.array([0, 5, 5999])


def features(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random((rows, width), np.float32) * 100 for name, width in SPEC.widths.items()}


def table(rows: int = ROWS) -> RowTable:
    paths, digests = [f"{row:02}.jpg" for row in range(rows)], [f"{row:064x}" for row in range(rows)]
    return RowTable(paths, digests, np.arange(rows) % 2, ["a", "b"], {}, [])


def reference() -> dict[str, np.ndarray]:
    return {name: np.zeros((3, width), np.float32) for name, width in SPEC.widths.items()}


def make(target: Path, values: dict[str, np.ndarray], **options: str | None) -> Path:
    """Write a store of two parts; three rows are of one part, the next three of the other, and so on."""
    whole = table(len(next(iter(values.values()))))
    with PartFolder(target) as folder:
        folder.create_run(SPEC, reference())
        for half in (0, 1):
            rows = [row for row in range(len(whole.paths)) if row // 3 % 2 == half]
            folder.write(Part(
                [whole.paths[row] for row in rows], [whole.digests[row] for row in rows], [False] * len(rows),
                {name: array[rows] for name, array in values.items()},
            ))  # fmt: skip
        assemble(target, whole, SPEC, reference(), folder.part_files(), scratch=folder.path, **options)
        folder.discard()
    return target


def test_a_virtual_store_reads_like_a_copy(tmp_path: Path) -> None:
    values = features()
    with Store(make(tmp_path / "v.h5", values, layout="virtual")) as store:
        assert len(store.parts) == 2
        np.testing.assert_array_equal(store.read(SPEC.widths), np.hstack(list(values.values())))
        np.testing.assert_array_equal(
            store.read(["block2_avg"], np.array([1, 7, 11])), values["block2_avg"][[1, 7, 11]]
        )
    assert not (tmp_path / "v.h5.parts").exists()
    assert (tmp_path / "v.h5").stat().st_size < 40_000


def test_a_virtual_store_can_be_moved_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = features()
    (tmp_path / "here").mkdir()
    make(tmp_path / "here" / "v.h5", values, layout="virtual")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    for path in (tmp_path / "there" / "v.h5", Path("v.h5")):
        with Store(path) as store:
            np.testing.assert_array_equal(store.read(["block1_avg"]), values["block1_avg"])


def test_a_virtual_store_without_one_of_its_parts_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "v.h5", features(), layout="virtual")
    next((tmp_path / "v.h5.rows").iterdir()).unlink()
    with pytest.raises(StoreError, match=r"which is not one; copy the folder with all its files"):
        Store(store)


def test_info_tells_that_features_are_in_part_files(tmp_path: Path) -> None:
    assert "in 2 part files" in describe(make(tmp_path / "v.h5", features(), layout="virtual"))["assembly"]
    facts = describe(make(tmp_path / "c.h5", features()))
    assert "assembly" not in facts
    assert facts["dtype"] == "float32"


def test_the_layout_of_a_store_can_be_changed(tmp_path: Path) -> None:
    values = features()
    target = make(tmp_path / "s.h5", values)
    for layout in ("virtual", "virtual", "copy"):
        assemble(target, table(), SPEC, reference(), [target], layout=layout)
        with Store(target) as store:
            assert bool(store.parts) == (layout == "virtual")
            np.testing.assert_array_equal(store.read(SPEC.widths), np.hstack(list(values.values())))
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_parts_without_rows_in_the_store_are_removed(tmp_path: Path) -> None:
    values = features()
    target = make(tmp_path / "v.h5", values, layout="virtual")
    assemble(target, table(3), SPEC, reference(), [target], layout="virtual")
    with Store(target) as store:
        assert len(store.parts) == len(list((tmp_path / "v.h5.rows").iterdir())) == 1
        np.testing.assert_array_equal(store.read(["block1_avg"]), values["block1_avg"][:3])


@pytest.mark.parametrize("keep", [Path.rename, shutil.copy], ids=["renamed", "copied"])
def test_parts_that_another_store_refers_to_are_kept(tmp_path: Path, keep: Callable[[Path, Path], object]) -> None:
    values = features()
    target = make(tmp_path / "v.h5", values, layout="virtual")
    keep(target, tmp_path / "kept.h5")
    make(target, {name: array + 1 for name, array in values.items()}, layout="copy")
    with Store(tmp_path / "kept.h5") as store:
        np.testing.assert_array_equal(store.read(["block1_avg"]), values["block1_avg"])


def test_files_that_are_not_parts_stay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "v.h5.rows").mkdir()
    (tmp_path / "v.h5.rows" / "notes.txt").write_text("mine")
    make(tmp_path / "v.h5", features(), layout="copy")
    assert (tmp_path / "v.h5.rows" / "notes.txt").read_text() == "mine"


def test_a_part_in_use_is_not_replaced_by_another_of_the_same_name(tmp_path: Path) -> None:
    target, other = make(tmp_path / "v.h5", features(), layout="virtual"), {k: v + 1 for k, v in features().items()}
    before = {path.name for path in (tmp_path / "v.h5.rows").iterdir()}
    make(target, other, layout="virtual")
    with Store(target) as store:
        np.testing.assert_array_equal(store.read(SPEC.widths), np.hstack(list(other.values())))
        assert {path.name for path in store.parts} == {f"1-{name}" for name in before}


def test_parts_are_copied_if_the_disk_has_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    values = features()
    with Store(make(tmp_path / "v.h5", values, layout="virtual")) as store:
        np.testing.assert_array_equal(store.read(["block1_avg"]), values["block1_avg"])


def test_select_copies_the_features_of_a_virtual_store(tmp_path: Path) -> None:
    values = features()
    source = make(tmp_path / "v.h5", values, layout="virtual")
    select(source, tmp_path / "a.h5", "label == 'a'")
    with Store(tmp_path / "a.h5") as store:
        assert not store.parts
        np.testing.assert_array_equal(store.read(["block1_avg"]), values["block1_avg"][::2])


def test_a_row_that_is_in_no_source_is_an_error(tmp_path: Path) -> None:
    target = make(tmp_path / "v.h5", features())
    with pytest.raises(StoreError, match=r"1 of 13 rows are in no part, the first of them '12.jpg'"):
        assemble(tmp_path / "w.h5", table(13), SPEC, reference(), [target])
    assert not (tmp_path / "w.h5").exists()


def test_a_float16_store_is_half_as_large_and_read_as_float32(tmp_path: Path) -> None:
    values = features(2000)
    whole, half = make(tmp_path / "f4.h5", values), make(tmp_path / "f2.h5", values, dtype="float16")
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    with Store(half) as store:
        read = store.read(SPEC.widths)
        assert store.dtype == "float16"
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, np.hstack(list(values.values())), rtol=2**-11, atol=2**-25)
    assemble(tmp_path / "again.h5", table(2000), SPEC, reference(), [half])
    assemble(tmp_path / "virtual.h5", table(2000), SPEC, reference(), [half], layout="virtual")
    for name in ("again.h5", "virtual.h5"):
        with Store(tmp_path / name) as store:
            assert store.dtype == ("float16" if name == "again.h5" else "float32")
            np.testing.assert_array_equal(store.read(SPEC.widths), read)


def test_a_feature_too_large_for_float16_is_an_error(tmp_path: Path) -> None:
    values = features()
    values["block2_avg"][5, 7] = 70_000
    with pytest.raises(
        StoreError,
        match=r"block2_avg has the value 70,000, and float16 holds at most 65,504; use --store-dtype float32",
    ):
        make(tmp_path / "f2.h5", values, dtype="float16")


@pytest.mark.parametrize(("options", "message"), [
    ({"layout": "link"}, "--assemble must be one of copy, virtual, got 'link'"),
    ({"dtype": "float8"}, "--store-dtype must be one of float32, float16, got 'float8'"),
    ({"layout": "virtual", "dtype": "float16"}, "--store-dtype float16 needs --assemble copy, got --assemble virtual"),
])  # fmt: skip
def test_unknown_options_of_assemble_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        assemble(tmp_path / "s.h5", table(), SPEC, reference(), [], **options)


@pytest.mark.parametrize("layout", ["copy", "virtual"])
def test_reading_a_row_reads_only_its_chunk(tmp_path: Path, layout: str) -> None:
    """All other chunks are damaged: reading one of them would fail its checksum."""
    target = make(tmp_path / "s.h5", features(6000), layout=layout)
    with Store(target) as store:
        files = store.parts or [target]
    for path in files:
        with h5py.File(path) as file:
            kept = [0, file["features/block1_avg"].id.get_num_chunks() - 1]
            places = [
                (info.byte_offset, info.size)
                for name in ("block1_avg", "block2_avg")
                for number, info in enumerate(chunks(file[f"features/{name}"]))
                if name == "block2_avg" or number not in kept
            ]
        with path.open("r+b") as raw:
            for offset, size in places:
                raw.seek(offset + size // 2)
                raw.write(b"\xa5" * 8)
    with Store(target) as store:
        assert len(places) > 3
        np.testing.assert_array_equal(store.read(["block1_avg"], FAR), features(6000)["block1_avg"][FAR])
        with pytest.raises(StoreError, match="damaged"):
            store.read(["block1_avg"], np.array([3000]))
        with pytest.raises(StoreError, match="damaged"):
            store.read(["block2_avg"], np.array([0]))


def test_an_output_name_with_a_percent_sign_is_refused_before_extracting(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--output must have no % in its name .* got p%d\.h5; choose another"):
        extract(photos, tmp_path / "p%d.h5", ExtractSpec(size=32), assembly=AssemblyOptions(assemble="virtual"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def chunks(dataset: h5py.Dataset) -> list[h5py.h5d.StoreInfo]:
    return [dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks())]


@pytest.mark.slow
def test_the_limit_of_open_files_is_raised_for_the_parts_of_a_store(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from featx.errors import StoreError
from featx.store import Part, PartFolder, Store, assemble
from test_store_virtual import SPEC, features, reference, table

target, hard = Path(sys.argv[1]), int(sys.argv[2])
whole, values = table(150), features(150)
with PartFolder(target) as folder:
    folder.create_run(SPEC, reference())
    for row in range(150):
        one = {name: array[row : row + 1] for name, array in values.items()}
        folder.write(Part([whole.paths[row]], [whole.digests[row]], [False], one))
    assemble(target, whole, SPEC, reference(), folder.part_files(), scratch=folder.path, layout="virtual")
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
with Store(target) as store:
    try:
        print(np.array_equal(store.read(SPEC.widths), np.hstack(list(values.values()))))
    except StoreError as error:
        print(error)
"""
    for hard, said in ((4096, "True"), (100, "has rows in a file that cannot be opened: ")):
        command = [sys.executable, "-c", code, str(tmp_path / f"{hard}.h5"), str(hard)]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        assert said in done.stdout, done.stdout + done.stderr
