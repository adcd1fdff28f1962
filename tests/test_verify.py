"""Verify distinguishes changed images, missing images and altered rows."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import fill
from PIL import Image

from featx.cli.group import main
from featx.curation.verification import verify
from featx.errors import ListingError, SpecError, SpecMismatch, StoreCorrupt, StoreError
from featx.extraction import AssemblyOptions, extract
from featx.runtime import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(1, 2), pools=("avg", "max"))
VIEWS = dataclasses.replace(SPEC, n_views=3, augment="flip,rotate=20")


@pytest.fixture(scope="module")
def made(tmp_path_factory, oxford):
    """Twelve images and their store with n_views = 3; shared by all tests, so not to be changed."""
    folder = tmp_path_factory.mktemp("verify")
    extract(fill(folder / "photos", each=4), folder / "photos.h5", VIEWS)
    return folder


@pytest.fixture
def work(made, tmp_path):
    """A copy of the images and the store that a test may change."""
    return shutil.copytree(made, tmp_path / "work")


def alter(store, name, row, value=None):
    with h5py.File(store, "r+") as file:
        file[name][row] = file[name][row] * 1.1 if value is None else value


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["verify", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_an_unchanged_store_agrees_with_its_images(made):
    report = verify(made / "photos.h5", made / "photos")
    report.check()
    assert (report.images, report.rows, report.precision) == (12, 36, "fp32")
    assert report.largest_error <= 1e-5
    assert report.reference_error <= 1e-5
    assert (report.differing, report.failed, report.changed, report.missing) == ((), (), (), ())
    assert report.made_by == report.verified_by
    assert report.other_versions == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.images = 0


def test_the_sample_depends_on_random_state(work):
    for name in ("blue", "green"):
        shutil.rmtree(work / "photos" / name)
    seen = [verify(work / "photos.h5", work / "photos", sample=6, random_state=seed) for seed in (0, 0, 1)]
    assert seen[0] == seen[1]
    assert seen[0].missing != seen[2].missing
    assert all(report.images + len(report.missing) == 6 for report in seen)


def test_the_command_prints_that_all_rows_agree(made):
    said = run(made / "photos.h5", "--root", made / "photos", "--sample", 5, "--workers", 1, "--max-pixels", 9999)
    assert f"5 images of {made / 'photos.h5'} extracted again, 15 rows: all agree" in said.stdout
    assert "fp32 allows 0.001" in said.stdout
    assert "images changed: 0, missing: 0, unreadable: 0" in said.stdout
    assert run(made / "photos.h5", "--root", made / "photos", "--sample", 1, "--quiet").output == ""


def test_changed_and_missing_images_are_distinguished(work):
    (work / "photos" / "red" / "0.png").unlink()
    shutil.copy(work / "photos" / "red" / "1.png", work / "photos" / "red" / "2.png")
    said = run(work / "photos.h5", "--root", work / "photos", "--json", code=3)
    report = json.loads(said.stdout)
    assert report["changed"] == ["red/2.png"]
    assert report["missing"] == [["red/0.png", "cannot be read: No such file or directory"]]
    assert (report["images"], report["differing"]) == (10, [])
    assert "warning: red/2.png: has changed" in said.stderr
    assert "warning: red/0.png: cannot be read" in said.stderr


@pytest.mark.parametrize("view", [0, 2])
def test_an_altered_row_is_reported(work, view):
    alter(work / "photos.h5", "features/block2_max", 3 * 5 + view)
    said = run(work / "photos.h5", "--root", work / "photos", code=1)
    assert f"block2_max of green/1.png, view {view}, differs by 0.091, but fp32 allows 0.001" in said.stderr
    assert "1 of 36 rows of" in said.stderr
    assert "The reference images agree" in said.stderr
    assert "1 differ" in said.stdout


def test_the_row_with_the_largest_error_is_reported_and_nan_is_largest(work):
    alter(work / "photos.h5", "features/block1_avg", 0)
    alter(work / "photos.h5", "features/block2_avg", 4, np.nan)
    report = verify(work / "photos.h5", work / "photos")
    assert [(row.path, row.view_index, row.feature) for row in report.differing] == [
        ("blue/1.png", 1, "block2_avg"),
        ("blue/0.png", 0, "block1_avg"),
    ]
    with pytest.raises(SpecMismatch, match=r"^2 of 36 rows of .* block2_avg of blue/1.png, view 1, differs by inf"):
        report.check()
    said = run(work / "photos.h5", "--root", work / "photos", "--json", code=1)
    assert json.loads(said.stdout)["differing"][0]["error"] is None


def test_a_machine_that_computes_other_features_is_recognized(work):
    alter(work / "photos.h5", "golden/block1_avg", 1)
    with pytest.raises(
        SpecMismatch, match=r"reference images of .* differ by 0.091 .*; 0 rows of 36 also differ. This machine"
    ):
        verify(work / "photos.h5", work / "photos").check()


def test_an_unchanged_image_that_can_no_longer_be_decoded_is_reported(made):
    report = verify(made / "photos.h5", made / "photos", sample=2, compute=Compute(max_pixels=1920 - 1))
    assert (report.images, len(report.failed), report.missing) == (0, 2, ())
    with pytest.raises(
        SpecMismatch, match=r"2 images of .* gave features when it was made but cannot be decoded here.*pixels"
    ):
        report.check()


def test_versions_that_differ_from_those_of_the_store_are_reported(work):
    with Store(work / "photos.h5") as store:
        assert {"featx", "numpy", "pillow", "python"} <= store.versions.keys()
        made = {**store.versions, "pillow": "1.0"}
    assert json.loads(CliRunner().invoke(main, ["info", str(work / "photos.h5"), "--json"]).stdout)["versions"]
    with h5py.File(work / "photos.h5", "r+") as file:
        file.attrs["versions"] = json.dumps(made)
    said = run(work / "photos.h5", "--root", work / "photos", "--sample", 1)
    assert f"versions: pillow 1.0 there, {Image.__version__} here" in said.stdout
    with h5py.File(work / "photos.h5", "r+") as file:
        del file.attrs["versions"]
    assert verify(work / "photos.h5", work / "photos", sample=1).other_versions == ()
    with h5py.File(work / "photos.h5", "r+") as file:
        file.attrs["versions"] = "[1]"
    with pytest.raises(StoreCorrupt, match="cut short or damaged"):
        Store(work / "photos.h5")


def test_a_float16_store_has_a_larger_tolerance(made, tmp_path):
    extract(made / "photos", tmp_path / "half.h5", SPEC, assembly=AssemblyOptions(dtype="float16"))
    report = verify(tmp_path / "half.h5", made / "photos")
    report.check()
    assert report.tolerance == SPEC.tolerance + 2**-11
    assert 1e-5 < report.largest_error < 2**-11


def test_images_in_shards_are_verified(made, tmp_path):
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "a.tar", "w") as tar:
        tar.add(made / "photos" / "red", "red")
    extract(tmp_path / "shards", tmp_path / "photos.h5", SPEC)
    for root in (tmp_path / "shards", tmp_path / "shards" / "a.tar"):
        report = verify(tmp_path / "photos.h5", root)
        report.check()
        assert (report.images, report.missing) == (4, ())


def test_paths_that_lead_out_of_the_root_are_not_read(work):
    shutil.copy(work / "photos" / "red" / "0.png", work / "outside.png")
    with h5py.File(work / "photos.h5", "r+") as file:
        paths = file["rows/path"][:]
        paths[:3], paths[3:6], paths[6:9] = b"../outside.png", b"/dev/zero", b"red/../../outside.png"
        file["rows/path"][:] = paths
    report = verify(work / "photos.h5", work / "photos")
    assert [reason for _, reason in report.missing] == ["leads out of the root"] * 3
    assert report.images == 9


def test_absolute_paths_below_the_root_are_verified(made, tmp_path):
    extract(sorted((made / "photos" / "red").iterdir()), tmp_path / "photos.h5", SPEC)
    assert verify(tmp_path / "photos.h5", made / "photos").images == 4


def test_invalid_arguments_are_refused(made, tmp_path):
    (tmp_path / "no.h5").write_bytes(b"no store")
    said = run(tmp_path / "no.h5", "--root", made / "photos", code=1)
    assert "is not a featx store: it is not an HDF5 file" in said.stderr
    with pytest.raises(StoreError, match="does not exist; create it with"):
        verify(tmp_path / "none.h5", made / "photos")
    with pytest.raises(ListingError, match=r"--root of verify must be the folder .* but .*red lacks all 12 images: "
                                           r"blue/0.png cannot be read: No such file"):  # fmt: skip
        verify(made / "photos.h5", made / "photos" / "red")
    with pytest.raises(SpecError, match="--sample of verify must be at least 1, got 0"):
        verify(made / "photos.h5", made / "photos", sample=0)


def test_images_with_a_damaged_digest_count_as_changed(work):
    with h5py.File(work / "photos.h5", "r+") as file:
        file["rows/digest"][:3] = b"\xff" * 64
    assert verify(work / "photos.h5", work / "photos").changed == ("blue/0.png",)


TWICE = """
import sys
from featx import ExtractSpec, Validation, extract, fit
extract(sys.argv[1], "photos.h5", ExtractSpec.from_json(sys.argv[2]))
fit("photos.h5", "photos.featx", blocks=(1, 2), validation=Validation(folds=2))
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(made, tmp_path):
    """Hash seeds, times and memory addresses must not be in a file."""
    runs = []
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", TWICE, str(made / "photos"), VIEWS.to_json()]
        environment = {**os.environ, "PYTHONHASHSEED": name}
        runs.append(subprocess.Popen(command, cwd=tmp_path / name, env=environment))
    assert [run.wait() for run in runs] == [0, 0]
    for file in ("photos.h5", "photos.featx"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
    with Store(tmp_path / "1" / "photos.h5") as store:
        assert store.n_rows == 36
