"""Shards make the same store as one process, in any order, and messages name the shards that are missing."""

import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import CLASSES, draw
from PIL import Image
from test_sources import parquet_table, write_tar

from featx.cli.group import main
from featx.engines import streaming
from featx.errors import SpecError, SpecMismatch, StoreCorrupt, StoreError, StoreExists, StoreLocked
from featx.extraction import AssemblyOptions, assemble_shards, extract
from featx.extraction.shards import Shard, split_into_parts
from featx.runtime import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_folder import PartFolder
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(1, 2))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(streaming, "PART_ROWS", 4)


@pytest.fixture(params=["folder", "tar", "parquet"])
def source(request, photos):
    """The same images in a folder, in tar shards and in Parquet files."""
    files = [(f"{name}/{n}.png", name, (photos / name / f"{n}.png").read_bytes()) for name in CLASSES for n in range(8)]
    place = photos.parent / request.param
    if request.param == "folder":
        return photos
    place.mkdir()
    for number, half in enumerate((files[:13], files[13:])):
        if request.param == "tar":
            write_tar(place / f"{number}.tar", [(path, data) for path, _, data in half])
        else:
            pq.write_table(parquet_table(half), place / f"{number}.parquet", row_group_size=3)
    return place


def run_shards(source, store, numbers, count=4, **options):
    return [extract(source, store, SPEC, Compute(shard=f"{number}/{count}"), **options) for number in numbers]


@pytest.mark.slow
def test_shards_in_any_order_make_the_store_of_one_process(source, tmp_path, oxford):
    (source / "0bad.png").touch() if source.name == "photos" else None
    extract(source, tmp_path / "one.h5", SPEC)
    reports = run_shards(source, tmp_path / "four.h5", (3, 1, 4, 2))
    assert sum(report.rows for report in reports) == 24
    assert [report.shard for report in reports] == ["3/4", "1/4", "4/4", "2/4"]
    assert not (tmp_path / "four.h5").exists()
    report = assemble_shards(tmp_path / "four.h5")
    assert (report.rows, report.extracted) == (24, 24)
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert not (tmp_path / "four.h5.parts").exists()


