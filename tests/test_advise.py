import dataclasses
import json
import shlex
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import fill
from PIL import Image
from sklearn.datasets import load_sample_image

from featx.cli import finetune
from featx.cli.group import main
from featx.curation.dataset import load_features
from featx.drawing.figures import save_figure
from featx.errors import DataError, EngineError
from featx.extraction import extract
from featx.inspection.advice.advisor import Advice, _forecast, advise
from featx.inspection.advice.cases import CASES, blocks_of, case_of, commands_of, expected_gain
from featx.inspection.advice.caveats import caveats_of
from featx.inspection.advice.learning_curve import Point
from featx.inspection.advice.likeness import Likeness, measure_likeness
from featx.inspection.advice.plots import plot_plane
from featx.inspection.advice.reference import distances, statistics
from featx.inspection.advice.size import Forecast, Gain, Size
from featx.inspection.advice.thresholds import DISTANCE
from featx.inspection.depth_probe import Depth, ProbeReport, probe
from featx.spec.extract_spec import ExtractSpec

SMALL_ALIKE, LARGE_ALIKE, SMALL_UNLIKE, LARGE_UNLIKE = CASES


def depth(name, mean, error=0.01):
    blocks = tuple(range(int(name[0]), int(name[-1]) + 1))
    return Depth(name, blocks, 1.0, mean, error, 0.0, blocks[-1] / 5, None, 4)


def probed(rows=1000, **means):
    depths = tuple(depth(name.strip("b").replace("_", "-"), mean) for name, mean in means.items())
    return ProbeReport("photos.h5", "softmax", "accuracy", rows, depths)


PHOTOGRAPHS = probed(b3=0.8, b4=0.9, b5=0.95, b4_5=0.96)
DRAWINGS = probed(b2=0.955, b3=0.96, b4=0.9, b5=0.8, b3_4=0.965)


def made_size(score=0.7, **changes):
    point, gain = Point(1.0, 60, 0.95, 0.01, (0.95,) * 10), Gain(60, 0.01, 0.005, 0.02)
    size = Size(score, score, score, 0.6, 0.7, 1000, 10, 60, 60, (point,), 0.02, 0.5, 0.6, gain, gain,
                (Forecast(60, 0.95, 0.94, 0.96), Forecast(120, 0.96, 0.95, 0.97)))  # fmt: skip
    return dataclasses.replace(size, **changes)


def made_likeness(score=0.8, **changes):
    return dataclasses.replace(Likeness(score, score, score, score, "4-5", "4-5", -0.05, {}), **changes)


def test_photographs_lie_near_the_reference_and_made_pictures_far(shared_store, tmp_path):
    """Crops of scikit-learn's photographs, a temple and a flower, of which the reference knows neither."""
    rng, paths = np.random.default_rng(0), []
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        for number in range(12):
            top, left = rng.integers(0, np.array(photo.shape[:2]) - 200)
            paths.append(tmp_path / f"{name}-{number}.png")
            Image.fromarray(photo[top : top + 200, left : left + 200]).save(paths[-1])
    extract(paths, tmp_path / "near.h5", ExtractSpec(size=64))
    near, far = (load_features(path, pool="avg") for path in (tmp_path / "near.h5", shared_store))
    near, far = (distances(data.spec, data.data) for data in (near, far))
    assert list(near) == list(far) == [1, 2, 3, 4, 5]
    assert np.mean(list(near.values())) < 1 < DISTANCE < np.mean(list(far.values()))


def test_statistics_are_of_normalized_rows():
    rows = np.array([[4.0, 0], [0, 9]], "f4")
    assert statistics(rows) == {"mean": [0.5, 0.5], "spread": pytest.approx(np.sqrt(0.5), abs=1e-4)}


