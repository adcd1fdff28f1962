import dataclasses
import json
import shutil
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import cross_val_score

from featx.cli.group import main
from featx.engines.depth_cost import time_depths
from featx.errors import DataError, EngineError, SpecError, WeightsError
from featx.extraction import extract
from featx.heads.logme import log_maximum_evidence
from featx.heads.pipeline.linear_heads import make_head
from featx.heads.splitting.folds import make_folds
from featx.inspection.depth_probe import Depth, ProbeReport, plot_probe, probe
from featx.models.training_rows import read_training_rows
from featx.runtime import Compute
from featx.spec.extract_spec import ExtractSpec


def two_classes(rows, columns, spread, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], rows // 2)
    return rng.standard_normal((rows, columns)) + spread * y[:, np.newaxis], y


@pytest.mark.parametrize(("rows", "columns"), [(60, 8), (20, 50)], ids=["more rows", "more columns"])
def test_logme_is_the_evidence_of_bayesian_ridge(rows, columns):
    X, y = two_classes(rows, columns, 0.5)
    ridge = BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, compute_score=True, max_iter=3000, tol=1e-12
    )
    scores = [ridge.fit(X, y == label).scores_[-1] / rows for label in (0, 1)]
    assert log_maximum_evidence(X, y) == pytest.approx(np.mean(scores), rel=1e-3)


def test_logme_rises_with_the_distance_of_the_classes():
    scores = [log_maximum_evidence(*two_classes(100, 10, spread)) for spread in (0, 0.5, 2)]
    assert scores == sorted(scores)


def test_every_range_of_blocks_is_scored_as_by_scikit_learn(shared_store):
    report = probe(shared_store, timed=False, folds=3)
    assert [depth.name for depth in report.depths][:4] == ["1", "2", "1-2", "3"]
    assert len(report.depths) == 15
    assert all(depth.milliseconds is None for depth in report.depths)
    by_name = {depth.name: depth for depth in report.depths}
    assert by_name["1-5"].bytes == 2 * 4 * 1472
    assert by_name["5"].arithmetic == by_name["1-5"].arithmetic == 1
    rows = read_training_rows(shared_store, blocks=(3,))
    head = make_head("softmax", by_name["3"].C, widths=tuple(rows.spec.widths.values()))
    scores = cross_val_score(head, rows.X, rows.y, cv=make_folds(rows.y, rows.groups, 3))
    assert by_name["3"].mean == pytest.approx(scores.mean(), abs=0.01)


def depth(name, mean, error=0.01):
    blocks = tuple(range(int(name[0]), int(name[-1]) + 1))
    return Depth(name, blocks, 1.0, mean, error, 0.0, blocks[-1] / 5, None, 4)


@pytest.mark.parametrize(
    ("means", "choice", "advice"),
    [
        (
            {"3": 0.8, "4": 0.895, "5": 0.9},
            "4",
            "the range 4 loses 0.5 points against 5, the best, and needs 80% of its arithmetic",
        ),
        (
            {"3": 0.8, "4": 0.85, "5": 0.9},
            "5",
            "the range 5 is the best, and no shallower one comes within one standard error of it",
        ),
    ],
)
def test_the_one_standard_error_choice_is_the_shallowest(means, choice, advice):
    depths = tuple(depth(name, mean) for name, mean in means.items())
    report = ProbeReport("photos.h5", "softmax", "accuracy", 100, depths)
    assert (report.best.name, report.one_se.name) == ("5", choice)
    assert report.advice.startswith(advice)


def test_a_report_is_short_and_shows_a_table_in_notebooks():
    depths = tuple(depth(name, mean) for name, mean in {"4": 0.895, "5": 0.9, "4-5": 0.899}.items())
    report = ProbeReport("<photos>.h5", "softmax", "accuracy", 100, depths)
    assert repr(report).splitlines() == [
        "ProbeReport of <photos>.h5: softmax, accuracy on 100 images",
        "  4         0.8950 ± 0.0100",
        "  5         0.9000 ± 0.0100",
        "  4-5       0.8990 ± 0.0100",
        f"  {report.advice}",
    ]
    table = ElementTree.fromstring(report._repr_html_())
    assert [row[0].text for row in table.iter("tr")] == ["blocks", "4", "5", "4-5"]
    assert table.find("caption").text == report.advice


