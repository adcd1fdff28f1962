import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import draw, failing_disk, fill
from PIL import Image

from featx.engines import streaming
from featx.engines.reference_check import relative_error
from featx.errors import FeatxWarning, ImageError, ListingError, SpecError, SpecMismatch, StoreError, StoreExists
from featx.extraction import AssemblyOptions, extract
from featx.extraction.existing_features import read_finished_parts
from featx.extraction.extraction_run import _find_existing_spec
from featx.images.loading import load_images
from featx.runtime import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_folder import PartFolder
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(1, 3))


def read(path):
    with Store(path) as store:
        return store.paths, store.read(store.spec.widths)


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in {"photos", "photos.h5", "manifest.csv"})


@pytest.fixture
def store(photos, oxford):
    path = photos.parent / "photos.h5"
    extract(photos, path, SPEC)
    return path


def test_a_folder_becomes_a_store(photos, store, oxford):
    with Store(store) as opened:
        assert opened.n_rows == 24
        assert opened.paths[:9] == [*(f"blue/{n}.png" for n in range(8)), "green/0.png"]
        assert opened.classes == ["blue", "green", "red"]
        assert opened.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
        assert opened.spec.backbone_digest == oxford.digest
        blue = opened.read(["block1_avg"])[:8]
    assert not np.allclose(blue[0], blue[1])
    assert leftovers(store.parent) == []


def test_running_again_extracts_nothing(photos, store, monkeypatch):
    monkeypatch.setattr("featx.extraction.local_executor.make_engine", None)
    before, inode = store.read_bytes(), store.stat().st_ino
    assert extract(photos, store, SPEC).extracted == 0
    assert (store.read_bytes(), store.stat().st_ino) == (before, inode)  # the store is not written again
    assert leftovers(photos.parent) == []


@pytest.mark.parametrize("change", ["label", "split", "failure", "dtype"])
def test_changed_metadata_is_written_without_extracting(photos, store, tmp_path, change):
    dtype = None
    if change == "label":
        (photos / "red").rename(photos / "rot")
    elif change == "failure":
        (photos / "red" / "bad.png").write_bytes(b"")
    elif change == "dtype":
        dtype = "float16"
    else:
        rows = [f"photos/{path.relative_to(photos)},{path.parent.name},train" for path in photos.rglob("*.png")]
        (tmp_path / "manifest.csv").write_text("\n".join(["path,label,split", *rows]))
        extract(tmp_path / "manifest.csv", store, SPEC, assembly=AssemblyOptions("drop"))
        rows[0] = rows[0].replace("train", "test")
        (tmp_path / "manifest.csv").write_text("\n".join(["path,label,split", *rows]))
    source = tmp_path / "manifest.csv" if change == "split" else photos
    inode = store.stat().st_ino
    report = extract(source, store, SPEC, assembly=AssemblyOptions("drop", dtype=dtype))
    assert store.stat().st_ino != inode
    with Store(store) as opened:
        assert ("rot" in opened.classes) == (change == "label")
        assert len(opened.failures) == (change == "failure")
        assert opened.dtype == ("float16" if change == "dtype" else "float32")
        assert report.columns_changed == ("test" in opened.columns.get("split", ())) == (change == "split")


def test_only_new_and_changed_images_are_extracted(photos, store):
    paths, before = read(store)
    draw(0, 999).save(photos / "red" / "a new one.png")
    draw(0, 998).save(photos / "red" / "7.png")
    report = extract(photos, store, SPEC)
    assert (report.rows, report.extracted, report.dropped) == (25, 2, 0)
    new_paths, after = read(store)
    assert new_paths == sorted([*paths, "red/a new one.png"])
    for path, row in zip(new_paths, after, strict=True):
        same = path in paths and np.array_equal(row, before[paths.index(path)])
        assert same == (path not in {"red/a new one.png", "red/7.png"})


def test_rows_of_missing_images_are_kept_or_dropped_on_request(photos, store):
    (photos / "red" / "0.png").unlink()
    with pytest.raises(
        StoreExists, match=r"1 rows whose images are no longer .* first is 'red/0\.png'; give --missing-images drop"
    ):
        extract(photos, store, SPEC)
    assert extract(photos, store, SPEC, assembly=AssemblyOptions("keep")).rows == 24
    report = extract(photos, store, SPEC, assembly=AssemblyOptions("drop"))
    assert (report.rows, report.dropped, report.extracted) == (23, 1, 0)
    assert "red/0.png" not in read(store)[0]