@pytest.mark.parametrize(
    "change", [{"backbone_digest": "f" * 64}, {"pools": ("max",)}], ids=["another backbone", "no averages"]
)
def test_what_the_reference_has_not_is_not_compared(shared_store, change):
    spec = dataclasses.replace(load_features(shared_store).spec, **change)
    assert distances(spec, np.ones((3, sum(spec.widths.values())))) == {}


@pytest.mark.parametrize(
    ("report", "far", "size", "depth", "loss", "statistics"),
    [
        (PHOTOGRAPHS, 0.0, 224, 1, 0.79, 1),
        (DRAWINGS, 3.0, 224, 0, 0.04, 0.2),
        (DRAWINGS, 1.5, 64, None, None, 0.5),
        (probed(b1=0.8, b2=0.9, b1_2=0.9), 1.5, 224, None, None, 0.5),
        (probed(b5=0.9), 1.5, 224, None, None, 0.5),
        (probed(b2=1.0, b4=1.0, b5=1.0, b4_5=1.0), 0.0, 224, None, 0.5, 1),
    ],
    ids=["photographs", "drawings", "too small to tell by depth", "no block 5", "block 5 alone", "all at the ceiling"],
)
def test_likeness_is_the_mean_of_what_could_be_measured(report, far, size, depth, loss, statistics):
    likeness = measure_likeness(report, dict.fromkeys(range(1, 6), far), size)
    assert (likeness.depth, likeness.statistics) == (depth, pytest.approx(statistics))
    assert likeness.loss == (loss if loss is None else pytest.approx(loss, abs=0.01))
    assert likeness.score == pytest.approx(np.mean(list(likeness.parts.values())))


def test_likeness_of_nothing_measured_is_none():
    likeness = measure_likeness(probed(b5=0.9), {}, 224)
    assert (likeness.score, likeness.parts) == (None, {})
    assert case_of(made_size(0.2), likeness) is SMALL_ALIKE


@pytest.mark.parametrize(
    ("size", "likeness", "case"),
    [(0.2, 0.9, SMALL_ALIKE), (0.6, 0.5, LARGE_ALIKE), (0.49, 0.2, SMALL_UNLIKE), (0.5, 0.49, LARGE_UNLIKE)],
)
def test_the_scores_say_the_case(size, likeness, case):
    assert case_of(made_size(size), made_likeness(likeness)) is case


@pytest.mark.parametrize(
    ("case", "selection", "lines"),
    [
        (SMALL_ALIKE, {}, ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4"]),
        (
            SMALL_UNLIKE,
            {"test_size": 0.2, "seed": 1},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 2 --test-size 0.2 --seed 1",
             "featx evaluate 'my photos.featx' 'my photos.h5'"],
        ),
        (
            LARGE_ALIKE,
            {"column": "split_0"},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4 --head softmax --split-column split_0",
             "featx evaluate 'my photos.featx' 'my photos.h5'",
             "featx finetune 'my photos.featx' 'my photos.h5' -o 'my photos-tuned.featx' --root IMAGES "
             "--unfreeze block4"],
        ),
        (
            LARGE_UNLIKE,
            {},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4 --head softmax",
             "featx finetune 'my photos.featx' 'my photos.h5' -o 'my photos-tuned.featx' --root IMAGES --unfreeze all"],
        ),
    ],
    ids=[case.name for case in (SMALL_ALIKE, SMALL_UNLIKE, LARGE_ALIKE, LARGE_UNLIKE)],
)  # fmt: skip
def test_a_case_has_its_blocks_and_its_commands(case, selection, lines):
    chosen = blocks_of(case, DRAWINGS)
    assert list(commands_of(case, chosen, "softmax", "my photos.h5", selection, None)) == lines


def test_of_depths_that_are_as_good_alike_images_get_deep_ones_and_unlike_ones_early_ones():
    tied = probed(b1=1.0, b4=1.0, b4_5=1.0, b5=1.0)
    assert [blocks_of(case, tied).blocks[-1] for case in (SMALL_ALIKE, LARGE_ALIKE, SMALL_UNLIKE)] == [5, 5, 1]
    assert blocks_of(SMALL_ALIKE, probed(b1=0.99, b4=0.9, b5=0.8)).name == "1"


