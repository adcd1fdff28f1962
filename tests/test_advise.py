"""Advice on transfer learning: size, similarity, the four cases, their commands and the caveats."""

import dataclasses
import json
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import fill
from PIL import Image
from sklearn.datasets import load_sample_image

from featx.cli import finetune
from featx.cli.group import main
from featx.curation import load_features
from featx.drawing import save_figure
from featx.errors import DataError, EngineError
from featx.extraction import extract
from featx.inspection import advise, plot_plane, probe
from featx.inspection.advice.advisor import Advice, _describe_forecast
from featx.inspection.advice.cases import CASES, choose_depth, describe_gain, find_case, list_commands
from featx.inspection.advice.caveats import list_caveats
from featx.inspection.advice.dataset_size import DatasetSize, Forecast, Gain
from featx.inspection.advice.learning_curve import CurvePoint
from featx.inspection.advice.similarity import (
    Similarity,
    distances_from_photographs,
    feature_statistics,
    measure_similarity,
)
from featx.inspection.advice.thresholds import DISTANCE
from featx.inspection.depth_probe import Depth, ProbeReport
from featx.spec import ExtractSpec

SMALL_SIMILAR, LARGE_SIMILAR, SMALL_DIFFERENT, LARGE_DIFFERENT = CASES


def make_depth(name, mean, error=0.01):
    blocks = tuple(range(int(name[0]), int(name[-1]) + 1))
    return Depth(name, blocks, 1.0, mean, error, 0.0, blocks[-1] / 5, None, 4)


def make_probe(rows=1000, **means):
    """A probe report with the mean accuracy of each depth; ``b4_5`` stands for blocks 4-5."""
    depths = tuple(make_depth(name.strip("b").replace("_", "-"), mean) for name, mean in means.items())
    return ProbeReport("photos.h5", "softmax", "accuracy", rows, depths)


PHOTOGRAPHS = make_probe(b3=0.8, b4=0.9, b5=0.95, b4_5=0.96)
DRAWINGS = make_probe(b2=0.955, b3=0.96, b4=0.9, b5=0.8, b3_4=0.965)


def make_size(score=0.7, **changes):
    point, gain = CurvePoint(1.0, 60, 0.95, 0.01, (0.95,) * 10), Gain(60, 0.01, 0.005, 0.02)
    size = DatasetSize(score, score, score, 0.6, 0.7, 1000, 10, 60, 60, (point,), 0.02, 0.5, 0.6, gain, gain,
                (Forecast(60, 0.95, 0.94, 0.96), Forecast(120, 0.96, 0.95, 0.97)))  # fmt: skip
    return dataclasses.replace(size, **changes)


def make_similarity(score=0.8, **changes):
    return dataclasses.replace(Similarity(score, score, score, score, "4-5", "4-5", -0.05, {}), **changes)


@pytest.mark.slow
def test_photographs_are_near_the_reference_and_drawn_images_are_far(shared_store, tmp_path):
    """The photographs are crops of scikit-learn's temple and flower, neither of which is in the reference."""
    rng, paths = np.random.default_rng(0), []
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        for number in range(12):
            top, left = rng.integers(0, np.array(photo.shape[:2]) - 200)
            paths.append(tmp_path / f"{name}-{number}.png")
            Image.fromarray(photo[top : top + 200, left : left + 200]).save(paths[-1])
    extract(paths, tmp_path / "near.h5", ExtractSpec(size=64))
    near, far = (load_features(path, pools="avg") for path in (tmp_path / "near.h5", shared_store))
    near, far = (distances_from_photographs(data.spec, data.data) for data in (near, far))
    assert list(near) == list(far) == [1, 2, 3, 4, 5]
    assert np.mean(list(near.values())) < 1 < DISTANCE < np.mean(list(far.values()))


def test_feature_statistics_are_those_of_normalized_rows():
    rows = np.array([[4.0, 0], [0, 9]], "f4")
    assert feature_statistics(rows) == {"mean": [0.5, 0.5], "spread": pytest.approx(np.sqrt(0.5), abs=1e-4)}


