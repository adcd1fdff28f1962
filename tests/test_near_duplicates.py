"""Near-duplicates: found by whitened features, counted across folds, and kept together on request."""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featx.cli.group import main
from featx.curation.dataset import load_features
from featx.errors import FeatxWarning
from featx.extraction import extract
from featx.heads import near_duplicates
from featx.heads.near_duplicates import NEIGHBORS, find_near_duplicates
from featx.models.evaluation import evaluate
from featx.models.fit_options import Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.row_groups import GroupOptions
from featx.models.training_rows import read_training_rows
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

pytestmark = pytest.mark.core

SCENES, SHOTS = 16, 4
HEAD = {"head": "linear-svc", "C": 1.0, "blocks": (3, 4)}


def draw_scene(seed, size=(96, 72)):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


@pytest.fixture(scope="session")
def bursts(tmp_path_factory, oxford):
    """A store of scenes, each photographed several times; a scene has one of two labels, at random."""
    root = tmp_path_factory.mktemp("bursts")
    labels = np.random.default_rng(0).permutation(["a", "b"] * (SCENES // 2))
    for scene, label in enumerate(labels):
        (root / "photos" / label).mkdir(parents=True, exist_ok=True)
        for shot in range(SHOTS):
            draw_scene(scene).save(root / "photos" / label / f"{scene:02}_{shot}.jpg", quality=70 + 5 * shot)
    extract(root / "photos", root / "bursts.h5", ExtractSpec(size=48))
    return root / "bursts.h5"


def scenes_of(store):
    with Store(store) as opened:
        return np.array([path.split("/")[1][:2] for path in opened.paths])


def test_fit_counts_near_duplicates_in_other_folds_and_keeps_them_together_on_request(bursts, tmp_path):
    """The labels are random, so the true accuracy is one half."""
    with pytest.warns(FeatxWarning, match=r"^64 of 64 images have near-duplicates in other folds \(cosine ≥ 0\.\d\d\)"):
        flattered = fit(bursts, **HEAD)
    honest = fit(bursts, tmp_path / "m.featx", validation=Validation(group_near_duplicates=True), **HEAD)
    assert flattered.info["search"]["best"]["mean"] == 1
    assert honest.info["search"]["best"]["mean"] < 0.7
    assert flattered.info["near_duplicates"]["images"] == flattered.info["near_duplicates"]["of"] == SCENES * SHOTS
    assert load_model(tmp_path / "m.featx").info["groups"] == {
        "column": "none", "source": "none", "near_duplicates": True, "count": SCENES,
    }  # fmt: skip
    assert "near_duplicates" not in honest.info


def test_groups_of_near_duplicates_are_the_scenes(bursts):
    rows = read_training_rows(bursts, groups=GroupOptions(near_duplicates=True))
    scenes = scenes_of(bursts)
    assert len(np.unique(rows.groups)) == SCENES
    assert len(set(zip(rows.groups.tolist(), scenes.tolist(), strict=True))) == SCENES


def test_a_hold_out_keeps_near_duplicates_together(bursts, tmp_path):
    validation = Validation(test_size=0.25, group_near_duplicates=True)
    model = fit(bursts, tmp_path / "m.featx", validation=validation, **HEAD)
    rows = read_training_rows(bursts, test_size=0.25, groups=GroupOptions(near_duplicates=True))
    scenes = scenes_of(bursts)
    held = np.setdiff1d(np.arange(len(scenes)), rows.row_index)
    assert len(held) == SCENES * SHOTS // 4
    assert not {*scenes[held]} & {*scenes[rows.row_index]}
    assert evaluate(model, bursts)["n"] == len(held)


def test_the_command_says_it_and_offers_the_option(bursts, tmp_path):
    def run(*options):
        arguments = [
            "fit",
            str(bursts),
            "-o",
            str(tmp_path / "m.featx"),
            "--overwrite",
            "--head",
            "softmax",
            "--C",
            "1",
        ]
        result = CliRunner().invoke(main, [*arguments, "--blocks", "3", *options])
        assert result.exit_code == 0, result.output
        return result

    plain = run()
    assert plain.stderr.startswith("Warning: 64 of 64 images have near-duplicates in other folds (cosine ≥ 0.")
    assert plain.stderr.endswith("so scores may be too high; --group-near-duplicates keeps them together\n")
    info = CliRunner().invoke(main, ["info", str(tmp_path / "m.featx")]).stdout
    assert "near-duplicates in other folds: 64 of 64 images\n" in info
    grouped = run("--group-near-duplicates")
    assert grouped.stderr == ""
    assert grouped.stdout.endswith(f"64 rows, groups: {SCENES} by near-duplicates\n")
    assert "groups: 16 by near-duplicates\n" in CliRunner().invoke(main, ["info", str(tmp_path / "m.featx")]).stdout
    assert json.loads(run("--group-near-duplicates", "--json").stdout)["groups"]["count"] == SCENES


def test_images_of_one_class_are_no_near_duplicates(shared_store):
    """The images of each class have one color and random pixels."""
    data = load_features(shared_store, pools="avg")
    assert not len(find_near_duplicates(data.data, list(data.spec.widths.values())).pairs)


def random_rows(count, columns=40, seed=0):
    return np.abs(np.random.default_rng(seed).standard_normal((count, columns))).astype(np.float32)


@pytest.mark.parametrize(("count", "columns"), [(36, 64), (80, 40), (200, 40), (60, 500), (100, 10), (5000, 30)])
def test_a_near_duplicate_among_random_rows_is_found(count, columns):
    """There are fewer rows than columns, or more; few columns make high cosines likely by chance."""
    X = random_rows(count, columns)
    X[7] = X[3] + 1e-4
    found = find_near_duplicates(X)
    assert found.pairs.tolist() == [[3, 7]]
    assert found.cosines[0] == pytest.approx(1, abs=1e-4)
    assert found.min_cosine < 0.999
    assert found.groups[3] == found.groups[7]
    assert len(np.unique(found.groups)) == count - 1
    assert found.checked.tolist() == list(range(count))


def test_all_copies_are_found_if_every_row_has_one():
    half = random_rows(60)
    found = find_near_duplicates(np.concatenate([half, half * np.float32(1.0001)]))
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(row, row + 60) for row in range(60)}
    assert len(np.unique(found.groups)) == 60


def test_many_equal_rows_are_one_group_with_few_listed_pairs():
    X = np.concatenate([random_rows(40, seed=1), np.tile(random_rows(1), (100, 1))])
    found = find_near_duplicates(X)
    assert len(np.unique(found.groups[40:])) == 1
    assert len(np.unique(found.groups)) == 41
    assert len(found.pairs) <= 100 * NEIGHBORS
    alone = find_near_duplicates(np.tile(random_rows(1), (40, 1)))
    assert len(np.unique(alone.groups)) == 1


def test_few_rows_have_no_near_duplicates():
    X = np.tile(random_rows(1), (near_duplicates.MIN_ROWS - 1, 1))
    found = find_near_duplicates(X)
    assert found.groups.tolist() == list(range(len(X)))
    assert found.pairs.shape == (0, 2)


def test_rows_in_blocks_give_the_same_result(monkeypatch):
    X = random_rows(300)
    X[100:150] = X[:50] + 1e-4
    whole = find_near_duplicates(X)
    monkeypatch.setattr(near_duplicates, "_BLOCK_VALUES", 1000)
    blocks = find_near_duplicates(X)
    monkeypatch.setattr(near_duplicates, "MAX_ROWS", 10)
    streamed = find_near_duplicates(X)
    for other in (blocks, streamed):
        assert {*map(tuple, other.pairs.tolist())} == {*map(tuple, whole.pairs.tolist())}
        np.testing.assert_array_equal(other.groups, whole.groups)
        np.testing.assert_allclose(np.sort(other.cosines), np.sort(whole.cosines), atol=1e-5)


def test_of_very_many_rows_a_sample_is_checked(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_ROWS", 100)
    X = random_rows(400)
    X[200:] = X[:200] + 1e-4
    found = find_near_duplicates(X, sample=True)
    assert len(found.checked) == 25
    parts = np.repeat([0, 1], 200)
    assert found.divided_by(parts).tolist() == found.checked.tolist()
    assert not len(found.divided_by(np.zeros(400, int)))


def test_rows_are_divided_only_from_their_own_near_duplicates():
    X = random_rows(60)
    X[[1, 3]] = X[[0, 2]] + 1e-4
    parts = np.zeros(60, int)
    parts[[1, 10]] = 1
    assert find_near_duplicates(X).divided_by(parts).tolist() == [0, 1]


def test_wide_rows_are_sampled_by_column(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_MAX_COLUMNS", 100)
    X = random_rows(80, 300)
    X[7] = X[3] + 1e-4
    assert find_near_duplicates(X).pairs.tolist() == [[3, 7]]


@pytest.mark.slow
def test_thousands_of_rows_take_seconds():
    X = random_rows(8000, 256)
    start = time.process_time()
    find_near_duplicates(X)
    assert time.process_time() - start < 60
