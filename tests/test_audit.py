"""The audit of preprocessing mistakes: each mistake, its features and its cost in accuracy."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw
from PIL import ExifTags, Image

from featx.backbones import PREPROCESSINGS
from featx.cli.group import main
from featx.engines import make_engine
from featx.errors import ImageError, SpecError
from featx.heads import make_folds, make_head
from featx.images import decode, preprocess
from featx.images.pixels.preprocessing import resize_without_antialiasing
from featx.inspection import audit
from featx.inspection.preprocessing_audit.accuracy import CVProtocol, Evaluation
from featx.inspection.preprocessing_audit.mistakes import MISTAKES, NO_MISTAKE, PreprocessingMistake
from featx.inspection.preprocessing_audit.sample import draw_sample
from featx.runtime import Compute
from featx.spec import ExtractSpec

SPEC = ExtractSpec(size=32, blocks=(1, 2))
BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


@pytest.fixture(scope="session")
def report(shared_photos, oxford):
    return audit(shared_photos, SPEC, images=30, folds=3)


def cost_of(report, name):
    (cost,) = [cost for cost in report.costs if cost.name == name]
    return cost


def save_noise(path, orientation=1):
    """Save a noise image, 60 × 40, with an EXIF orientation; return the bytes of the file."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path.read_bytes()


def test_each_mistake_does_what_its_name_says(tmp_path):
    data = save_noise(tmp_path / "p.png", orientation=6)
    correct = NO_MISTAKE.load_pixels(data, SPEC)
    np.testing.assert_array_equal(correct, preprocess(decode(data).image, SPEC))
    np.testing.assert_array_equal(BY_NAME["BGR order"].load_pixels(data, SPEC), correct[..., ::-1])
    for name in ("0 to 1", "-1 to 1"):
        assert BY_NAME[name].keeps_pixels
        np.testing.assert_array_equal(BY_NAME[name].load_pixels(data, SPEC), correct)
    not_rotated = preprocess(Image.open(tmp_path / "p.png"), SPEC)
    np.testing.assert_array_equal(BY_NAME["EXIF ignored"].load_pixels(data, SPEC), not_rotated)
    assert (not_rotated != correct).any()
    for resize in ("squash", "crop", "pad"):
        spec = dataclasses.replace(SPEC, resize=resize)
        coarse = BY_NAME["no antialiasing"].load_pixels(data, spec)
        assert coarse.shape == (32, 32, 3)
        # Antialiasing averages the noise; without it, the noise keeps its amplitude.
        assert coarse[8:24].std() > 1.2 * NO_MISTAKE.load_pixels(data, spec)[8:24].std()


@pytest.mark.parametrize(("name", "low", "high"), [("0 to 1", 0, 1), ("-1 to 1", -1, 1)])
def test_each_scaling_maps_pixels_to_its_range(name, low, high):
    scaling = PREPROCESSINGS[BY_NAME[name].wrong_spec(SPEC).preprocessing]
    for color in range(3):
        assert (0 - scaling.mean[color]) / scaling.std[color] == low
        assert (255 - scaling.mean[color]) / scaling.std[color] == high
    assert BY_NAME["BGR order"].wrong_spec(SPEC) == SPEC


def test_no_antialiasing_gives_the_pixels_of_torch():
    from torch import from_numpy
    from torch.nn.functional import interpolate

    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    made = np.asarray(resize_without_antialiasing(Image.fromarray(pixels), (31, 27), Image.Resampling.BILINEAR))
    expected = interpolate(from_numpy(pixels).permute(2, 0, 1)[None].float(), (27, 31), mode="bilinear")
    assert np.abs(made - expected[0].permute(1, 2, 0).numpy()).max() <= 1.001  # Pillow truncates, torch rounds


def test_the_sample_has_equally_many_images_of_each_class():
    labels = np.repeat([0, 1, 2, -1], [50, 3, 50, 20])
    rows = draw_sample(labels, 23, 0)
    assert (rows == np.sort(rows)).all()
    assert len(set(rows.tolist())) == 23
    counts = np.unique(labels[rows], return_counts=True)[1]
    assert counts.tolist() in ([7, 7, 3, 6], [6, 7, 3, 7], [7, 6, 3, 7])
    assert draw_sample(labels, 1000, 0).tolist() == list(range(123))
    assert (draw_sample(labels, 23, 1) != rows).any()