def test_images_of_another_folder_can_be_added(photos, store, tmp_path):
    fill(tmp_path / "more", each=2)
    shutil.move(tmp_path / "more" / "red", tmp_path / "more" / "pink")
    (tmp_path / "more" / "green" / "1.png").write_bytes(b"")
    report = extract(tmp_path / "more", store, SPEC, assembly=AssemblyOptions("keep"))
    with Store(store) as opened:
        assert opened.classes == ["blue", "green", "pink", "red"]
        assert report.rows == opened.n_rows == 25  # green/1.png is bad now
        assert [path for path, _ in opened.failures] == ["green/1.png"]
        assert [path for path in opened.paths if path.startswith("pink")] == ["pink/0.png", "pink/1.png"]


def test_an_image_that_broke_becomes_a_failure(photos, store):
    (photos / "red" / "0.png").write_bytes(b"")
    for missing in ("keep", "drop"):
        report = extract(photos, store, SPEC, assembly=AssemblyOptions(missing))
        assert (report.rows, [path for path, _ in report.failures]) == (23, ["red/0.png"])


def test_an_image_of_a_manifest_that_was_removed_is_a_failure(photos, tmp_path):
    (tmp_path / "m.csv").write_text("path\nred/0.png\nred/1.png\n")
    assert extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC, root=photos).rows == 2
    (photos / "red" / "1.png").unlink()
    report = extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC, root=photos)
    assert (report.rows, report.failures) == (1, [("red/1.png", "does not exist")])


def test_another_spec_is_refused_without_overwrite(photos, store):
    other = ExtractSpec(size=48, blocks=(1, 3))
    with pytest.raises(SpecMismatch, match=r"size is 32 in .*photos\.h5 but 48 in this extraction; .* --overwrite"):
        extract(photos, store, other)
    extract(photos, store, other, overwrite=True)
    with Store(store) as opened:
        assert opened.spec.size == 48


def test_a_file_that_is_not_a_store_is_not_overwritten(photos, store):
    store.write_text("my notes")
    with pytest.raises(StoreError, match=r"photos\.h5 is not a featx store"):
        extract(photos, store, SPEC)
    assert store.read_text() == "my notes"


def test_bad_images_are_failures_and_are_tried_again(photos, tmp_path):
    (photos / "red" / "text.jpg").write_text("not a picture")
    (photos / "red" / "empty.png").touch()
    report = extract(photos, tmp_path / "photos.h5", SPEC)
    assert report.rows == 24
    assert [path for path, _ in report.failures] == ["red/empty.png", "red/text.jpg"]
    assert "starts with 'not a pic…'" in dict(report.failures)["red/text.jpg"]
    draw(0, 5).save(photos / "red" / "empty.png")
    report = extract(photos, tmp_path / "photos.h5", SPEC)
    assert (report.rows, report.extracted, len(report.failures)) == (25, 1, 1)