@pytest.mark.parametrize(
    "change", [{"backbone_digest": "f" * 64}, {"pools": ("max",)}], ids=["another backbone", "no avg pooling"]
)
def test_features_that_the_reference_lacks_are_not_compared(shared_store, change):
    spec = dataclasses.replace(load_features(shared_store).spec, **change)
    assert distances_from_photographs(spec, np.ones((3, sum(spec.widths.values())))) == {}


@pytest.mark.parametrize(
    ("report", "distance", "size", "depth", "last_block", "statistics"),
    [
        (PHOTOGRAPHS, 0.0, 224, 1, 0.79, 1),
        (DRAWINGS, 3.0, 224, 0, 0.04, 0.2),
        (DRAWINGS, 1.5, 64, None, None, 0.5),
        (make_probe(b1=0.8, b2=0.9, b1_2=0.9), 1.5, 224, None, None, 0.5),
        (make_probe(b5=0.9), 1.5, 224, None, None, 0.5),
        (make_probe(b2=1.0, b4=1.0, b5=1.0, b4_5=1.0), 0.0, 224, None, 0.5, 1),
    ],
    ids=["photographs", "drawings", "too few pixels", "no block 5", "only block 5", "all at the ceiling"],
)
def test_similarity_is_the_mean_of_the_measured_parts(report, distance, size, depth, last_block, statistics):
    similarity = measure_similarity(report, dict.fromkeys(range(1, 6), distance), size)
    assert (similarity.depth, similarity.statistics) == (depth, pytest.approx(statistics))
    assert similarity.last_block == (last_block if last_block is None else pytest.approx(last_block, abs=0.01))
    assert similarity.score == pytest.approx(np.mean(list(similarity.parts.values())))


def test_a_data_set_counts_as_similar_if_nothing_was_measured():
    similarity = measure_similarity(make_probe(b5=0.9), {}, 224)
    assert (similarity.score, similarity.parts) == (None, {})
    assert find_case(make_size(0.2), similarity) is SMALL_SIMILAR


@pytest.mark.parametrize(
    ("size", "similarity", "case"),
    [(0.2, 0.9, SMALL_SIMILAR), (0.6, 0.5, LARGE_SIMILAR), (0.49, 0.2, SMALL_DIFFERENT), (0.5, 0.49, LARGE_DIFFERENT)],
)
def test_the_scores_decide_the_case(size, similarity, case):
    assert find_case(make_size(size), make_similarity(similarity)) is case


@pytest.mark.parametrize(
    ("case", "selection", "lines"),
    [
        (SMALL_SIMILAR, {}, ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4"]),
        (
            SMALL_DIFFERENT,
            {"test_size": 0.2, "seed": 1},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 2 --test-size 0.2 --seed 1",
             "featx evaluate 'my photos.featx' 'my photos.h5'"],
        ),
        (
            LARGE_SIMILAR,
            {"column": "split_0"},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4 --head softmax --split-column split_0",
             "featx evaluate 'my photos.featx' 'my photos.h5'",
             "featx finetune 'my photos.featx' 'my photos.h5' -o 'my photos-tuned.featx' --root IMAGES "
             "--unfreeze block4"],
        ),
        (
            LARGE_DIFFERENT,
            {},
            ["featx fit 'my photos.h5' -o 'my photos.featx' --blocks 3-4 --head softmax",
             "featx finetune 'my photos.featx' 'my photos.h5' -o 'my photos-tuned.featx' --root IMAGES --unfreeze all"],
        ),
    ],
    ids=[case.name for case in (SMALL_SIMILAR, SMALL_DIFFERENT, LARGE_SIMILAR, LARGE_DIFFERENT)],
)  # fmt: skip
def test_each_case_has_its_blocks_and_commands(case, selection, lines):
    chosen = choose_depth(case, DRAWINGS)
    assert list(list_commands(case, chosen, "softmax", "my photos.h5", selection, None)) == lines


def test_among_equally_good_depths_similar_images_get_late_blocks_and_different_ones_early_blocks():
    tied = make_probe(b1=1.0, b4=1.0, b4_5=1.0, b5=1.0)
    assert [choose_depth(case, tied).blocks[-1] for case in (SMALL_SIMILAR, LARGE_SIMILAR, SMALL_DIFFERENT)] == [
        5,
        5,
        1,
    ]
    assert choose_depth(SMALL_SIMILAR, make_probe(b1=0.99, b4=0.9, b5=0.8)).name == "1"