def test_a_mistake_that_changes_nothing_costs_nothing(report):
    nothing = cost_of(report, "EXIF ignored")
    assert nothing.changed == 0
    assert nothing.at_prediction.mean == nothing.throughout.mean == 0
    assert nothing.cosines == pytest.approx({"block1_avg": 1, "block2_avg": 1})


def test_swapped_colors_are_confused_at_prediction_but_not_throughout(report):
    """Red images in BGR order are blue. A head that was trained on BGR order too does not mind."""
    assert report.images == 30
    assert report.accuracy == 1
    cost = cost_of(report, "BGR order")
    assert cost.changed == 30
    assert cost.at_prediction.mean == pytest.approx(2 / 3, abs=0.1)
    assert cost.throughout.mean == pytest.approx(0, abs=0.05)
    assert cost.cosines["block1_avg"] < 0.99
    assert report.failed == report.notes == ()


def test_cosines_are_those_of_features_that_were_extracted_directly(report, shared_photos, oxford):
    spec = SPEC.with_backbone(oxford.name, oxford.digest, oxford.preprocessing)
    paths = sorted(shared_photos.rglob("*.png"))
    pixels = np.stack([preprocess(Image.open(path), spec) for path in paths])
    right = make_engine(oxford, spec, "cpu")(pixels)
    wrong = make_engine(oxford, dataclasses.replace(spec, preprocessing="minus_one_to_one"), "cpu")(pixels)
    whole = audit(shared_photos, SPEC, images=1000, mistakes=[BY_NAME["-1 to 1"]], folds=3)
    assert whole.images == len(paths)
    for name, cosine in whole.costs[0].cosines.items():
        a, b = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (right[name], wrong[name]))
        assert cosine == pytest.approx(float((a * b).sum(axis=1).mean()), abs=1e-5)


def test_losses_are_those_of_heads_that_were_fitted_directly():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    X = (rng.random((60, 192)) + np.eye(3, 192)[y]).astype(np.float32)
    wrong = X[:, ::-1].copy()
    groups = np.arange(60)
    evaluation = Evaluation.run(CVProtocol("softmax", 4, 1, SPEC), X, y, groups)
    best = evaluation.search.best_candidate_
    columns = {"block1": slice(0, 64), "block2": slice(64, 192), "block1+block2": slice(0, 192)}[best.feature_set]
    right_scores, wrong_scores = [], []
    for train, test in make_folds(y, groups, 4, seed=1):
        head = make_head("softmax", best.C, widths=evaluation.columns.widths).fit(X[train, columns], y[train])
        right_scores.append(head.score(X[test, columns], y[test]))
        wrong_scores.append(head.score(wrong[test, columns], y[test]))
    lost = np.subtract(right_scores, wrong_scores)
    loss = evaluation.loss_at_prediction(X, wrong)
    assert loss.mean == pytest.approx(lost.mean())
    assert loss.standard_error == pytest.approx(lost.std(ddof=1) / 2)
    assert evaluation.loss_throughout(X).mean == 0
    noise = rng.random(X.shape).astype(np.float32)
    assert evaluation.loss_throughout(noise).mean > 0.3


def test_an_image_with_an_exif_rotation_counts_as_changed(tmp_path, oxford):
    for number in range(4):
        save_noise(tmp_path / f"{number}.jpg", orientation=6 if number < 3 else 1)
    report = audit(tmp_path, SPEC, mistakes=[BY_NAME["EXIF ignored"]])
    (cost,) = report.costs
    assert cost.changed == 3
    assert cost.cosines["block1_avg"] < 1
    assert cost.at_prediction is cost.throughout is report.accuracy is None
    assert report.notes == ("accuracy was not measured: 4 images of 4 have no label",)


def test_the_scaling_of_the_backbone_changes_nothing(tmp_path, photos, oxford):
    same = PreprocessingMistake("its own", "nowhere", preprocessing=oxford.preprocessing)
    (cost,) = audit(photos, SPEC, images=6, mistakes=[same]).costs
    assert cost.changed == 0