def test_strict_stops_at_the_first_bad_image_and_resumes(photos, tmp_path):
    (photos / "red" / "x.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"red/x\.png: empty file.*; without --strict it is recorded and skipped"):
        extract(photos, tmp_path / "photos.h5", SPEC, strict=True)
    assert not (tmp_path / "photos.h5").exists()
    (photos / "red" / "x.png").unlink()
    assert extract(photos, tmp_path / "photos.h5", SPEC).rows == 24


def test_a_run_that_fails_before_its_first_part_leaves_no_files(photos, tmp_path):
    (photos / "blue" / "0.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"blue/0\.png: empty file"):
        extract(photos, tmp_path / "photos.h5", SPEC, strict=True)
    assert leftovers(tmp_path) == []
    assert extract(photos, tmp_path / "photos.h5", dataclasses.replace(SPEC, size=64)).rows == 23


@pytest.mark.slow
def test_parts_of_another_spec_are_never_used(photos, tmp_path, monkeypatch):
    """Not even without the file that names their spec. Features of all image sizes have the same width."""
    output, other = tmp_path / "photos.h5", dataclasses.replace(SPEC, size=48)
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    with failing_disk(output), pytest.raises(StoreError, match="Input/output error"):
        extract(photos, output, SPEC)
    (tmp_path / "photos.h5.parts" / "run.h5").unlink()
    with pytest.warns(FeatxWarning, match=r"parts but no run\.h5, .*: 3 parts not used"):
        assert extract(photos, output, other, overwrite=True).extracted == 24
    extract(photos, tmp_path / "anew.h5", other)
    assert output.read_bytes() == (tmp_path / "anew.h5").read_bytes()


def test_strict_refuses_an_image_that_cannot_be_listed(photos, tmp_path):
    draw(0, 1).save(photos / "loose.png")
    with pytest.raises(ImageError, match=r"loose\.png: is not in a class folder, but beside them; without --str"):
        extract(photos, tmp_path / "photos.h5", SPEC, strict=True)
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_images_that_failed_before_a_stop_are_tried_again(photos, tmp_path, monkeypatch):
    """So strict refuses an image that is still bad, and the store is the same as without the stop."""
    whole, output, bad = tmp_path / "whole.h5", tmp_path / "photos.h5", photos / "blue" / "0.png"
    extract(photos, whole, SPEC)
    good = bad.read_bytes()
    bad.write_bytes(b"")
    with failing_disk(output):
        for _ in range(2):  # The image fails in both runs, and is recorded once.
            with pytest.raises(StoreError, match="Input/output error"):
                extract(photos, output, SPEC)
        with pytest.raises(ImageError, match=r"blue/0\.png: empty file"):
            extract(photos, output, SPEC, strict=True)
        with PartFolder(output) as folder:
            assert read_finished_parts(folder).failures == [("blue/0.png", "empty file")]
    bad.write_bytes(good)
    report = extract(photos, output, SPEC, strict=True)
    assert (report.rows, report.failures) == (24, [])
    np.testing.assert_allclose(read(output)[1], read(whole)[1], rtol=1e-3, atol=1e-3)
    assert read(output)[0] == read(whole)[0]


def test_without_any_readable_image_there_is_no_store(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"none of the 1 images of .* could be read; the first failure: a\.jpg: empty"):
        extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)


def test_a_run_that_could_read_no_image_can_be_repeated(photos, tmp_path):
    with pytest.raises(ImageError, match="none of the 24 images"):
        extract(photos, tmp_path / "photos.h5", SPEC, Compute(max_pixels=10))
    assert leftovers(tmp_path) == []
    assert extract(photos, tmp_path / "photos.h5", SPEC).extracted == 24


@pytest.mark.parametrize("way", ["relative", "link"])
def test_a_virtual_store_may_be_in_a_relative_or_linked_folder(photos, tmp_path, monkeypatch, way):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "there")
    output = Path("photos.h5") if way == "relative" else tmp_path / "link" / "photos.h5"
    extract(photos, output, SPEC, assembly=AssemblyOptions(assemble="virtual"))
    draw(0, 98).save(photos / "red" / "more.png")
    assert extract(photos, output, SPEC).extracted == 1
    with Store(tmp_path / "there" / "photos.h5") as store:
        assert len(store.read(store.spec.widths)) == 25


def test_overwrite_resumes_only_a_run_of_the_same_spec(photos, tmp_path):
    asked = dataclasses.replace(SPEC, precision="int8")
    begun = dataclasses.replace(SPEC, backbone_digest="0" * 64, precision="int8", calibration=(150.0,) * 13)
    with PartFolder(tmp_path / "photos.h5") as folder:
        folder.create_run(begun, {name: np.zeros((3, width), np.float32) for name, width in begun.widths.items()})
        same = dataclasses.replace(asked, backbone_digest="0" * 64)
        assert _find_existing_spec(folder, tmp_path / "photos.h5", same, overwrite=True) == begun
        for change in ({"size": 64}, {"backbone_digest": "1" * 64}, {"preprocessing": "imagenet1k_v1"}):
            other = dataclasses.replace(same, **change)
            assert _find_existing_spec(folder, tmp_path / "photos.h5", other, overwrite=True) is None
            # Without overwrite the existing run counts, and a difference is an error.
            assert _find_existing_spec(folder, tmp_path / "photos.h5", other, overwrite=False) == begun


