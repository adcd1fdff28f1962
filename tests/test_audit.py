import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw
from PIL import ExifTags, Image

from featx.backbones.preprocessings import PREPROCESSINGS
from featx.cli.group import main
from featx.engines.selection import make_engine
from featx.errors import ImageError, SpecError
from featx.heads.pipeline.linear_heads import make_head
from featx.heads.splitting.folds import make_folds
from featx.images.decoding.decoder import decode
from featx.images.pixels.preprocessing import preprocess, resize_without_antialiasing
from featx.inspection.preprocessing_audit.accuracy import CVProtocol, Evaluation
from featx.inspection.preprocessing_audit.auditor import audit
from featx.inspection.preprocessing_audit.mistakes import DECLARED, MISTAKES, Mistake
from featx.inspection.preprocessing_audit.sample import draw_rows
from featx.spec.extract_spec import ExtractSpec

SPEC = ExtractSpec(size=32, blocks=(1, 2))
BY_NAME = {wrong.name: wrong for wrong in MISTAKES}


@pytest.fixture(scope="session")
def report(shared_photos, oxford):
    return audit(shared_photos, SPEC, images=30, folds=3)


def cost_of(report, name):
    (cost,) = [cost for cost in report.costs if cost.name == name]
    return cost


def picture(path, orientation=1):
    """A patterned photograph, 60 × 40, with an EXIF orientation."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path.read_bytes()


def test_each_mistake_does_otherwise_what_its_name_says(tmp_path):
    data = picture(tmp_path / "p.png", orientation=6)
    right = DECLARED.prepare(data, SPEC)
    np.testing.assert_array_equal(right, preprocess(decode(data).image, SPEC))
    np.testing.assert_array_equal(BY_NAME["BGR order"].prepare(data, SPEC), right[..., ::-1])
    for name in ("0 to 1", "-1 to 1"):
        assert BY_NAME[name].same_pixels
        np.testing.assert_array_equal(BY_NAME[name].prepare(data, SPEC), right)
    lying = preprocess(Image.open(tmp_path / "p.png"), SPEC)
    np.testing.assert_array_equal(BY_NAME["EXIF ignored"].prepare(data, SPEC), lying)
    assert (lying != right).any()
    for resize in ("squash", "crop", "pad"):
        spec = dataclasses.replace(SPEC, resize=resize)
        coarse = BY_NAME["no antialiasing"].prepare(data, spec)
        assert coarse.shape == (32, 32, 3)
        # Noise that is not averaged stays as loud as it was.
        assert coarse[8:24].std() > 1.2 * DECLARED.prepare(data, spec)[8:24].std()


@pytest.mark.parametrize(("name", "low", "high"), [("0 to 1", 0, 1), ("-1 to 1", -1, 1)])
def test_scalings_are_those_of_their_names(name, low, high):
    scaling = PREPROCESSINGS[BY_NAME[name].spec(SPEC).preprocessing]
    for color in range(3):
        assert (0 - scaling.mean[color]) / scaling.std[color] == low
        assert (255 - scaling.mean[color]) / scaling.std[color] == high
    assert BY_NAME["BGR order"].spec(SPEC) == SPEC


def test_no_antialiasing_is_what_torch_does():
    from torch import from_numpy
    from torch.nn.functional import interpolate

    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    made = np.asarray(resize_without_antialiasing(Image.fromarray(pixels), (31, 27), Image.Resampling.BILINEAR))
    asked = interpolate(from_numpy(pixels).permute(2, 0, 1)[None].float(), (27, 31), mode="bilinear")
    assert np.abs(made - asked[0].permute(1, 2, 0).numpy()).max() <= 1.001  # Pillow cuts where torch would round


def test_the_sample_has_as_many_of_each_class():
    labels = np.repeat([0, 1, 2, -1], [50, 3, 50, 20])
    rows = draw_rows(labels, 23, seed=0)
    assert (rows == np.sort(rows)).all()
    assert len(set(rows.tolist())) == 23
    counts = np.unique(labels[rows], return_counts=True)[1]
    assert counts.tolist() in ([7, 7, 3, 6], [6, 7, 3, 7], [7, 6, 3, 7])
    assert draw_rows(labels, 1000, seed=0).tolist() == list(range(123))
    assert (draw_rows(labels, 23, seed=1) != rows).any()


def test_what_changes_nothing_costs_nothing(report):
    nothing = cost_of(report, "EXIF ignored")
    assert nothing.changed == 0
    assert nothing.at_prediction.mean == nothing.throughout.mean == 0
    assert nothing.cosines == pytest.approx({"block1_avg": 1, "block2_avg": 1})


def test_colors_that_trade_places_are_taken_for_each_other(report):
    """Red pictures in BGR order are blue ones: fatal at prediction, and of no matter throughout."""
    assert report.images == 30
    assert report.accuracy == 1
    cost = cost_of(report, "BGR order")
    assert cost.changed == 30
    assert cost.at_prediction.mean == pytest.approx(2 / 3, abs=0.1)
    assert cost.throughout.mean == pytest.approx(0, abs=0.05)
    assert cost.cosines["block1_avg"] < 0.99
    assert report.failed == report.notes == ()


def test_cosines_are_those_of_the_engine_run_by_hand(report, shared_photos, oxford):
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


def test_losses_are_those_of_heads_fitted_by_hand():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    X = (rng.random((60, 192)) + np.eye(3, 192)[y]).astype(np.float32)
    wrong = X[:, ::-1].copy()
    groups = np.arange(60)
    trial = Evaluation.run(CVProtocol("softmax", 4, 1, SPEC), X, y, groups)
    best = trial.found.best_candidate_
    columns = {"block1": slice(0, 64), "block2": slice(64, 192), "block1+block2": slice(0, 192)}[best.feature_set]
    right_scores, wrong_scores = [], []
    for train, test in make_folds(y, groups, 4, seed=1):
        head = make_head("softmax", best.C, widths=trial.columns.widths).fit(X[train, columns], y[train])
        right_scores.append(head.score(X[test, columns], y[test]))
        wrong_scores.append(head.score(wrong[test, columns], y[test]))
    lost = np.subtract(right_scores, wrong_scores)
    loss = trial.at_prediction(X, wrong)
    assert loss.mean == pytest.approx(lost.mean())
    assert loss.standard_error == pytest.approx(lost.std(ddof=1) / 2)
    assert trial.throughout(X).mean == 0
    noise = rng.random(X.shape).astype(np.float32)
    assert trial.throughout(noise).mean > 0.3


def test_a_turned_picture_counts_as_changed(tmp_path, oxford):
    for number in range(4):
        picture(tmp_path / f"{number}.jpg", orientation=6 if number < 3 else 1)
    report = audit(tmp_path, SPEC, mistakes=[BY_NAME["EXIF ignored"]])
    (cost,) = report.costs
    assert cost.changed == 3
    assert cost.cosines["block1_avg"] < 1
    assert cost.at_prediction is cost.throughout is report.accuracy is None
    assert report.notes == ("accuracy is not measured: 4 images of 4 have no label",)


def test_the_declared_scaling_is_no_mistake(tmp_path, photos, oxford):
    same = Mistake("its own", "nowhere", preprocessing=oxford.preprocessing)
    (cost,) = audit(photos, SPEC, images=6, mistakes=[same]).costs
    assert cost.changed == 0


def test_bad_images_are_recorded_and_labels_that_allow_no_folds_said(photos, oxford, tmp_path):
    for path in (photos / "red").glob("*.png"):
        path.write_text("no picture")
    report = audit(photos, SPEC, images=1000, mistakes=[BY_NAME["BGR order"]], folds=9)
    assert report.images == 16
    assert len(report.failed) == 8
    assert report.failed[0][1].startswith("no image format that Pillow knows")
    assert report.accuracy is None
    assert report.notes[0].startswith(
        "accuracy is not measured: class blue has 8 different images, too few for 9 folds"
    )
    for path in photos.rglob("*.png"):
        path.unlink()
        path.write_text("no picture")
    with pytest.raises(ImageError, match=r"none of the 24 images drawn can be read; blue/0\.png: no image format"):
        audit(photos, SPEC, images=1000)


def test_several_labels_an_image_are_compared_by_features_alone(tmp_path, photos, oxford):
    rows = [f"{path.relative_to(photos)},{path.parent.name}|all" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    report = audit(tmp_path / "m.csv", SPEC, root=photos, images=6, mistakes=[BY_NAME["BGR order"]])
    assert report.notes == ("accuracy is not measured: images have several labels each",)
    assert report.costs[0].changed == 6


def test_the_command_prints_a_table_and_json(shared_photos, report, tmp_path, oxford):
    options = ["audit", str(shared_photos), "--images", "30", "--size", "32", "--blocks", "1-2", "--folds", "3", "-q"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    head, columns, *lines = result.stdout.splitlines()
    assert head == "30 images, softmax: accuracy 1.0000 ± 0.0000 as declared"
    assert columns.split() == ["changed", "block1_avg", "block2_avg", "lost", "at", "prediction", "lost", "throughout"]
    assert [line[:16].strip() for line in lines] == list(BY_NAME)
    document = json.loads(CliRunner().invoke(main, [*options, "--json"]).stdout)
    assert document == json.loads(json.dumps(dataclasses.asdict(report)))


def test_too_many_pixels_is_a_failure(tmp_path, oxford):
    picture(tmp_path / "good.png")
    Image.new("RGB", (70, 70)).save(tmp_path / "large.png")
    line = ["audit", str(tmp_path), "--size", "32", "--blocks", "1", "-q", "--max-pixels", "3000"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3
    assert "warning: large.png: " in result.stderr
    assert result.stdout.startswith("1 image\n")


def test_the_command_ends_with_3_if_images_failed(tmp_path, oxford):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    result = CliRunner().invoke(main, ["audit", str(tmp_path), "--size", "32", "--blocks", "1", "-q"])
    assert result.exit_code == 3
    assert "warning: bad.png: no image format" in result.stderr
    assert "accuracy is not measured: 1 image of 1 has no label" in result.stderr
    assert "–" in result.stdout


def test_images_without_a_class_leave_accuracy_measured(photos):
    """They lie beside the class folders of a split, and say nothing of it."""
    (photos / "train").mkdir()
    for name in ("red", "green", "blue"):
        (photos / name).rename(photos / "train" / name)
    (photos / "test").mkdir()
    for number in range(6):
        draw(0, number).save(photos / "test" / f"{number}.png")
    report = audit(photos, spec=ExtractSpec(size=32, blocks=(1,)), folds=2)
    assert (report.images, report.notes) == (24, ())
    with pytest.raises(SpecError, match="--images of audit must be at least 1, got 0"):
        audit(photos, images=0)