def test_bad_images_and_too_few_labels_are_reported(photos, oxford, tmp_path):
    for path in (photos / "red").glob("*.png"):
        path.write_text("not an image")
    report = audit(photos, SPEC, images=1000, mistakes=[BY_NAME["BGR order"]], folds=9)
    assert report.images == 16
    assert len(report.failed) == 8
    assert report.failed[0][1].startswith("no image format that Pillow knows")
    assert report.accuracy is not None
    assert report.notes == (
        "2 classes have fewer images than the 9 folds, so not every fold tests them: blue (8), green (8)",
    )
    alone = audit(photos, SPEC, images=2, mistakes=[BY_NAME["BGR order"]])
    assert alone.accuracy is None
    assert alone.notes[0].startswith("accuracy was not measured: cross-validation needs a class with two images")
    for path in photos.rglob("*.png"):
        path.unlink()
        path.write_text("not an image")
    with pytest.raises(ImageError, match=r"none of the 24 images drawn can be read; blue/0\.png: no image format"):
        audit(photos, SPEC, images=1000)


def test_multi_label_images_are_compared_by_features_only(tmp_path, photos, oxford):
    rows = [f"{path.relative_to(photos)},{path.parent.name}|all" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    report = audit(tmp_path / "m.csv", SPEC, root=photos, images=6, mistakes=[BY_NAME["BGR order"]])
    assert report.notes == ("accuracy was not measured: the images are multi-label",)
    assert report.costs[0].changed == 6


@pytest.mark.slow
def test_the_command_prints_a_table_and_json(shared_photos, report, tmp_path, oxford):
    options = ["audit", str(shared_photos), "--images", "30", "--size", "32", "--blocks", "1-2", "--folds", "3", "-q"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    head, columns, *lines = result.stdout.splitlines()
    assert head == "30 images, softmax: accuracy 1.0000 ± 0.0000 with correct preprocessing"
    assert columns.split() == ["changed", "block1_avg", "block2_avg", "lost", "at", "prediction", "lost", "throughout"]
    assert [line[:16].strip() for line in lines] == list(BY_NAME)
    document = json.loads(CliRunner().invoke(main, [*options, "--json"]).stdout)
    assert document == json.loads(json.dumps(dataclasses.asdict(report)))


def test_a_report_prints_one_line_per_mistake(report):
    lines = repr(report).splitlines()
    assert lines[0].endswith(": 30 images, softmax, accuracy 1.0000)")
    assert lines[-1] == "  EXIF ignored: changes 0 images, loses 0.0 points at prediction"
    assert len(lines) == 1 + len(MISTAKES)


def test_an_image_with_too_many_pixels_is_a_failure(tmp_path, oxford):
    save_noise(tmp_path / "good.png")
    Image.new("RGB", (70, 70)).save(tmp_path / "large.png")
    line = ["audit", str(tmp_path), "--size", "32", "--blocks", "1", "-q", "--max-pixels", "3000"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3
    assert "warning: large.png: " in result.stderr
    assert result.stdout.startswith("1 image\n")


def test_the_exit_code_is_3_if_images_failed(tmp_path, oxford):
    save_noise(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    result = CliRunner().invoke(main, ["audit", str(tmp_path), "--size", "32", "--blocks", "1", "-q"])
    assert result.exit_code == 3
    assert "warning: bad.png: no image format" in result.stderr
    assert "accuracy was not measured: 1 image of 1 has no label" in result.stderr
    assert "–" in result.stdout


def test_unlabeled_images_are_left_out_if_others_have_labels(photos):
    """Otherwise images beside the class folders would prevent measuring the accuracy."""
    (photos / "train").mkdir()
    for name in ("red", "green", "blue"):
        (photos / name).rename(photos / "train" / name)
    (photos / "test").mkdir()
    for number in range(6):
        draw(0, number).save(photos / "test" / f"{number}.png")
    report = audit(photos, spec=ExtractSpec(size=32, blocks=(1,)), folds=2)
    assert report.images == 24
    assert report.accuracy is not None
    assert any("images in test have no labels" in note for note in report.notes)


def test_options_out_of_range_are_named(photos):
    with pytest.raises(SpecError, match="--images of audit must be at least 1, got 0"):
        audit(photos, images=0)
    with pytest.raises(SpecError, match="workers of Compute is not supported by audit, got 2"):
        audit(photos, compute=Compute(workers=2))