def test_a_finished_run_does_not_remove_the_folder_of_the_next_one(tmp_path):
    first, second = PartFolder(tmp_path / "photos.h5"), PartFolder(tmp_path / "photos.h5")
    with first:
        first.discard()
        second.__enter__()
    assert second.path.is_dir()
    second.__exit__(None, None, None)
    assert not second.path.exists()


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ListingError, match=r"must contain images that Pillow opens .* got no image"):
        extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)
    assert leftovers(tmp_path) == []


def test_missing_images_must_be_one_of_its_choices(photos, tmp_path):
    with pytest.raises(
        SpecError, match="missing_images of AssemblyOptions must be one of error, drop, keep, got 'ask'"
    ):
        extract(photos, tmp_path / "photos.h5", SPEC, assembly=AssemblyOptions("ask"))


def test_equal_files_in_different_classes_are_conflicts(photos, tmp_path):
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "copy.png")
    shutil.copy(photos / "red" / "1.png", photos / "red" / "copy.png")
    report = extract(photos, tmp_path / "photos.h5", SPEC)
    assert report.conflicts == [("blue/copy.png", "red/0.png")]


def test_an_image_without_a_class_conflicts_with_no_other(photos, tmp_path):
    (photos / "train").mkdir()
    for name in ("red", "green", "blue"):
        (photos / name).rename(photos / "train" / name)
    (photos / "test").mkdir()
    shutil.copy(photos / "train" / "blue" / "0.png", photos / "test" / "1.png")
    report = extract(photos, tmp_path / "photos.h5", SPEC)
    assert (report.rows, report.conflicts) == (25, [])