def test_what_is_left_to_gain_is_no_more_than_the_error():
    said = expected_gain(LARGE_ALIKE, depth("5", 0.99), probed(b5=0.99), made_size(floor=0.02))
    assert "block 5 has 0.990" in said
    assert "1.0 points at most, of which 1.0 would remain" in said


def test_one_image_a_class_at_every_share_is_no_curve(tmp_path):
    fill(tmp_path / "photos", each=2)
    extract(tmp_path / "photos", tmp_path / "two.h5", ExtractSpec(size=32, blocks=(1,)))
    with pytest.raises(DataError, match=r"advise needs a class of 3 or more different images .* the largest has 2"):
        advise(tmp_path / "two.h5", folds=2)


def test_gain_is_measured_for_heads_and_bounded_for_fine_tuning():
    head = expected_gain(SMALL_ALIKE, PHOTOGRAPHS.best, PHOTOGRAPHS, made_size())
    assert head == "blocks 4-5 have 0.960 ± 0.010 cross-validated, +1.0 points against block 5 alone"
    tuned = expected_gain(LARGE_ALIKE, PHOTOGRAPHS.best, PHOTOGRAPHS, made_size())
    assert "can gain 4.0 points at most, of which 2.0 would remain" in tuned
    alone = probed(b5=0.9)
    assert expected_gain(SMALL_ALIKE, alone.best, alone, made_size()) == "block 5 has 0.900 ± 0.010 cross-validated"


@pytest.mark.parametrize(
    ("size", "likeness", "caveat"),
    [
        ({"score": 0.55}, {}, "size 0.55 is close to the border 0.5"),
        ({"low": 0.4, "high": 0.7}, {}, "the interval of size, 0.40 to 0.70, crosses the border 0.5"),
        ({"smallest": 6, "per_class": 8}, {}, "the smallest class has 6 images: the learning curve has as few draws"),
        ({"smallest": 20}, {}, "classes are uneven, 20 images in the smallest and 60 on average"),
        ({"forecasts": (Forecast(300, 0.96, 0.95, 0.97),)}, {}, "goes 5.0 times as far as was measured"),
        ({"forecasts": (Forecast(120, 0.8, 0.7, 0.9),)}, {}, "the forecast is wide, 0.70 to 0.90"),
        ({}, {"score": 0.45}, "likeness 0.45 is close to the border 0.5"),
        ({}, {"loss": 0.3}, r"the parts of likeness disagree (depth 0.80, loss 0.30, statistics 0.80)"),
        ({}, {"statistics": None}, "feature statistics were not compared"),
        ({}, {"loss": None, "depth": None}, "at 224 pixels block 5 has too few positions to tell likeness by depth"),
        ({}, {"loss": None, "depth": None, "last_block_loss": None}, "the store lacks block 5 or those before"),
        ({}, {"score": None}, "likeness could not be measured"),
    ],
)  # fmt: skip
def test_thin_evidence_is_said(size, likeness, caveat):
    said = caveats_of(made_size(**size), made_likeness(**likeness), DRAWINGS, 224)
    assert len(said) == 1
    assert caveat in said[0]


def test_depths_that_are_alike_are_said():
    assert caveats_of(made_size(), made_likeness(), DRAWINGS, 224) == ()
    said = caveats_of(made_size(), made_likeness(), probed(b3=0.945, b4=0.945, b5=0.95), 224)
    assert said == ("2 of 2 other depths are within one standard error of the best",)