def test_the_expected_gain_is_at_most_the_error():
    said = describe_gain(LARGE_SIMILAR, make_depth("5", 0.99), make_probe(b5=0.99), make_size(floor=0.02))
    assert "block 5 reaches 0.990" in said
    assert "at most 1.0 points, of which 1.0 would remain" in said


def test_two_images_per_class_are_too_few_for_a_learning_curve(tmp_path):
    fill(tmp_path / "photos", each=2)
    extract(tmp_path / "photos", tmp_path / "two.h5", ExtractSpec(size=32, blocks=(1,)))
    with pytest.raises(
        DataError, match=r"advise needs a class with at least 3 different images .* the largest class has 2"
    ):
        advise(tmp_path / "two.h5", folds=2)


def test_the_gain_of_a_head_is_measured_and_that_of_fine_tuning_is_bounded():
    head = describe_gain(SMALL_SIMILAR, PHOTOGRAPHS.best, PHOTOGRAPHS, make_size())
    assert head == "blocks 4-5 reach 0.960 ± 0.010 in cross-validation, +1.0 points compared with block 5 alone"
    tuned = describe_gain(LARGE_SIMILAR, PHOTOGRAPHS.best, PHOTOGRAPHS, make_size())
    assert "can gain at most 4.0 points, of which 2.0 would remain" in tuned
    alone = make_probe(b5=0.9)
    assert (
        describe_gain(SMALL_SIMILAR, alone.best, alone, make_size())
        == "block 5 reaches 0.900 ± 0.010 in cross-validation"
    )


@pytest.mark.parametrize(
    ("size", "similarity", "caveat"),
    [
        ({"score": 0.55}, {}, "size 0.55 is close to the border 0.5"),
        ({"low": 0.4, "high": 0.7}, {}, "the interval of size, 0.40 to 0.70, includes the border 0.5"),
        ({"smallest_class": 6, "per_class": 8}, {}, "the smallest class has 6 images, so the learning curve has only"),
        ({"smallest_class": 20}, {}, "class sizes differ, 20 images in the smallest class and 60 on average"),
        ({"forecasts": (Forecast(300, 0.96, 0.95, 0.97),)}, {}, "goes 5.0 times as far as the measurements"),
        ({"forecasts": (Forecast(120, 0.8, 0.7, 0.9),)}, {}, "the forecast is wide, 0.70 to 0.90"),
        ({}, {"score": 0.45}, "similarity 0.45 is close to the border 0.5"),
        ({}, {"last_block": 0.3}, r"the parts of similarity disagree (depth 0.80, last block 0.30, statistics 0.80)"),
        ({}, {"statistics": None}, "feature statistics were not compared"),
        ({}, {"last_block": None, "depth": None}, "at 224 pixels block 5 has too few positions to measure similar"),
        ({}, {"last_block": None, "depth": None, "last_block_gap": None}, "the store has not both block 5 and earlier"),
        ({}, {"score": None}, "similarity could not be measured"),
    ],
)  # fmt: skip
def test_each_reason_to_doubt_is_a_caveat(size, similarity, caveat):
    (found,) = list_caveats(make_size(**size), make_similarity(**similarity), DRAWINGS, 224)
    assert caveat in found


def test_depths_of_equal_accuracy_are_a_caveat():
    assert list_caveats(make_size(), make_similarity(), DRAWINGS, 224) == ()
    found = list_caveats(make_size(), make_similarity(), make_probe(b3=0.945, b4=0.945, b5=0.95), 224)
    assert found == ("2 of 2 other depths are within one standard error of the best",)


def test_the_interval_of_a_test_includes_its_sampling_error():
    forecast = Forecast(60, 0.9, 0.87, 0.92)
    low, high = forecast.measured_on(300)
    spread = 1.96 * np.sqrt(0.9 * 0.1 / 300)
    assert (0.9 - low) ** 2 == pytest.approx(0.03**2 + spread**2, rel=1e-3)
    assert (high - 0.9) ** 2 == pytest.approx(0.02**2 + spread**2, rel=1e-3)
    assert forecast.measured_on(10**9) == pytest.approx((0.87, 0.92), abs=1e-4)
    assert Forecast(60, 0.99, 0.98, 1.0).measured_on(10)[1] == 1


