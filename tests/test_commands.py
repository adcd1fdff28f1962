import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import draw

from featx.backbones.poolings import POOL_NAMES
from featx.cli import extract, fit, predict
from featx.cli.group import COMMANDS, main
from featx.errors import FeatxError, FeatxWarning
from featx.extraction import MISSING_IMAGES
from featx.heads.pipeline.linear_heads import HEADS
from featx.heads.search.candidates import Candidate, select_candidate
from featx.models.model_file import load_model
from featx.version import __version__


def run(*arguments, code=0):
    """Run a command in this process and give its result; the exit code must be as expected."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def model(shared_store, tmp_path):
    path = tmp_path / "photos.featx"
    run("fit", shared_store, "-o", path, "--head", "softmax", "--blocks", "1,3", "--C", "1", "--folds", "3", "-q")
    return path


def test_the_whole_way(photos, tmp_path):
    store, saved, output = tmp_path / "p.h5", tmp_path / "p.featx", tmp_path / "p.csv"
    said = run("extract", photos, "-o", store, "--size", "32", "--blocks", "1-3").output
    assert "p.h5: 24 rows, 24 extracted in" in said
    said = run("fit", store, "-o", saved, "--test-size", "0.25", "--folds", "3").output
    assert said.startswith("head")
    assert "p.featx: " in said
    assert "3 classes, 18 of 24 rows, 25% held out" in said
    said = run("evaluate", saved, store).output
    assert "accuracy" in said
    assert run("predict", saved, photos, "-o", output).stdout == f"{output}: 24 images\n"
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "probability", "decision", "reason"]
    assert len(rows) == 24
    assert all(row["class"] == Path(row["path"]).parent.name for row in rows)


def test_json_is_one_document(photos, tmp_path, model, shared_store):
    draw(0, 777).save(photos / "red" / "new.png")  # the only one that the model was not fitted on
    report = json.loads(
        run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", "--pools", "avg,max", "--json").stdout
    )
    assert report["rows"] == 25
    fitted = json.loads(run("fit", shared_store, "-o", tmp_path / "m.featx", "--folds", "3", "--json").stdout)
    assert fitted["head"] in {"linear-svc", "softmax", "ovr-logistic"}
    facts = json.loads(run("info", shared_store, "--json").stdout)
    assert facts["classes"] == {"blue": 12, "green": 12, "red": 12}
    assert facts["spec"]["size"] == 32
    assert json.loads(run("info", model, "--json").stdout)["kind"] == "model"
    assert json.loads(run("evaluate", model, tmp_path / "p.h5", "--json").stdout)["accuracy"] == 1.0


def test_what_fit_says_is_the_model_that_it_saved(shared_store, tmp_path):
    said = run("fit", shared_store, "-o", tmp_path / "m.featx", "--folds", "3").output.splitlines()
    model = load_model(tmp_path / "m.featx")
    best = model.info["search"]["best"]
    assert said[1].split()[:3] == [model.head, best["feature_set"], f"{best['C']:g}"]
    assert sorted(line.split()[0] for line in said[1:4]) == sorted(HEADS)
    assert said[-1].endswith(f"m.featx: {model.head}, block 1, C = {best['C']:g}, 3 classes, 36 rows")


def test_of_equal_scores_fit_shows_the_one_that_it_chose():
    def row(head, rank, blocks, mean):
        return Candidate(head, 10.0**rank, rank, blocks, 64, mean, 0.01, (mean,), 0.0, 0.0, 0.0)

    rows = [row("softmax", 2, "1", 0.9), row("linear-svc", 2, "1", 0.9), row("linear-svc", 0, "2", 0.9)]
    rows += [row("ovr-logistic", 0, "1", 0.7), row("ovr-logistic", 1, "2", 0.8)]
    values = [dataclasses.asdict(item) for item in rows]
    best = values[rows.index(select_candidate(rows, "best"))]
    said = fit._summary({"rows": values, "best": best, "rule": "best", "scoring": "accuracy"})
    assert [line.split()[:3] for line in said.splitlines()[1:]] == [
        ["linear-svc", "2", "1"], ["softmax", "1", "100"], ["ovr-logistic", "2", "10"]
    ]  # fmt: skip


def test_fit_says_which_rows_it_was_given(photos, tmp_path):
    rows = [f"red/{n}.png,red,{'test' if n < 2 else 'train'}" for n in range(8)]
    rows += [f"blue/{n}.png,blue,{'test' if n < 2 else 'train'}" for n in range(8)]
    (photos / "rows.csv").write_text("\n".join(["path,label,split", *rows]))
    run("extract", photos / "rows.csv", "-o", tmp_path / "p.h5", "--size", "32", "--blocks", "1-2")
    options = ("--head", "linear-svc", "--C", "1", "--blocks", "1-2", "--folds", "2", "--calibrate")
    said = run("fit", tmp_path / "p.h5", "-o", tmp_path / "m.featx", *options).output
    assert "linear-svc, blocks 1-2, C = 1, 2 classes, 12 of 16 rows, split: train, calibrated\n" in said


def test_an_estimate_that_is_not_flattered(shared_store, tmp_path):
    options = ("--head", "softmax", "--blocks", "1", "--C", "1", "--folds", "3")
    said = run("fit", shared_store, "-o", tmp_path / "m.featx", *options, "--nested").output
    assert "nested cross-validation, an estimate for new images: 1.000 ± 0.000\n" in said


def test_info_in_words(shared_store, model):
    said = run("info", shared_store).output
    assert "rows: 36" in said
    assert "failures: none" in said
    assert "  blue: 12" in said


@pytest.mark.slow
def test_info_of_a_model_can_be_read(shared_store, tmp_path):
    path = tmp_path / "m.featx"
    run("fit", shared_store, "-o", path, "--folds", "3", "--head", "linear-svc", "--calibrate", "--nested", "-q")
    said = run("info", path).output
    assert len(said.splitlines()) < 25
    assert max(map(len, said.splitlines())) <= 100
    facts = json.loads(run("info", path, "--json").stdout)
    for line in (
        "head: linear-svc",
        "classes: blue, green, red",
        "blocks: 1",
        "features: block1_avg (64), block1_max (64)",
        "fitted on: 36 rows",
        f"chosen: best of {len(facts['search']['rows'])} candidates by 3 folds",
        "cross-validated accuracy: 1.0000 ± 0.0000 (standard error)",
        "nested cross-validation: 1.0000 ± 0.0000 (standard error)",
        "  method: temperature",
    ):
        assert line in said.splitlines()
    assert f"C: {facts['C']}" in said
    assert facts["spec"]["backbone_digest"]


def test_one_is_not_many(model, shared_store, tmp_path):
    assert "chosen: best of 1 candidate by 3 folds" in run("info", model).output
    one = ("--path-glob", "red/1.png")
    assert run("select", shared_store, "-o", tmp_path / "one.h5", *one).output.endswith("one.h5: 1 of 36 images\n")
    assert run("select", tmp_path / "one.h5", "-o", tmp_path / "same.h5").output.endswith("same.h5: 1 of 1 image\n")
    said = run("merge", tmp_path / "one.h5", tmp_path / "same.h5", "-o", tmp_path / "both.h5").output
    assert said.endswith("both.h5: 1 image; 1 were in several stores\n")
    assert ".csv: 1 row, 2,944 columns, " in run("export-features", tmp_path / "one.h5", "--format", "csv").output


def test_info_of_a_tuned_model_says_what_tuning_brought(model, tmp_path):
    loaded = load_model(model)
    tuned = {"val_start": 0.5, "val_best": 0.75, "recipe": {"epochs": 3}}
    augmentation = {"views": 4, "augment": "flip"}
    dataclasses.replace(loaded, info={**loaded.info, "finetune": tuned, "augmentation": augmentation}).save(
        tmp_path / "tuned.featx"
    )
    said = run("info", tmp_path / "tuned.featx").output
    assert "fine-tuned: validation accuracy 0.5000 -> 0.7500\n" in said
    assert "augmentation:\n  augment: flip\n  views: 4\n" in said
    dataclasses.replace(loaded, info={}).save(tmp_path / "bare.featx")
    assert "head: softmax" in run("info", tmp_path / "bare.featx").output


@pytest.mark.slow
def test_failures_are_warned_of_and_end_with_three(photos, tmp_path, model):
    for number in range(12):
        (photos / "red" / f"bad {number}.png").write_bytes(b"")
    result = run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", code=3)
    assert "warning: red/bad 0.png: empty file" in result.stderr
    assert "warning: 2 more; see: featx info" in result.stderr
    assert "12 images could not be read: see featx info" in result.stdout
    assert "  red/bad 3.png: empty file" in run("info", tmp_path / "p.h5").output
    result = run("predict", model, photos, code=3)
    assert "12 images could not be read" in result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["reason"] != "" for row in rows].count(True) == 12


def test_what_else_extract_reports(photos, tmp_path):
    (photos / "blue" / "copy.png").write_bytes((photos / "red" / "0.png").read_bytes())
    exif = draw(0, 1).getexif()
    exif[0x0112] = 3
    draw(0, 1).save(photos / "red" / "turned.png", exif=exif)
    result = run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", "--max-pixels", "100000")
    assert "blue/copy.png and red/0.png have the same bytes, but different classes" in result.stderr
    assert "1 image rotated by the EXIF orientation" in result.stdout
    (photos / "red" / "turned.png").unlink()
    said = run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", "--missing-images", "drop").output
    assert "1 row dropped" in said


def test_too_many_pixels_is_a_failure_that_names_the_option(photos, tmp_path, model):
    draw(0, 1, (100, 100)).save(photos / "red" / "large.png")
    result = run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", "--max-pixels", "5000", code=3)
    assert "red/large.png: 100 × 100 pixels" in result.stderr
    assert "--max-pixels" in result.stderr
    result = run("predict", model, photos, "--max-pixels", "5000", code=3)
    assert "100 × 100 pixels" in result.stdout


def test_predictions_overwrite_nothing_that_they_are_made_of(model, shared_store, shared_photos, tmp_path):
    for path in (model, shared_store, shared_photos / "red" / "1.png"):
        before = Path(path).read_bytes()
        refused = run("predict", model, shared_store, shared_photos / "red" / "1.png", "-o", path, code=1)
        assert "is what predict reads; choose another" in refused.output
        assert Path(path).read_bytes() == before
    photo = shared_photos / "red" / "1.png"
    for name, read in (("preview", (photo,)), ("explain", (model, photo)), ("export", (model,))):
        before = Path(read[-1]).read_bytes()
        options = ("--overwrite",) if name == "export" else ()
        refused = run(name, *read, "-o", read[-1], *options, code=1)
        assert f"is what {name} reads; choose another" in refused.output
        assert Path(read[-1]).read_bytes() == before
    for read, options in (((shared_store,), ()), ((model,), ("--store", shared_store))):
        page = tmp_path / "page.html"
        page.unlink(missing_ok=True)
        page.symlink_to((*read, *options)[-1])
        refused = run("report", *read, "-o", page, *options, code=1)
        assert "page.html is what report reads; choose another" in refused.output


def test_a_folder_that_is_not_there_is_told_before_the_work(model, shared_store, shared_photos, tmp_path):
    """What is read is not there either: nothing has begun."""
    for name, read, option, file in (
        ("fit", ("none.h5",), "--output", "f.featx"),
        ("predict", ("none.featx", "none.jpg"), "--output", "p.csv"),
        ("preview", ("none.jpg",), "--output", "v.png"),
        ("explain", ("none.featx", "none.jpg"), "--output", "e.png"),
        ("export", ("none.featx",), "--output", "e.onnx"),
        ("export-features", ("none.h5",), "--output", "e.npy"),
        ("report", ("none.h5",), "--output", "r.html"),
        ("finetune", ("none.featx", "none.h5", "--root", tmp_path, "-o", tmp_path / "t.featx"), "--plot", "c.png"),
        ("probe", ("none.h5",), "--plot", "p.png"),
        ("advise", ("none.h5",), "--plot", "p.png"),
        ("suspects", ("none.h5",), "--sheet", "s.png"),
    ):
        path = tmp_path / "none" / file
        refused = run(name, *read, option, path, code=1)
        assert f"{path} cannot be written: its folder {path.parent} does not exist; create it first" in refused.output


def test_extract_makes_the_folder_of_its_store(photos, tmp_path):
    run("extract", photos, "-o", tmp_path / "new" / "p.h5", "--size", "32", "--blocks", "1", "-q")
    assert (tmp_path / "new" / "p.h5").is_file()


def test_no_command_replaces_its_input_even_with_overwrite(model, shared_store, photos, tmp_path):
    store, photo, rows = tmp_path / "photos.h5", photos / "red" / "1.png", photos / "rows.csv"
    shutil.copy(shared_store, store)
    rows.write_text("path,label\nred/1.png,red\nblue/1.png,blue\n")
    for name, read, output in (
        ("fit", (store,), store),
        ("finetune", (model, store, "--root", photos), store),
        ("finetune", (model, store, "--root", photos), model),
        ("extract", (rows, "--root", photos), rows),
        ("extract", (photo,), photo),
        ("extract", (photos, "--weights", model), model),
        ("export-features", (store, "--format", "csv"), store),
    ):
        before = output.read_bytes()
        refused = run(name, *read, "-o", output, "--overwrite", code=1)
        assert f"{output} is what {name} reads; choose another" in refused.output
        assert output.read_bytes() == before


def test_no_store_and_no_model_is_replaced_by_what_has_no_overwrite(model, shared_store, shared_photos, tmp_path):
    photo = shared_photos / "red" / "1.png"
    for name in ("other.h5", "other.featx"):
        shutil.copy(shared_store if name.endswith(".h5") else model, tmp_path / name)
        before = (tmp_path / name).read_bytes()
        refused = run("predict", model, photo, "-o", tmp_path / name, code=1)
        assert f"{name} is a store or a model, which predict never replaces; choose another" in refused.output
        refused = run("report", shared_store, "-o", tmp_path / name, code=2)
        assert f"--output of report must end in .html or .htm, got '{tmp_path / name}'" in refused.output
        assert (tmp_path / name).read_bytes() == before
    run("predict", model, photo, "-o", tmp_path / "there.csv")
    assert run("predict", model, photo, "-o", tmp_path / "there.csv", "-q").stdout == ""


@pytest.mark.slow
def test_a_reader_of_predictions_may_go_away(model, shared_store):
    command = [sys.executable, "-m", "featx", "predict", str(model), str(shared_store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_predictions_as_json_lines(model, shared_photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    said = run(
        "predict", model, shared_photos / "red" / "1.png", tmp_path, "--format", "jsonl", "--top", "2", code=3
    ).stdout
    good, bad = map(json.loads, said.splitlines())
    assert good["classes"][0] == "red"
    assert len(good["probabilities"]) == 2
    assert set(bad) == {"path", "reason"}


def test_a_store_that_does_not_fit_leaves_no_output(model, photos, tmp_path):
    run("extract", photos, "-o", tmp_path / "small.h5", "--size", "48", "--pools", "avg,max")
    (tmp_path / "there.csv").write_text("mine")
    refused = run("predict", model, tmp_path / "small.h5", code=1)
    assert refused.stdout == ""
    assert "size is 32 in the model but 48" in refused.stderr
    run("predict", model, tmp_path / "small.h5", "-o", tmp_path / "there.csv", code=1)
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_one_bad_image_is_one_image(model, shared_photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    result = run("predict", model, shared_photos / "red" / "1.png", tmp_path / "bad.png", code=3)
    assert "warning: 1 image could not be read" in result.stderr


def test_labels_and_splits_that_change_are_counted(photos, tmp_path):
    """The same images first as a folder, then as a manifest, then as a folder again."""
    store, options = tmp_path / "p.h5", ("--size", "32", "--blocks", "1", "--n-views", "2")
    said = run("extract", photos, "-o", store, *options).output
    assert "p.h5: 48 rows of 24 images, 48 extracted in" in said
    assert "images/s)" in said
    assert "changed" not in said
    names = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    lines = [f"{name},{'red' if i < 3 else name.parent},{'test' if i % 2 else 'train'}" for i, name in enumerate(names)]
    (photos / "rows.csv").write_text("\n".join(["path,label,split", *lines]))
    said = run("extract", photos / "rows.csv", "-o", store, *options).output
    assert "labels of 3 images updated from the source\n" in said
    assert "split columns of 24 images updated from the source\n" in said
    assert "changed" not in run("extract", photos / "rows.csv", "-o", store, *options).output
    again = json.loads(run("extract", photos, "-o", store, *options, "--json").stdout)
    assert (again["labels_changed"], again["columns_changed"], again["extracted"], again["n_views"]) == (3, 24, 0, 2)


def test_evaluate_says_what_a_calibration_error_is_and_how_to_have_one(photos, tmp_path, shared_store):
    options = ("--head", "linear-svc", "--blocks", "1", "--C", "1", "--folds", "2", "--test-size", "0.4")
    run("fit", shared_store, "-o", tmp_path / "m.featx", *options)
    said = run("evaluate", tmp_path / "m.featx", shared_store)
    assert "calibration" not in said.stdout
    assert "no expected calibration error: linear-svc has no probabilities; fit with --calibrate" in said.stderr
    run("fit", shared_store, "-o", tmp_path / "m.featx", *options, "--calibrate", "--overwrite")
    said = run("evaluate", tmp_path / "m.featx", shared_store)
    assert "expected calibration error  " in said.stdout
    assert said.stderr == ""


def test_names_that_are_no_utf8_go_out_as_they_are(model, tmp_path):
    name = os.fsdecode(b"odd-\xff.png")
    draw(0, 1).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    run("predict", model, tmp_path / name, "-o", tmp_path / "out.csv")
    assert b"odd-\xff.png,red," in (tmp_path / "out.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "x", "-o", "y", "--blocks", "7"), "--blocks of extract must be 1 to 5, got 7"),
        (
            ("extract", "x", "-o", "y", "--blocks", "3-1"),
            "--blocks of extract must be like 3-5 or 1,4, got '3-1'",
        ),
        (
            ("extract", "x", "-o", "y", "--pools", "mean"),
            f"--pools of extract must be one of {', '.join(POOL_NAMES)}, got 'mean'",
        ),
        (
            ("extract", "x", "-o", "y", "--batch-size", "0"),
            "--batch-size of extract must be auto or a whole number from 1",
        ),
        (
            ("extract", "x", "-o", "y", "--engine", "torch", "--ray-address", "auto"),
            "--ray-address of extract has no effect without --executor ray; add that, or leave it out",
        ),
        (
            ("extract", "x", "-o", "y", "--gpus-per-worker", "1"),
            "--gpus-per-worker of extract has no effect without --executor ray;",
        ),
        (
            ("extract", "x", "-o", "y", "--cpus-per-worker", "2"),
            "--cpus-per-worker of extract has no effect without --executor ray;",
        ),
        (
            ("extract", "x", "-o", "y", "--augment", "flip"),
            "--augment of extract has no effect without --n-views of 2 or more; add that, or leave it out",
        ),
        (
            ("extract", "x", "-o", "y", "--fill", "edge"),
            "--fill of extract has no effect without --n-views of 2 or more;",
        ),
        (("predict", "x", "y", "--seed", "5"), "--seed of predict has no effect without --n-views of 2 or more;"),
        (
            ("predict", "x", "y", "--augment", "flip"),
            "--augment of predict has no effect without --n-views of 2 or more;",
        ),
        (("extract", "x", "-o", "y", "--size", "16"), "16 is not in the range x>=32"),
        (
            ("fit", "x", "-o", "y", "--head", "svm"),
            "'svm' is not one of 'best', 'linear-svc', 'softmax', 'ovr-logistic'",
        ),
        (("fit", "x", "-o", "y", "--test-size", "1"), "1.0 is not in the range 0<x<1"),
        (("paint",), "No such command 'paint'"),
    ],
)
def test_wrong_usage_is_two(arguments, message):
    assert message in run(*arguments, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "none", "-o", "y.h5"), "none"),
        (("fit", "none.h5", "-o", "y.featx"), "none.h5 does not exist; create it with: featx extract"),
        (("predict", "none.featx", "x"), "none.featx does not exist; make it with: featx fit"),
        (("info", "none.h5"), "none.h5 does not exist"),
    ],
)
def test_errors_are_one(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, code=1)
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(photos, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in run("extract", photos, "-o", tmp_path / "file" / "p.h5", code=1).stderr


def test_quiet_says_nothing(photos, tmp_path):
    assert run("extract", photos, "-o", tmp_path / "p.h5", "--size", "32", "--quiet").output == ""


def test_ctrl_c_says_how_to_go_on(photos, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("featx.extraction.extract", interrupted)
    result = run("extract", photos, "-o", tmp_path / "p.h5", code=130)
    assert "run the same command again to resume" in result.stderr


def test_choices_that_are_written_down_twice_to_keep_help_light_agree():
    assert ("best", *HEADS) == fit.HEADS
    (missing,) = (option for option in extract.command.params if option.name == "missing_images")
    assert tuple(missing.type.choices) == MISSING_IMAGES
    assert predict.WITH_FAILURES == 3


def test_every_command_is_listed_and_has_an_example():
    said = run("--help").output
    for name, line in COMMANDS.items():
        assert f"  {name} " in said
        assert line in said
        if name != "backbones":
            assert f"featx {name}" in run(name, "--help").output.partition("Examples:")[2]
    assert __version__ in run("--version").output


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("command", ["advise", "audit", "finetune", "fit", "probe", "suspects", "verify"])
def test_a_seed_that_no_generator_takes_is_wrong_usage(command, seed):
    assert f"Invalid value for '--seed': {seed} is not in the range" in run(command, "--seed", seed, code=2).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    assert "_FEATX_COMPLETE" in run("completion", shell).output


HEAVY = "import sys; heavy = {'torch', 'h5py', 'sklearn', 'numpy', 'PIL'} & set(sys.modules); assert not heavy, heavy"


@pytest.mark.parametrize(
    "code", ["import featx; dir(featx)", "from featx.cli.group import main; main(['--help'], standalone_mode=False)"]
)
def test_help_and_import_load_nothing_heavy(code):
    subprocess.run([sys.executable, "-c", f"{code}\n{HEAVY}"], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "module",
    [
        "heads import BlockNormalizer", "models import evaluate, fit, load_model, predict", "store import Store",
        "curation import export_features, load_features, merge, nearest, select, verify",
        "extraction import extract", "inspection import preview, probe", "exporting import export",
    ],
)  # fmt: skip
def test_torch_is_imported_by_what_runs_it_alone(module):
    code = f"import sys; from featx.{module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fits_import_no_engine():
    code = (
        "import sys; from featx.models import fit; assert not {'featx.engines', 'featx.extraction'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_can_be_run():
    said = subprocess.run([sys.executable, "-m", "featx", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"featx, version {__version__}\n"


def test_help_takes_under_half_a_second():
    launcher = Path(__file__).parents[1] / "cli.py"
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, str(launcher), "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.4


def test_public_names_are_there():
    import featx

    for name in featx.__all__:
        assert getattr(featx, name) is not None
    with pytest.raises(AttributeError, match="No featx attribute nothing"):
        _ = featx.nothing


def test_a_warning_about_the_data_is_one_line(shared_store, monkeypatch, tmp_path):
    def warn(*_, **__):
        warnings.warn("2 images are empty", FeatxWarning, stacklevel=2)
        warnings.warn("2 images are empty", FeatxWarning, stacklevel=2)
        raise FeatxError("that was all")

    monkeypatch.setattr("featx.models.fit", warn)
    result = run("fit", shared_store, "-o", tmp_path / "photos.featx", code=1)
    assert result.stderr == "Warning: 2 images are empty\nError: that was all\n"