def test_the_plot_shows_the_best_range_at_each_block_with_its_cost():
    means = {"4": 0.8, "5": 0.85, "4-5": 0.9}
    report = ProbeReport("photos.h5", "softmax", "accuracy", 100, tuple(depth(*item) for item in means.items()))
    (axes,) = plot_probe(report).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["block 4\n80%", "block 5\n100%"]
    assert [text.get_text() for text in axes.texts] == ["4", "4-5"]
    assert axes.lines[0].get_ydata().tolist() == [0.8, 0.85]
    assert axes.lines[1].get_ydata().tolist() == [0.8, 0.9]


def test_block_1_suffices_to_classify_colors(tmp_path, oxford):
    from conftest import fill

    extract(fill(tmp_path / "photos", each=10), tmp_path / "photos.h5", ExtractSpec(size=32))
    report = probe(tmp_path / "photos.h5", timed=False)
    assert report.one_se.blocks[-1] == 1


def test_deeper_blocks_take_longer(oxford):
    seconds = time_depths(ExtractSpec(size=96).with_backbone(oxford.name, oxford.digest, oxford.preprocessing), "cpu")
    assert list(seconds) == [1, 2, 3, 4, 5]
    assert 0 < seconds[1] < seconds[5]


def test_the_command_prints_a_table_draws_and_prints_json(shared_store, tmp_path):
    result = CliRunner().invoke(main, ["probe", str(shared_store), "--plot", str(tmp_path / "p.png"), "--folds", "2"])
    assert result.exit_code == 0, result.output
    columns = ["blocks", "accuracy", "±", "s.e.", "LogME", "arithmetic", "ms", "bytes"]
    assert result.output.splitlines()[0].split() == columns
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    result = CliRunner().invoke(main, ["probe", str(shared_store), "--no-time", "--json", "--folds", "2"])
    document = json.loads(result.stdout)
    assert document["depths"][0]["milliseconds"] is None
    assert document["advice"].startswith("the range ")


def test_missing_weights_can_be_ignored_without_timing(shared_store, tmp_path):
    shutil.copy(shared_store, tmp_path / "tuned.h5")
    with h5py.File(tmp_path / "tuned.h5", "r+") as file:
        spec = ExtractSpec.from_json(file.attrs["spec"])
        file.attrs["spec"] = dataclasses.replace(spec, backbone="finetuned").to_json()
    with pytest.raises(WeightsError, match=r"got finetuned; .*; or skip the timing with --no-time$"):
        probe(tmp_path / "tuned.h5", folds=2)
    assert probe(tmp_path / "tuned.h5", folds=2, timed=False).depths


def test_augmented_copies_do_not_count_as_images(photos, tmp_path):
    for views in (1, 3):
        spec = ExtractSpec(size=32, blocks=(1, 2), n_views=views, augment="flip,rotate=5" if views > 1 else "")
        extract(photos, tmp_path / f"{views}.h5", spec)
    assert probe(tmp_path / "1.h5", timed=False).rows == probe(tmp_path / "3.h5", timed=False).rows == 24


def test_plots_need_matplotlib(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = ProbeReport("photos.h5", "softmax", "accuracy", 1, (depth("5", 0.9),))
    with pytest.raises(EngineError, match=r"plots need a package: pip install 'featx\[plot\]'"):
        plot_probe(report)


def test_a_multi_label_store_is_refused(tmp_path, photos, oxford):
    rows = [f"{path.relative_to(photos)},{path.parent.name}|all" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    with pytest.raises(DataError, match=r"probe takes one label per image, but images of .* have several"):
        probe(tmp_path / "m.h5", timed=False)


def test_depths_are_timed_with_one_image_per_core(oxford, monkeypatch):
    monkeypatch.setattr("featx.engines.depth_cost.cpu_count", lambda: 3)
    asked = []

    def make(weights, spec, device, batch_size, engine):
        return lambda images: asked.append((batch_size, len(images)))

    monkeypatch.setattr("featx.engines.depth_cost.make_engine", make)
    spec = ExtractSpec(size=32, blocks=(1,)).with_backbone(oxford.name, oxford.digest, oxford.preprocessing)
    time_depths(spec, rounds=2)
    assert asked == [(3, 3)] * 3


def test_fields_of_compute_without_effect_are_refused():
    with pytest.raises(SpecError, match="batch_size of Compute is not supported by probe, got 4; leave it out"):
        probe("none.h5", compute=Compute(batch_size=4))