def test_an_advice_prints_the_recommendation_its_commands_and_caveats(advice):
    lines = repr(advice).splitlines()
    assert lines[0] == f"Advice({advice.recommendation})"
    assert lines[1].startswith("  featx fit ")
    assert lines[-1] == f"  caveat: {advice.caveats[-1]}"


@pytest.fixture(scope="module")
def advice(shared_store) -> Advice:
    return advise(shared_store, more=40, root="photos", probed=probe(shared_store, timed=False, folds=3))


def test_advice_on_a_few_drawn_images(advice):
    assert advice.case == "small, different"
    assert (advice.size.images, advice.size.classes, advice.size.per_class) == (36, 3, 12)
    assert advice.blocks == (1,)  # block 1 separates colors as well as any other block
    assert advice.forecast == "no forecast, because the head makes no errors"
    assert re.match(r"small, different \(size 0\.\d\d: 12 images per class, twice as many", advice.recommendation)
    assert any("at 32 pixels" in caveat for caveat in advice.caveats)


def test_a_forecast_starts_from_the_fitted_curve():
    assert (
        _describe_forecast(make_size())
        == "60 more images per class would raise accuracy from 0.950 (by the fitted curve) to about 0.960 (0.950–0.970)"
    )


def test_advice_can_be_written_as_json(advice):
    document = json.loads(json.dumps(dataclasses.asdict(advice)))
    assert document["size"]["curve"][-1]["fraction"] == 1
    assert document["size"]["gain"]["more"] == 40
    assert set(document["similarity"]["distances"]) == set("12345")


def test_the_plane_can_be_drawn(advice, tmp_path, monkeypatch):
    save_figure(plot_plane(advice), tmp_path / "plane.png")
    assert (tmp_path / "plane.png").read_bytes()[:4] == b"\x89PNG"
    unknown = dataclasses.replace(advice, similarity=make_similarity(None))
    save_figure(plot_plane(unknown), tmp_path / "plane.svg")
    assert b"small, similar" in (tmp_path / "plane.svg").read_bytes()
    assert b"similarity not measured" in (tmp_path / "plane.svg").read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EngineError, match="plots need a package"):
        plot_plane(advice)


@pytest.mark.slow
def test_the_commands_of_the_advice_can_be_run(shared_store, tmp_path):
    store = shutil.copy(shared_store, tmp_path / "photos.h5")
    arguments = ["advise", str(store), "--test-size", "0.25", "--folds", "3"]
    result = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "plane.png")])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0].split() == ["images", "per", "class", "accuracy", "±", "s.e."]
    assert (tmp_path / "plane.png").is_file()
    lines = [line.strip() for line in result.output.splitlines() if line.startswith("  featx")]
    assert [line.split()[1] for line in lines] == ["fit", "evaluate"]
    for line in lines:
        typed = CliRunner().invoke(main, shlex.split(line)[1:])
        assert typed.exit_code == 0, typed.output
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(result.stdout)["case"] == "small, different"


@pytest.mark.parametrize("case", [LARGE_SIMILAR, LARGE_DIFFERENT], ids=["similar", "different"])
def test_the_fine_tuning_commands_are_valid(case):
    line = list_commands(case, PHOTOGRAPHS.best, "softmax", "photos.h5", {}, "photos")[-1]
    with finetune.command.make_context("finetune", shlex.split(line)[2:]) as context:
        assert context.params["root"] == "photos"
        assert context.params["unfreeze"] in ("block5", "all")


def test_bad_options_and_multi_label_stores_are_refused(shared_store, photos, tmp_path, oxford):
    with pytest.raises(DataError, match="--more of advise must be at least 1, got 0"):
        advise(shared_store, more=0)
    rows = [f"{path.relative_to(photos)},{path.parent.name}|all" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    with pytest.raises(DataError, match=r"advise needs one label per image, but .* is multi-label"):
        advise(tmp_path / "m.h5")