@pytest.mark.slow
def test_an_extraction_without_a_shard_finishes_the_run(photos, tmp_path, oxford):
    extract(photos, tmp_path / "one.h5", SPEC)
    run_shards(photos, tmp_path / "four.h5", (2, 3))
    assert extract(photos, tmp_path / "four.h5", SPEC).extracted == 24
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_missing_shards_are_named_or_left_out(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    run_shards(photos, store, (1, 3))
    with pytest.raises(
        StoreError, match=r"only 2 of 4 are done: 12 of 24 images are missing; run .* --shard 2/4, 4/4, or give"
    ):
        assemble_shards(store)
    assert assemble_shards(store, partial=True).rows == 12
    assert extract(photos, store, SPEC).rows == 24


def test_a_partial_assembly_without_any_row_is_refused_and_keeps_the_run(photos, tmp_path, oxford):
    for path in photos.rglob("*.png"):
        path.rename(path.with_suffix(".kept"))
        path.touch()
    store = tmp_path / "four.h5"
    run_shards(photos, store, (1,))
    with pytest.raises(
        StoreError, match=r"at least one row, but no shard has finished a part yet; run .* --shard 2/4, 3/4, 4/4$"
    ):
        assemble_shards(store, partial=True)
    run_shards(photos, store, (2, 3, 4))
    for path in photos.rglob("*.kept"):
        path.rename(path.with_suffix(".png"))
    run_shards(photos, store, (1, 3))
    assert assemble_shards(store, partial=True).rows == 12


@pytest.mark.slow
def test_a_truncated_part_is_computed_again_by_its_shard(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    extract(photos, tmp_path / "one.h5", SPEC)
    run_shards(photos, store, (1, 2, 3, 4))
    part = min((tmp_path / "four.h5.parts").glob("*.part.h5"))
    part.write_bytes(part.read_bytes()[:1000])
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(StoreError, match="only 3 of 4 are done: 4 of 24"),
    ):
        assemble_shards(store)
    run_shards(photos, store, (1, 2, 3, 4))
    assemble_shards(store)
    assert store.read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.slow
def test_a_changed_image_is_extracted_again_by_its_shard(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    run_shards(photos, store, (1, 2, 3, 4))
    draw(0, 999).save(photos / "blue" / "1.png")
    run_shards(photos, store, (1, 2, 3, 4))
    assemble_shards(store)
    extract(photos, tmp_path / "one.h5", SPEC)
    with Store(tmp_path / "one.h5") as one, Store(store) as four:
        assert one.digests == four.digests
        assert np.allclose(one.read(SPEC.widths), four.read(SPEC.widths), rtol=1e-4)


def test_shards_update_an_existing_store(photos, tmp_path, oxford):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    for number in range(9):
        draw(1, 500 + number).save(photos / "green" / f"new-{number}.png")
    (photos / "red" / "0.png").unlink()
    with pytest.raises(StoreExists, match="--missing-images drop"):
        run_shards(photos, store, (1,))
    assert (
        sum(report.extracted for report in run_shards(photos, store, (2, 1), count=2, assembly=AssemblyOptions("drop")))
        == 9
    )
    report = assemble_shards(store)
    assert (report.rows, report.extracted, report.dropped) == (32, 9, 1)


def test_a_bad_image_is_a_failure_of_its_shard(photos, tmp_path, oxford):
    (photos / "blue" / "0.png").write_bytes(b"")
    store = tmp_path / "photos.h5"
    reports = run_shards(photos, store, (1, 2), count=2)
    assert [len(report.failures) for report in reports] == [1, 0]
    assert [path for path, _ in assemble_shards(store).failures] == ["blue/0.png"]


def test_shards_lock_out_the_same_shard_and_plain_runs(photos, tmp_path, monkeypatch):
    store = tmp_path / "photos.h5"
    with PartFolder(store, shard="1/2"), PartFolder(store, shard="2/2"):
        with pytest.raises(StoreLocked, match=r"by another featx process \(shard 1/2\); wait"):
            PartFolder(store, shard="1/2").__enter__()
        with pytest.raises(StoreLocked, match=r"by another featx process \(shard 1/2\)"):
            PartFolder(store).__enter__()
    monkeypatch.setattr("featx.store.locking.START_TIMEOUT", 0.1)
    with PartFolder(store), pytest.raises(StoreLocked, match="by another featx process; wait"):
        PartFolder(store, shard="1/2").__enter__()


@pytest.mark.slow
def test_four_shards_run_at_the_same_time(photos, tmp_path, oxford):
    extract(photos, tmp_path / "one.h5", SPEC)
    code = (
        "import sys; from featx.engines import streaming; from featx.cli.group import main\n"
        "streaming.PART_ROWS = 4; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "extract", str(photos), "-o", str(tmp_path / "four.h5"), "--size", "32"]
    jobs = [subprocess.Popen([*command, "--blocks", "1,2", "--shard", f"{n}/4"], stdout=-1) for n in range(1, 5)]
    outputs = [job.communicate()[0].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4
    assert "when all shards are finished: featx assemble" in outputs[0]
    assemble_shards(tmp_path / "four.h5")
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0", "-1/4"])
def test_a_shard_number_is_at_most_the_count(text, photos, tmp_path):
    with pytest.raises(SpecError, match=rf"--shard of extract must be N/COUNT .* got '{text}'"):
        extract(photos, tmp_path / "a.h5", SPEC, Compute(shard=text))


def test_options_that_shards_do_not_have_are_refused(photos, tmp_path, oxford):
    with pytest.raises(SpecError, match=r"source of a shard must be a path or URL.* got list"):
        extract([photos / "red" / "0.png"], tmp_path / "a.h5", SPEC, Compute(shard="1/2"))
    with pytest.raises(SpecError, match="--overwrite of extract must be left out with --shard"):
        extract(photos, tmp_path / "a.h5", SPEC, Compute(shard="1/2"), overwrite=True)
    with pytest.raises(SpecError, match="--precision auto is measured on one machine"):
        extract(photos, tmp_path / "a.h5", dataclasses.replace(SPEC, precision="auto"), Compute(shard="1/2"))


def test_without_shards_there_is_nothing_to_assemble(photos, tmp_path, oxford):
    with pytest.raises(StoreError, match="has no shards to assemble; run featx extract --shard"):
        assemble_shards(tmp_path / "a.h5")
    (tmp_path / "a.h5.parts").mkdir()
    with pytest.raises(StoreError, match="has no shards to assemble: there must be parts in"):
        assemble_shards(tmp_path / "a.h5")
    run_shards(photos, tmp_path / "a.h5", (1,))
    (tmp_path / "a.h5.parts" / "job.json").write_text("{")
    with pytest.raises(StoreCorrupt, match=r"job\.json is damaged .* run any shard again to repair it"):
        assemble_shards(tmp_path / "a.h5")


@pytest.mark.parametrize("change", [{"source": 3}, {"shards": "4"}, {"missing_images": "ask"}, {"root": ["a"]}, None])
def test_a_job_file_with_wrong_values_is_damaged(photos, tmp_path, oxford, change):
    run_shards(photos, tmp_path / "a.h5", (1,))
    file = tmp_path / "a.h5.parts" / "job.json"
    file.write_text("[]" if change is None else json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StoreCorrupt, match=r"description of the run in .* is damaged .* run any shard again"):
        assemble_shards(tmp_path / "a.h5")


def test_the_command_says_how_many_shards_are_missing(photos, tmp_path, oxford):
    store = str(tmp_path / "a.h5")
    command = ["extract", str(photos), "-o", store, "--size", "32", "--blocks", "1", "--shard"]
    assert CliRunner().invoke(main, [*command, "1/2"]).exit_code == 0
    result = CliRunner().invoke(main, ["assemble", store])
    assert (result.exit_code, "only 1 of 2 are done" in result.output) == (1, True)
    assert CliRunner().invoke(main, [*command, "2/2", "-q"]).output == ""
    assert json.loads(CliRunner().invoke(main, ["assemble", store, "--json"]).output)["rows"] == 24


def test_every_row_is_in_one_part_of_one_shard():
    parts = split_into_parts(np.arange(103), 10)
    selected = [part for number in range(1, 5) for part in Shard(number, 4).select(parts)]
    assert sorted(itertools.chain.from_iterable(part.tolist() for part in selected)) == list(range(103))
    assert [len(part) for part in parts] == [10] * 10 + [3]


def test_images_in_memory_cannot_be_sharded(tmp_path, oxford):
    images = [(Image.new("RGB", (40, 40)), 0)]
    with pytest.raises(SpecError, match="source of a shard"):
        extract(images, tmp_path / "a.h5", SPEC, Compute(shard="1/2"))


def test_an_image_that_broke_after_its_shard_is_a_failure(photos, tmp_path, oxford):
    store = tmp_path / "s.h5"
    run_shards(photos, store, (1, 2), count=2)
    (photos / "red" / "0.png").write_bytes(b"broken")
    reports = run_shards(photos, store, (1, 2), count=2)
    assert [path for report in reports for path, _ in report.failures] == ["red/0.png"]
    report = assemble_shards(store)
    assert (report.rows, [path for path, _ in report.failures]) == (23, ["red/0.png"])
    with Store(store) as opened:
        assert "red/0.png" not in opened.paths


def test_the_failure_of_a_removed_image_is_forgotten(photos, tmp_path, oxford):
    store = tmp_path / "s.h5"
    (photos / "red" / "0.png").write_bytes(b"broken")
    run_shards(photos, store, (1, 2), count=2)
    (photos / "red" / "0.png").unlink()
    assert extract(photos, store, SPEC).failures == []


def test_a_waiting_process_does_not_block_a_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("featx.store.locking.START_TIMEOUT", 1.0)
    entered = threading.Event()

    def wait():
        with PartFolder(tmp_path / "s.h5", wait=True):
            entered.set()

    with PartFolder(tmp_path / "s.h5", shard="1/2") as folder:
        waiting = threading.Thread(target=wait)
        waiting.start()
        for _ in range(3):
            time.sleep(0.2)
            with folder.exclusive():
                assert not entered.is_set()
    waiting.join(10)
    assert entered.is_set()


def test_shards_that_start_together_use_the_calibration_of_the_first(photos, tmp_path, oxford, monkeypatch):
    store, int8 = tmp_path / "two.h5", dataclasses.replace(SPEC, precision="int8")
    extract(photos, store, int8, Compute(shard="1/2"))
    # The second shard looked for a run before the first one created it, and calibrates on other images.
    with monkeypatch.context() as patch:
        patch.setattr("featx.extraction.extraction_run._find_existing_spec", lambda *args, **options: None)
        patch.setattr("featx.extraction.precision.CALIBRATION_IMAGES", 3)
        extract(photos, store, int8, Compute(shard="2/2"))
    with pytest.raises(SpecMismatch, match=r"precision is int8 in .* or remove .*two\.h5\.parts to start again"):
        extract(photos, store, SPEC, Compute(shard="2/2"))
    assert assemble_shards(store).rows == 24
    extract(photos, tmp_path / "one.h5", int8)
    assert store.read_bytes() == (tmp_path / "one.h5").read_bytes()
