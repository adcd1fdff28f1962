"""``featx extract --dry-run``: what featx makes of a source, without running the network; and the contact sheet."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw
from PIL import Image

from featx.cli.group import main
from featx.images import THUMBNAIL_SIDE
from featx.images.sources.any_source import list_images
from featx.inspection.listing_sheet import LINE_HEIGHT, MAX_GROUPS, draw_listing

RED, GREEN = 0, 1


def make(root: Path, files: dict[str, int]) -> Path:
    """Write images of one color, by path."""
    for number, (name, color) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(color, number).save(path)
    return root


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """A folder with Training and Testing, each with two classes, and with two files that are skipped."""
    files = {f"{split}/{name}/{number}.png": color for split in ("Training", "Testing")
             for name, color in (("cat", RED), ("dog", GREEN)) for number in range(2)}  # fmt: skip
    root = make(tmp_path / "kaggle", files)
    (root / "Training/cat/1.heic").write_bytes(b"x")
    (root / "Training/@eaDir").mkdir()
    (root / "Training/@eaDir/SYNOPHOTO_THUMB_XL.jpg").write_bytes(b"x")
    return root


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["extract", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_a_dry_run_prints_the_summary_and_writes_nothing(kaggle, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "no weights"))
    assert run(kaggle, "--dry-run").splitlines() == [
        "8 images listed: split folders with class folders",
        "2 classes: cat (4), dog (4)",
        "2 splits: test (4), train (4)",
        "guessed: the folders Testing, Training are the splits test, train (--layout, --split-folders)",
        "1 file skipped: .heic (1)",
        "1 file or folder of a file server or operating system skipped: @eaDir (1)",
        "hint: to read .heic, install pillow-heif: pip install pillow-heif",
        "dry run: no features were extracted",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["kaggle"]


def test_a_dry_run_prints_json(kaggle):
    found = json.loads(run(kaggle, "--dry-run", "--json"))
    assert found["failures"] == []
    listing = found["listing"]
    assert (listing["images"], listing["unlabeled"], listing["failures"]) == (8, 0, 0)
    assert listing["classes"] == {"cat": 4, "dog": 4}
    assert listing["splits"] == {"test": 4, "train": 4}
    assert [(note["kind"], note["count"]) for note in listing["notes"]] == [
        ("guessed", 0), ("skipped", 1), ("skipped", 1), ("hint", 0),
    ]  # fmt: skip


def test_a_dry_run_imports_neither_an_engine_nor_the_search(kaggle):
    code = (
        "import sys; from featx.cli.group import main\n"
        f"try: main(['extract', {str(kaggle)!r}, '--dry-run'])\n"
        "except SystemExit as done: assert not done.code\n"
        "print(sorted({'torch', 'openvino', 'ncnn', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--sheet", "a.png"], []])
def test_extract_needs_an_output_or_a_dry_run(kaggle, arguments):
    message = "--sheet of extract has no effect without --dry-run" if arguments else "--output of extract is missing"
    assert message in run(kaggle, *arguments, code=2)


def test_files_that_cannot_be_listed_are_said_with_exit_code_3(kaggle):
    (kaggle / "loose.png").write_bytes(b"x")
    assert "warning: loose.png: is not in a split folder" in run(kaggle, "--dry-run", code=3)


def test_an_ambiguous_folder_is_refused_and_the_options_decide(tmp_path):
    root = make(tmp_path, {f"site{site}/{name}/1.png": 0 for site in "AB" for name in ("cat", "dog")})
    message = run(root, "--dry-run", code=1)
    assert "--layout classes" in message
    assert "--split-folders siteA=train,siteB=test" in message
    found = json.loads(run(root, "--dry-run", "--json", "--split-folders", "siteA=train,siteB=test"))["listing"]
    assert (found["classes"], found["splits"]) == ({"cat": 2, "dog": 2}, {"test": 2, "train": 2})
    found = json.loads(run(root, "--dry-run", "--json", "--layout", "classes"))["listing"]
    assert (found["classes"], found["splits"]) == ({"siteA": 2, "siteB": 2}, {})


@pytest.mark.parametrize("value", ["siteA", "siteA=", "=train", "siteA=train,"])
def test_a_wrong_split_map_is_a_usage_error(kaggle, value):
    message = run(kaggle, "--dry-run", "--split-folders", value, code=2)
    assert "--split-folders of extract must be FOLDER=SPLIT" in message


def test_the_options_can_be_set_in_a_configuration_file(tmp_path):
    root = make(tmp_path / "x", {f"site{site}/{name}/1.png": 0 for site in "AB" for name in ("cat", "dog")})
    (tmp_path / "featx.toml").write_text('[extract]\nsplit-folders = "siteA=train,siteB=test"\ndry-run = true\n')
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "featx.toml"), "extract", str(root)])
    assert result.exit_code == 0, result.output
    assert "2 splits: test (2), train (2)" in result.output


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_sheet_shows_some_images_of_each_class_and_split(kaggle, tmp_path, suffix):
    sheet = tmp_path / f"sheet{suffix}"
    printed = run(kaggle, "--dry-run", "--sheet", sheet)
    assert "the sheet shows 8 images of 4 classes and splits" in printed
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    side = THUMBNAIL_SIDE
    assert pixels.shape[1] > 2 * side
    # Each thumbnail is of one color: count the pixels that are mostly red, and mostly green.
    red, green = ((pixels[..., color] > pixels[..., 1 - color] + 40).sum() for color in (RED, GREEN))
    assert red > 2000
    assert 0.9 < red / green < 1.1


def test_a_sheet_has_captions_and_gray_places_for_damaged_images(tmp_path):
    root = make(tmp_path, {"cat/1.png": 0, "cat/2.png": 0, "dog/1.png": 1})
    (root / "dog/1.png").write_bytes(b"damaged")
    sheet = draw_listing(list_images(root))
    assert sheet.rows == (0, 1, 2)
    assert [path for path, _ in sheet.failures] == ["dog/1.png"]
    assert "warning: dog/1.png: " in run(root, "--dry-run", "--sheet", tmp_path / "s.png", code=3)
    pixels = np.asarray(sheet.image)
    captions = pixels[4 + THUMBNAIL_SIDE : 4 + THUMBNAIL_SIDE + LINE_HEIGHT, 4 : 4 + THUMBNAIL_SIDE]
    assert (captions < 100).any()


def test_a_sheet_of_many_classes_shows_some_of_them(tmp_path):
    root = make(tmp_path, {f"class{number:03d}/1.png": 0 for number in range(MAX_GROUPS + 20)})
    sheet = draw_listing(list_images(root))
    assert (sheet.groups, sheet.shown_groups, len(sheet.rows)) == (MAX_GROUPS + 20, MAX_GROUPS, MAX_GROUPS)
    assert (sheet.rows[0], sheet.rows[-1]) == (0, MAX_GROUPS + 19)


def test_a_sheet_of_unlabeled_images_and_long_names(tmp_path):
    sheet = draw_listing(list_images(make(tmp_path / "flat", {"1.png": 0, "2.png": 1})))
    assert len(sheet.rows) == 2
    long = draw_listing(list_images(make(tmp_path / "long", {f"{'ü花' * 50}/1.png": 0, "b\n/1.png": 0})))
    assert long.shown_groups == 2


@pytest.mark.parametrize("name", ["sheet.txt", "sheet"])
def test_a_sheet_needs_the_suffix_of_an_image(kaggle, tmp_path, name):
    message = run(kaggle, "--dry-run", "--sheet", tmp_path / name, code=1)
    assert "--sheet of extract must end in the suffix of an image format" in message


def test_a_dry_run_of_the_photographs_takes_under_two_seconds(flowers):
    began = time.monotonic()
    found = json.loads(run(flowers / "jpg", "--dry-run", "--json"))["listing"]
    assert time.monotonic() - began < 2
    assert (found["images"], len(found["classes"])) == (1360, 17)


@pytest.mark.slow
def test_a_dry_run_of_a_million_rows_takes_under_fifteen_seconds(tmp_path):
    make(tmp_path, {"a/0.png": 0})
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows((f"a/{number}.png", number % 500, "train" if number % 5 else "test")
                         for number in range(1_000_000))  # fmt: skip
    began = time.monotonic()
    found = json.loads(run(tmp_path / "rows.csv", "--dry-run", "--json"))["listing"]
    assert time.monotonic() - began < 15
    assert (found["images"], len(found["classes"]), len(found["splits"])) == (1_000_000, 500, 2)