def test_exif_orientation_is_applied_and_counted(photos, tmp_path):
    upright = draw(0, 1, (64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(photos / "red" / "turned.png", exif=exif)
    upright.save(photos / "red" / "upright.png")
    assert extract(photos, tmp_path / "photos.h5", SPEC).exif_rotated == 1
    paths, features = read(tmp_path / "photos.h5")
    turned, upright = (features[paths.index(f"red/{name}.png")] for name in ("turned", "upright"))
    np.testing.assert_array_equal(turned, upright)


def test_labels_and_splits_come_from_a_manifest(photos, tmp_path):
    lines = [
        "path,label,split,split_0",
        *(f"red/{n}.png,warm,train,test" for n in range(3)),
        "blue/0.png,cold,test,train",
    ]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(lines))
    extract(manifest, tmp_path / "photos.h5", SPEC, root=photos)
    with Store(tmp_path / "photos.h5") as store:
        assert store.paths == ["blue/0.png", "red/0.png", "red/1.png", "red/2.png"]
        assert store.classes == ["cold", "warm"]
        assert store.columns == {
            "split": ["test", "train", "train", "train"],
            "split_0": ["train", "test", "test", "test"],
        }
    manifest.write_text("\n".join(lines).replace("warm", "hot"))
    assert extract(manifest, tmp_path / "photos.h5", SPEC, root=photos).extracted == 0
    with Store(tmp_path / "photos.h5") as store:
        assert store.classes == ["cold", "hot"]


def test_workers_and_batch_size_do_not_change_features(photos, store, tmp_path):
    extract(photos, tmp_path / "other.h5", SPEC, Compute(workers=5, batch_size=3))
    (paths, one), (other_paths, other) = read(store), read(tmp_path / "other.h5")
    assert paths == other_paths
    assert relative_error(other, one) < SPEC.tolerance / 10
    extract(photos, tmp_path / "same.h5", SPEC, Compute(workers=1))
    np.testing.assert_array_equal(read(tmp_path / "same.h5")[1], one)


def test_a_store_of_a_machine_that_computes_other_features_is_refused(photos, store):
    with h5py.File(store, "r+") as file:
        file["golden/block3_avg"][...] *= 1.1
    draw(0, 999).save(photos / "red" / "new.png")
    with pytest.raises(
        SpecMismatch, match=r"block3_avg of the reference images differs by .* from that in .*photos\.h5"
    ):
        extract(photos, store, SPEC)


def test_reference_features_of_an_unfinished_run_are_checked(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, tmp_path / "photos.h5", SPEC)
    monkeypatch.undo()
    with h5py.File(tmp_path / "photos.h5.parts" / "run.h5", "r+") as file:
        file["golden/block1_avg"][...] *= 1.1
    with pytest.raises(
        SpecMismatch, match=r"differs by .* from that in .*photos\.h5\.parts.*; remove .*photos\.h5\.parts to "
    ):
        extract(photos, tmp_path / "photos.h5", SPEC)


def stop_after(parts, monkeypatch):
    """Interrupt the run when it wants to write one more part."""
    written = []
    write = PartFolder.write

    def writing(folder, part):
        if len(written) == parts:
            raise KeyboardInterrupt
        written.append(part)
        write(folder, part)

    monkeypatch.setattr(PartFolder, "write", writing)


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_stopped_run_resumes_from_its_parts(photos, tmp_path, monkeypatch, parts):
    (photos / "blue" / "bad.png").write_bytes(b"")
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    extract(photos, tmp_path / "whole.h5", SPEC)
    stop_after(parts, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, tmp_path / "photos.h5", SPEC)
    assert len(list((tmp_path / "photos.h5.parts").glob("*.part.h5"))) == parts
    monkeypatch.undo()
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    counted = []
    monkeypatch.setattr(
        streaming,
        "load_images",
        lambda listing, rows, *args: load_images(listing, (counted.append(row) or row for row in rows), *args),
    )
    extract(photos, tmp_path / "photos.h5", SPEC)
    # Row 8 failed in the second part, and is tried again.
    assert sorted(counted) == sorted([*range(8 * parts, 25), *[8] * (parts > 1)])
    assert (tmp_path / "photos.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


SLOW = """
import sys, time
from featx.engines import streaming
from featx.engines.batching import BatchedEngine
from featx.extraction import extract
from featx.spec import ExtractSpec
streaming.PART_ROWS = int(sys.argv[4])
compute = BatchedEngine.__call__
def slowly(engine, images):
    time.sleep(0.1)
    return compute(engine, images)
BatchedEngine.__call__ = slowly
print("ready", flush=True)
extract(sys.argv[1], sys.argv[2], ExtractSpec.from_json(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "rows"),
    [(SPEC, 2), (dataclasses.replace(SPEC, n_views=3, augment="flip,rotate=20"), 6)],
    ids=["plain", "with views"],
)
def test_a_killed_run_loses_at_most_one_part(photos, tmp_path, monkeypatch, spec, rows):
    monkeypatch.setattr(streaming, "PART_ROWS", rows)
    extract(photos, tmp_path / "whole.h5", spec)
    target = tmp_path / "killed.h5"
    command = [sys.executable, "-c", SLOW, str(photos), str(target), spec.to_json(), str(rows)]
    rng = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0.5, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    extract(photos, target, spec)
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not (tmp_path / "killed.h5.parts").exists()


def test_file_names_may_have_any_characters(tmp_path):
    names = ["with space.png", "emoji 🌻.png", "new\nline.png", os.fsdecode(b"not-utf8-\xff.png")]
    for folder in ("a class", os.fsdecode(b"\xe4-class")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            draw(0, number).save(tmp_path / "photos" / folder / "plain.png")
            (tmp_path / "photos" / folder / "plain.png").rename(tmp_path / "photos" / folder / name)
    extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)
    with Store(tmp_path / "photos.h5") as store:
        assert {Path(path).name for path in store.paths} == set(names)
        assert store.classes == ["a class", os.fsdecode(b"\xe4-class")]


FULL = """
import resource, signal, sys
from featx.cli.group import main
from featx.engines import streaming
streaming.PART_ROWS = 8
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(["extract", sys.argv[2], "-o", sys.argv[3], "--size", "32", "--blocks", "1,3"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "message"), [(12_000, "cannot be written"), (30_000, "cannot be assembled")])
def test_a_run_resumes_after_the_disk_was_full(photos, tmp_path, monkeypatch, limit, message):
    """The first limit on file sizes is below the size of a part, the second one below that of the store."""
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    extract(photos, tmp_path / "whole.h5", SPEC)
    target = tmp_path / "photos.h5"
    command = [sys.executable, "-c", FULL, str(limit), str(photos), str(target)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert message in run.stderr
    assert "; finished parts are kept: solve this problem and run the same command again" in run.stderr
    assert not target.exists()
    extract(photos, target, SPEC)
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not (tmp_path / "photos.h5.parts").exists()