def test_a_measurement_varies_by_its_own_images_too():
    forecast = Forecast(60, 0.9, 0.87, 0.92)
    low, high = forecast.measured_on(300)
    spread = 1.96 * np.sqrt(0.9 * 0.1 / 300)
    assert (0.9 - low) ** 2 == pytest.approx(0.03**2 + spread**2, rel=1e-3)
    assert (high - 0.9) ** 2 == pytest.approx(0.02**2 + spread**2, rel=1e-3)
    assert forecast.measured_on(10**9) == pytest.approx((0.87, 0.92), abs=1e-4)
    assert Forecast(60, 0.99, 0.98, 1.0).measured_on(10)[1] == 1


@pytest.fixture(scope="module")
def advice(shared_store) -> Advice:
    return advise(shared_store, more=40, root="photos", probed=probe(shared_store, timed=False, folds=3))


def test_advice_on_few_made_pictures(advice):
    assert advice.case == "small, unlike"
    assert (advice.size.images, advice.size.classes, advice.size.per_class) == (36, 3, 12)
    assert advice.blocks == (1,)  # colors are told apart as well by block 1 as by all
    assert advice.forecast == "there are no errors left to forecast from"
    assert "small, unlike (12 images a class" in advice.recommendation
    assert any("at 32 pixels" in caveat for caveat in advice.caveats)


def test_a_forecast_begins_at_the_fitted_curve():
    assert (
        _forecast(made_size())
        == "60 more images a class would bring 0.950, by the fitted curve, to about 0.960 (0.950–0.970)"
    )


def test_advice_is_plain_json(advice):
    document = json.loads(json.dumps(dataclasses.asdict(advice)))
    assert document["size"]["curve"][-1]["share"] == 1
    assert document["size"]["gain"]["more"] == 40
    assert set(document["likeness"]["distances"]) == set("12345")


def test_the_plane_is_drawn(advice, tmp_path, monkeypatch):
    import sys

    save_figure(plot_plane(advice), tmp_path / "plane.png")
    assert (tmp_path / "plane.png").read_bytes()[:4] == b"\x89PNG"
    unknown = dataclasses.replace(advice, likeness=made_likeness(None))
    save_figure(plot_plane(unknown), tmp_path / "plane.svg")
    assert b"small, alike" in (tmp_path / "plane.svg").read_bytes()
    assert b"likeness not measured" in (tmp_path / "plane.svg").read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EngineError, match="plots need a package"):
        plot_plane(advice)


def test_the_command_says_what_to_type_and_that_works(shared_store, tmp_path):
    store = shutil.copy(shared_store, tmp_path / "photos.h5")
    arguments = ["advise", str(store), "--test-size", "0.25", "--folds", "3"]
    result = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "plane.png")])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0].split() == ["images", "a", "class", "accuracy", "±", "s.e."]
    assert (tmp_path / "plane.png").is_file()
    lines = [line.strip() for line in result.output.splitlines() if line.startswith("  featx")]
    assert [line.split()[1] for line in lines] == ["fit", "evaluate"]
    for line in lines:
        typed = CliRunner().invoke(main, shlex.split(line)[1:])
        assert typed.exit_code == 0, typed.output
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(result.stdout)["case"] == "small, unlike"


@pytest.mark.parametrize("case", [LARGE_ALIKE, LARGE_UNLIKE], ids=["alike", "unlike"])
def test_commands_to_fine_tune_are_understood(case):
    line = commands_of(case, PHOTOGRAPHS.best, "softmax", "photos.h5", {}, "photos")[-1]
    with finetune.command.make_context("finetune", shlex.split(line)[2:]) as context:
        assert context.params["root"] == "photos"
        assert context.params["unfreeze"] in ("block5", "all")


def test_what_cannot_be_advised_on(shared_store, photos, tmp_path, oxford):
    with pytest.raises(DataError, match="--more of advise must be 1 or more, got 0"):
        advise(shared_store, more=0)
    rows = [f"{path.relative_to(photos)},{path.parent.name}|all" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    with pytest.raises(DataError, match=r"advise takes one label an image, but images of .* have several"):
        advise(tmp_path / "m.h5")
