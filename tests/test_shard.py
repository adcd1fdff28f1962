"""Shards of one run: any order gives the store of one process, and what is missing is said."""

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
from featx.extraction import AssemblyOptions, extract
from featx.extraction.assembly import assemble_shards
from featx.extraction.part_groups import Shard, plan_groups
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
    """The same pictures in a folder, in tar shards and in Parquet files."""
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


def shards(source, store, numbers, count=4, **options):
    return [extract(source, store, SPEC, Compute(shard=f"{number}/{count}"), **options) for number in numbers]


def test_shards_in_any_order_are_the_store_of_one_process(source, tmp_path, oxford):
    (source / "0bad.png").touch() if source.name == "photos" else None
    extract(source, tmp_path / "one.h5", SPEC)
    reports = shards(source, tmp_path / "four.h5", (3, 1, 4, 2))
    assert sum(report.rows for report in reports) == 24
    assert [report.shard for report in reports] == ["3/4", "1/4", "4/4", "2/4"]
    assert not (tmp_path / "four.h5").exists()
    report = assemble_shards(tmp_path / "four.h5")
    assert (report.rows, report.extracted) == (24, 24)
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert not (tmp_path / "four.h5.parts").exists()


def test_extracting_without_a_shard_does_the_rest_and_assembles(photos, tmp_path, oxford):
    extract(photos, tmp_path / "one.h5", SPEC)
    shards(photos, tmp_path / "four.h5", (2, 3))
    assert extract(photos, tmp_path / "four.h5", SPEC).extracted == 24
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_what_is_missing_is_said_or_left_out(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    shards(photos, store, (1, 3))
    with pytest.raises(StoreError, match=r"got 2 of 4: 12 of 24 images are missing; run .* --shard 2/4, 4/4, or give"):
        assemble_shards(store)
    assert assemble_shards(store, partial=True).rows == 12
    assert extract(photos, store, SPEC).rows == 24


def test_where_no_shard_has_any_row_there_is_nothing_partial_either(photos, tmp_path, oxford):
    """Nothing is thrown away then: neither what they are of, nor the failures that they found."""
    for path in photos.rglob("*.png"):
        path.rename(path.with_suffix(".kept"))
        path.touch()
    store = tmp_path / "four.h5"
    shards(photos, store, (1,))
    with pytest.raises(StoreError, match=r"at least one row .* no part has any yet; run .* --shard 2/4, 3/4, 4/4$"):
        assemble_shards(store, partial=True)
    shards(photos, store, (2, 3, 4))
    for path in photos.rglob("*.kept"):
        path.rename(path.with_suffix(".png"))
    shards(photos, store, (1, 3))
    assert assemble_shards(store, partial=True).rows == 12


def test_a_truncated_part_is_made_again_by_its_shard(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    extract(photos, tmp_path / "one.h5", SPEC)
    shards(photos, store, (1, 2, 3, 4))
    part = min((tmp_path / "four.h5.parts").glob("*.part.h5"))
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(StoreError, match="got 3 of 4: 4 of 24 images"):
        assemble_shards(store)
    shards(photos, store, (1, 2, 3, 4))
    assemble_shards(store)
    assert store.read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_an_image_that_changed_is_made_again_by_its_shard(photos, tmp_path, oxford):
    store = tmp_path / "four.h5"
    shards(photos, store, (1, 2, 3, 4))
    draw(0, 999).save(photos / "blue" / "1.png")
    shards(photos, store, (1, 2, 3, 4))
    assemble_shards(store)
    extract(photos, tmp_path / "one.h5", SPEC)
    with Store(tmp_path / "one.h5") as one, Store(store) as four:
        assert one.digests == four.digests
        assert np.allclose(one.read(SPEC.widths), four.read(SPEC.widths), rtol=1e-4)


def test_shards_bring_a_store_up_to_date(photos, tmp_path, oxford):
    store = tmp_path / "photos.h5"
    extract(photos, store, SPEC)
    for number in range(9):
        draw(1, 500 + number).save(photos / "green" / f"new-{number}.png")
    (photos / "red" / "0.png").unlink()
    with pytest.raises(StoreExists, match="--missing-images drop"):
        shards(photos, store, (1,))
    assert (
        sum(report.extracted for report in shards(photos, store, (2, 1), count=2, assembly=AssemblyOptions("drop")))
        == 9
    )
    report = assemble_shards(store)
    assert (report.rows, report.extracted, report.dropped) == (32, 9, 1)


def test_bad_images_are_their_shards_failures(photos, tmp_path, oxford):
    (photos / "blue" / "0.png").write_bytes(b"")
    store = tmp_path / "photos.h5"
    reports = shards(photos, store, (1, 2), count=2)
    assert [len(report.failures) for report in reports] == [1, 0]
    assert [path for path, _ in assemble_shards(store).failures] == ["blue/0.png"]


def test_shards_run_side_by_side_and_shut_others_out(photos, tmp_path, monkeypatch):
    store = tmp_path / "photos.h5"
    with PartFolder(store, shard="1/2"), PartFolder(store, shard="2/2"):
        with pytest.raises(StoreLocked, match=r"by another featx \(shard 1/2\); wait"):
            PartFolder(store, shard="1/2").__enter__()
        with pytest.raises(StoreLocked, match=r"by another featx \(shard 1/2\)"):
            PartFolder(store).__enter__()
    monkeypatch.setattr("featx.store.locking.INSTANT", 0.1)
    with PartFolder(store), pytest.raises(StoreLocked, match="by another featx; wait"):
        PartFolder(store, shard="1/2").__enter__()


def test_four_jobs_at_once(photos, tmp_path, oxford):
    extract(photos, tmp_path / "one.h5", SPEC)
    code = (
        "import sys; from featx.engines import streaming; from featx.cli.group import main\n"
        "streaming.PART_ROWS = 4; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "extract", str(photos), "-o", str(tmp_path / "four.h5"), "--size", "32"]
    jobs = [subprocess.Popen([*command, "--blocks", "1,2", "--shard", f"{n}/4"], stdout=-1) for n in range(1, 5)]
    outputs = [job.communicate()[0].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4
    assert "when all shards are: featx assemble" in outputs[0]
    assemble_shards(tmp_path / "four.h5")
    assert (tmp_path / "four.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0", "-1/4"])
def test_a_shard_must_be_one_of_its_count(text, photos, tmp_path):
    with pytest.raises(SpecError, match=rf"--shard of extract must be N/COUNT .* got '{text}'"):
        extract(photos, tmp_path / "a.h5", SPEC, Compute(shard=text))


def test_what_a_shard_cannot_do_is_refused(photos, tmp_path, oxford):
    with pytest.raises(SpecError, match=r"source of a shard must be a path or URL.* got list"):
        extract([photos / "red" / "0.png"], tmp_path / "a.h5", SPEC, Compute(shard="1/2"))
    with pytest.raises(SpecError, match="--overwrite of extract must be left out with --shard"):
        extract(photos, tmp_path / "a.h5", SPEC, Compute(shard="1/2"), overwrite=True)
    with pytest.raises(SpecError, match="precision auto is measured on one machine"):
        extract(photos, tmp_path / "a.h5", dataclasses.replace(SPEC, precision="auto"), Compute(shard="1/2"))


def test_where_there_are_no_shards_there_is_nothing_to_assemble(photos, tmp_path, oxford):
    with pytest.raises(StoreError, match="has no shards to assemble: featx extract --shard"):
        assemble_shards(tmp_path / "a.h5")
    (tmp_path / "a.h5.parts").mkdir()
    with pytest.raises(StoreError, match="has no shards to assemble: there must be parts in"):
        assemble_shards(tmp_path / "a.h5")
    shards(photos, tmp_path / "a.h5", (1,))
    (tmp_path / "a.h5.parts" / "job.json").write_text("{")
    with pytest.raises(StoreCorrupt, match=r"job\.json is damaged .* run any shard again to repair it"):
        assemble_shards(tmp_path / "a.h5")


def test_the_command_says_what_is_missing(photos, tmp_path, oxford):
    store = str(tmp_path / "a.h5")
    command = ["extract", str(photos), "-o", store, "--size", "32", "--blocks", "1", "--shard"]
    assert CliRunner().invoke(main, [*command, "1/2"]).exit_code == 0
    result = CliRunner().invoke(main, ["assemble", store])
    assert (result.exit_code, "got 1 of 2" in result.output) == (1, True)
    assert CliRunner().invoke(main, [*command, "2/2", "-q"]).output == ""
    assert json.loads(CliRunner().invoke(main, ["assemble", store, "--json"]).output)["rows"] == 24


def test_every_group_is_of_one_shard():
    groups = plan_groups(np.arange(103), 10)
    dealt = [group for number in range(1, 5) for group in Shard(number, 4).pick(groups)]
    assert sorted(itertools.chain.from_iterable(group.tolist() for group in dealt)) == list(range(103))
    assert [len(group) for group in groups] == [10] * 10 + [3]


def test_pictures_in_memory_are_no_files_to_share(tmp_path, oxford):
    pictures = [(Image.new("RGB", (40, 40)), 0)]
    with pytest.raises(SpecError, match="source of a shard"):
        extract(pictures, tmp_path / "a.h5", SPEC, Compute(shard="1/2"))


def test_an_image_that_broke_since_is_a_failure_and_no_row(photos, tmp_path, oxford):
    store = tmp_path / "s.h5"
    shards(photos, store, (1, 2), count=2)
    (photos / "red" / "0.png").write_bytes(b"broken")
    reports = shards(photos, store, (1, 2), count=2)
    assert [path for report in reports for path, _ in report.failures] == ["red/0.png"]
    report = assemble_shards(store)
    assert (report.rows, [path for path, _ in report.failures]) == (23, ["red/0.png"])
    with Store(store) as opened:
        assert "red/0.png" not in opened.paths


def test_a_failure_of_an_image_that_has_gone_is_forgotten(photos, tmp_path, oxford):
    store = tmp_path / "s.h5"
    (photos / "red" / "0.png").write_bytes(b"broken")
    shards(photos, store, (1, 2), count=2)
    (photos / "red" / "0.png").unlink()
    assert extract(photos, store, SPEC).failures == []


def test_one_that_waits_does_not_keep_shards_from_their_work(tmp_path, monkeypatch):
    monkeypatch.setattr("featx.store.locking.INSTANT", 1.0)
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


def test_shards_that_begin_at_once_have_the_calibration_of_the_first(photos, tmp_path, oxford, monkeypatch):
    store, int8 = tmp_path / "two.h5", dataclasses.replace(SPEC, precision="int8")
    extract(photos, store, int8, Compute(shard="1/2"))
    # The second has looked before the first had begun, and its own calibration is another.
    with monkeypatch.context() as patch:
        patch.setattr("featx.extraction.extraction_run._found", lambda *args, **options: None)
        patch.setattr("featx.extraction.precision.SAMPLE", 3)
        extract(photos, store, int8, Compute(shard="2/2"))
    with pytest.raises(SpecMismatch, match=r"precision is int8 in .* or remove .*two\.h5\.parts to start again"):
        extract(photos, store, SPEC, Compute(shard="2/2"))
    assert assemble_shards(store).rows == 24
    extract(photos, tmp_path / "one.h5", int8)
    assert store.read_bytes() == (tmp_path / "one.h5").read_bytes()
