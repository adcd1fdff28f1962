import base64
import csv
import dataclasses
import json
import shlex
import sys
from datetime import date
from io import BytesIO

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import HOSTILE_CLASS, fill
from PIL import Image
from sklearn import clone
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import cross_val_predict
from torch import nn

from featx import load_features, load_model
from featx.backbones.loading import add_backbone
from featx.backbones.registry import BACKBONES
from featx.cli.group import main
from featx.engines.finetuned import save_finetuned
from featx.errors import DataError, EngineError, ListingError, ModelError, SpecError, StoreError
from featx.extraction import extract
from featx.finetuning.finetuned_model import finetune
from featx.finetuning.recipe import Recipe
from featx.finetuning.stage import ValidationScore
from featx.finetuning.training_log import TrainingLog
from featx.heads.metrics.multiclass import score_report
from featx.heads.splitting.folds import make_folds
from featx.images.loading import THUMBNAIL_SIDE
from featx.inspection.html_report.inputs import MAX_LOGS, open_context
from featx.inspection.html_report.page import encode_thumbnails
from featx.inspection.html_report.section import percent, sentence
from featx.inspection.html_report.sections import classes
from featx.inspection.html_report.sections.accuracy import bootstrap, make_accuracy, wilson
from featx.inspection.html_report.sections.classes import make_confusion
from featx.inspection.html_report.sections.commands import make_commands
from featx.inspection.html_report.sections.extraction import make_extraction
from featx.inspection.html_report.sections.image_map import make_image_map
from featx.inspection.html_report.sections.images import make_mistakes
from featx.inspection.html_report.sections.reliability import make_reliability
from featx.inspection.html_report.sections.transfer import make_depth, make_finetuning
from featx.inspection.html_report.unseen import read_decisions
from featx.inspection.html_report.writer import report
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.torch_bridge import from_torch
from featx.spec.extract_spec import ExtractSpec
from featx.spec.value_range import ValueRange


@pytest.fixture(scope="module")
def context(hostile_model):
    return open_context(hostile_model, root=hostile_model.parent / "images")


def test_shares_are_formatted_as_percent_and_sentences_begin_with_a_capital():
    assert percent(0.9384) == "93.8\N{NO-BREAK SPACE}%"
    assert percent(0.5, 0) == "50\N{NO-BREAK SPACE}%"
    assert sentence("macro F1") == "Macro F1"
    assert sentence("") == ""


# Confidence intervals


def test_the_interval_of_a_share_is_wilsons():
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I: 81 of 263, 15 of 148."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_the_bootstrap_agrees_with_a_loop_that_draws_images():
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], (30, 20, 10))
    guess = np.where(rng.random(60) < 0.75, truth, (truth + 1) % 3)
    found = bootstrap(np.array(score_report(truth, np.eye(3)[guess], "abc")["confusion"]))
    drawn = rng.integers(0, 60, (300, 60))
    for name, score in {
        "balanced_accuracy": balanced_accuracy_score,
        "macro_f1": lambda y, g: f1_score(y, g, average="macro"),
    }.items():
        looped = np.percentile([score(truth[rows], guess[rows]) for rows in drawn], (2.5, 97.5))
        assert found[name] == pytest.approx(looped, abs=0.04)


def test_scores_are_those_of_evaluate(context, hostile_model):
    scores = {score.name: score for score in make_accuracy(context).data.scores}
    scored = evaluate(load_model(hostile_model), context.store)
    assert scores["accuracy"].value == scored["accuracy"] == pytest.approx(10 / 12)
    assert scores["expected calibration error"].value == scored["calibration_error"]
    assert scores["expected calibration error"].interval is None
    low, high = scores["macro F1"].interval
    assert 0 < low < scores["macro F1"].value < high <= 1


# Decisions on unseen images


def test_a_model_fitted_on_all_images_is_cross_validated(shared_store, tmp_path):
    model = fit(shared_store, head="softmax", C=1, blocks=(1,), pools=("avg",))
    found = read_decisions(model, shared_store)
    data = load_features(shared_store, blocks=np.int64(1), pools="avg")
    folds = make_folds(data.target, data.groups, 5)
    names = data.target_names[data.target].astype(str)
    wanted = cross_val_predict(clone(model.estimator), data.data, names, cv=folds, method="predict_proba")
    assert found.scored.probabilities == pytest.approx(wanted, abs=1e-6)
    assert found.images.tolist() == list(range(36))
    assert found.scored.labels.tolist() == data.target.tolist()
    assert found.how == "by cross-validation on 36 images"
    assert found.confidence == pytest.approx(wanted.max(axis=1), abs=1e-6)


def test_cross_validation_uses_the_split_column_of_the_fit(photos, tmp_path, oxford):
    """Even if another column is called split."""
    paths = sorted(photos.rglob("*.png"))
    rows = [f"{path.relative_to(photos)},{path.parent.name},train,{'test' if index % 2 else 'train'}"
            for index, path in enumerate(paths)]  # fmt: skip
    for header in ("split_0,split", "split_0,split_1"):
        (tmp_path / "m.csv").write_text("\n".join([f"path,label,{header}", *rows]))
        store = tmp_path / "m.h5"
        extract(tmp_path / "m.csv", store, ExtractSpec(size=32, blocks=(1,)), root=photos, overwrite=True)
        model = fit(store, head="softmax", C=1, validation=Validation(folds=3, split_column="split_0"))
        assert read_decisions(model, store).how == "by cross-validation on 24 images"


def test_without_probabilities_the_confidence_is_the_margin_over_the_next_class(shared_store):
    found = read_decisions(fit(shared_store, head="linear-svc", C=1, blocks=(1,)), shared_store)
    assert found.scored.probabilities is None
    ranked = np.sort(found.scored.decisions, axis=1)
    assert found.confidence == pytest.approx(ranked[:, 2] - ranked[:, 1])


def test_a_model_of_two_classes_has_one_decision_per_image(tmp_path, oxford):
    folder = fill(tmp_path / "photos", each=10)
    for path in (folder / "red").iterdir():
        path.unlink()
    extract(folder, tmp_path / "two.h5", ExtractSpec(size=32, blocks=(1,)))
    found = read_decisions(fit(tmp_path / "two.h5", head="linear-svc", C=1), tmp_path / "two.h5")
    assert found.scored.decisions.ndim == 1
    assert found.predictions.tolist() == found.scored.labels.tolist()
    assert found.confidence == pytest.approx(np.abs(found.scored.decisions))


def test_the_cross_validation_uses_the_weight_column(tmp_path, photos, oxford):
    rows = [f"{path.relative_to(photos)},{path.parent.name},{1 + index % 3}"
            for index, path in enumerate(sorted(photos.rglob("*.png")))]  # fmt: skip
    (tmp_path / "m.csv").write_text("\n".join(["path,label,weight", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    model = fit(
        tmp_path / "m.h5", tmp_path / "m.featx", head="softmax", C=1e-3, options=FitOptions(weight_column="weight")
    )
    (line,) = [
        one.line for one in make_commands(open_context(tmp_path / "m.featx")).data if one.purpose == "Fit the head"
    ]
    assert "--weight-column weight" in line
    weighted = read_decisions(model, tmp_path / "m.h5").scored.decisions
    info = {name: value for name, value in model.info.items() if name != "sample_weight"}
    alike = read_decisions(dataclasses.replace(model, info=info), tmp_path / "m.h5").scored.decisions
    assert np.abs(weighted - alike).max() > 1e-4


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"finetune": {"epochs": {"backbone": 2}}},
            r"torch trained the head and backbone of the model on all images of this store",
        ),
        (
            {"sample_weight": "given"},
            r"with sample weights that are not in a column of the store, so it cannot be cross-validated",
        ),
    ],
)
def test_a_model_without_unseen_images_is_not_scored(shared_store, info, message):
    model = fit(shared_store, head="softmax", C=1, blocks=(1,))
    with pytest.raises(DataError, match=message):
        read_decisions(dataclasses.replace(model, info={**model.info, **info}), shared_store)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_model_trained_by_torch_on_all_images_is_not_scored_on_them(shared_store, oxford, hidden):
    """Also by a training loop of one's own: scikit-learn would fit another head than the model's."""
    for held in (None, 0.25):
        model = fit(shared_store, head="softmax", C=1, blocks=(1,), validation=Validation(test_size=held))
        module = model.to_torch(oxford)
        if hidden:
            module.head = nn.Sequential(nn.Linear(module.head.in_features, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.zeros_(module.head[-1].bias if hidden else module.head.bias)
        tuned, _ = from_torch(module, model, oxford)
        if held:
            assert read_decisions(tuned, shared_store).how == "on 9 images that the model was not fitted on"
        else:
            with pytest.raises(
                DataError, match=r"torch trained the head of the model on all images of this store, so no image is left"
            ):
                read_decisions(tuned, shared_store)


def test_a_store_alone_has_no_decisions(shared_store):
    with pytest.raises(DataError, match=r"a store alone has no decisions; fit a model on it"):
        read_decisions(None, shared_store)


# Stores, logs and options


def test_the_store_of_a_model_is_found_by_its_images(hostile_model, shared_store, tmp_path, monkeypatch):
    assert open_context(hostile_model).store == hostile_model.with_suffix(".h5")
    model = load_model(hostile_model)
    model.save(tmp_path / "alone.featx")
    (tmp_path / "no-store.h5").write_bytes(b"")
    (tmp_path / "damaged.h5").write_bytes(shared_store.read_bytes()[:2000])
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_dataset("x", data=[1])
    (tmp_path / "other.h5").write_bytes(shared_store.read_bytes())
    with pytest.raises(ModelError, match=r"--store of report must be given: no .h5 file beside .*alone.featx"):
        open_context(tmp_path / "alone.featx")
    monkeypatch.chdir(hostile_model.parent)
    assert open_context(tmp_path / "alone.featx").store.name == "photos.h5"


def test_among_several_stores_the_one_that_the_model_was_fitted_on_is_found(photos, tmp_path, oxford):
    """The others have the same images and earlier names, but augmented copies or no split column."""
    paths = sorted(photos.rglob("*.png"))
    plain = [f"{path.relative_to(photos)},{path.parent.name}" for path in paths]
    for name, header, rows in (
        ("m", "path,label,split", [f"{row},{'test' if index % 3 else 'train'}" for index, row in enumerate(plain)]),
        ("a", "path,label", plain),
        ("b", "path,label", [row.replace(",red", ",rouge") for row in plain]),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]))
        extract(tmp_path / f"{name}.csv", tmp_path / f"{name}.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    views = ExtractSpec(size=32, blocks=(1,), n_views=2, augment="flip")
    extract(tmp_path / "a.csv", tmp_path / "n.h5", views, root=photos)
    stores = {"split": "m", "whole": "a", "views": "n", "renamed": "b", "m": "a"}
    for name, store in stores.items():
        fit(tmp_path / f"{store}.h5", tmp_path / f"{name}.featx", head="softmax", C=1, validation=Validation(folds=2))
    chosen = {name: open_context(tmp_path / f"{name}.featx").store.stem for name in stores}
    assert chosen == {**stores, "m": "m"}, "if two match, the one with the name of the model"
    old = load_model(tmp_path / "whole.featx")
    del old.info["store_rows"]
    old.save(tmp_path / "old.featx")
    assert open_context(tmp_path / "old.featx").store.name == "a.h5"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"split_column": "nosuch"},
            SpecError,
            r"--split-column of report is for a store without a model: .* leave it out",
        ),
        (
            {"split_column": "nosuch", "store": "other"},
            DataError,
            r"--split-column of report must be .* \(none; .* got nosuch",
        ),
        ({"store": "twin"}, DataError, r"the split column of .*photos\.featx must be a column of .*twin.* got split"),
    ],
    ids=["store of the model", "other store", "no column"],
)
def test_wrong_options_for_a_model_are_refused(hostile_model, shared_store, tmp_path, options, error, message):
    twin = tmp_path / "twin.h5"
    twin.write_bytes(hostile_model.with_suffix(".h5").read_bytes())
    with h5py.File(twin, "r+") as file:
        del file["splits"]
    if "store" in options:
        options = {**options, "store": {"twin": twin, "other": shared_store}[options["store"]]}
    with pytest.raises(error, match=message):
        open_context(hostile_model, **options)


def test_wrong_options_for_a_store_are_refused(hostile_model, tmp_path):
    store = hostile_model.with_suffix(".h5")
    with pytest.raises(DataError, match=r"--split-column of report must be a column of .* \(split\), got nosuch"):
        open_context(store, split_column="nosuch")
    with pytest.raises(SpecError, match=r"--store of report is for a model, but .*photos\.h5 is a store itself"):
        open_context(store, store=store)
    with pytest.raises(
        ModelError, match=r"MODEL_OR_STORE of report must be a store or a model, but .*no\.h5 does not exist; .*fit"
    ):
        open_context(tmp_path / "no.h5")


def test_the_folder_of_the_images_is_checked(hostile_model, tmp_path):
    with pytest.raises(ListingError, match=r"--root of report must be the folder .* contains none of them"):
        open_context(hostile_model, root=tmp_path)


def test_the_images_of_another_store_that_the_model_was_not_fitted_on_are_scored(hostile_model, tmp_path):
    """In a store that shares images with the fit, those marked test; in a store with new images, all."""
    folder = hostile_model.parent
    rows = (folder / "rows.csv").read_text().splitlines()
    (tmp_path / "m.csv").write_text("\n".join([rows[0], *rows[5:]]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32), root=folder / "images")
    other = open_context(hostile_model, store=tmp_path / "m.h5")
    assert other.selection == {"split_column": None}
    assert other.decisions.how == "on 8 images that the model was not fitted on"
    fill(tmp_path / "images", each=2, first=700)
    extract(tmp_path / "images", tmp_path / "m.h5", ExtractSpec(size=32), overwrite=True)
    # The model knows two of its three classes.
    assert (
        open_context(hostile_model, store=tmp_path / "m.h5").decisions.how
        == "on 4 images that the model was not fitted on"
    )


# Sections


def test_each_confusion_cell_lists_its_images(context):
    data = make_confusion(context).data
    assert data.classes == (HOSTILE_CLASS, "green", "red")
    (pair,) = data.pairs
    assert (pair.true, pair.predicted, pair.count) == ("green", "red", 2)
    assert [context.images.labels[image] for image in pair.images] == ["green", "green"]
    assert sum(cell.count for row in data.cells for cell in row) == 12
    assert data.cells[0][0].text == f"4 images of {HOSTILE_CLASS} classified correctly"


def test_many_classes_are_shown_as_pairs_without_a_matrix(context, monkeypatch):
    monkeypatch.setattr(classes, "MAX_CLASSES", 2)
    data = make_confusion(context).data
    assert data.cells == ()
    assert len(data.pairs) == 1


def test_a_model_without_mistakes_says_so(shared_store, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=100, blocks=(1,), pools=("avg",))
    context = open_context(tmp_path / "m.featx", store=shared_store)
    assert make_mistakes(context).lead == "No image is misclassified."
    assert make_confusion(context).lead == "0 of 36 images are misclassified."


def test_mistakes_are_sorted_by_confidence_and_have_maps_if_images_are_available(context, hostile_model):
    section = make_mistakes(context)
    assert [(row.true, row.predicted) for row in section.data.rows] == [("green", "red")] * 2
    assert section.data.rows[0].confidence >= section.data.rows[1].confidence
    assert all(row.predicted_map.startswith("data:image/webp;base64,") for row in section.data.rows)
    assert all(row.predicted_map != row.true_map for row in section.data.rows)
    without = make_mistakes(open_context(hostile_model))
    assert [row.pixels for row in without.data.rows] == ["", ""]


def test_the_reliability_diagram_has_the_bins_of_the_calibration_error(context):
    data = make_reliability(context).data
    assert sum(found.n for found in data.bins) == 12
    gap = sum(found.n * abs(found.confidence - found.correct) for found in data.bins) / 12
    assert gap == pytest.approx(data.error)
    assert all(found.low < found.confidence <= found.high for found in data.bins)


def test_similar_images_are_close_on_the_map(context):
    data = make_image_map(context).data
    assert len(data.points) == 42
    assert {point.wrong for point in data.points} == {True, False}
    assert sum(point.wrong for point in data.points) == 2
    places = np.array([(point.x, point.y) for point in data.points])
    assert (places >= 0).all()
    assert (places <= (data.width, data.height)).all()
    colors = np.array([label == "red" for label in context.images.labels])
    nearest = [np.argsort(((places - place) ** 2).sum(axis=1))[1] for place in places]
    assert (colors[nearest] == colors).mean() > 0.9


def test_a_head_without_normalizer_has_a_map_of_raw_features(shared_store, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=1, blocks=(1,), options=FitOptions(normalize="none"))
    assert len(make_image_map(open_context(tmp_path / "m.featx", store=shared_store)).data.points) == 36


def test_a_map_needs_five_images(tmp_path, photos, oxford):
    extract(photos / "red" / "1.png", tmp_path / "one.h5", ExtractSpec(size=32, blocks=(1,)))
    with pytest.raises(DataError, match=r"a map needs at least 5 images, but .*one.h5 has 1"):
        make_image_map(open_context(tmp_path / "one.h5"))


@pytest.mark.slow
def test_the_depth_section_shows_the_probe(context):
    section = make_depth(context)
    assert section.data.report is context.probe
    assert section.headline.value == context.probe.best.name
    for number in range(1, 6):
        assert f">block {number}<" in section.data.svg


def log_rows(*accuracies):
    return "".join(
        json.dumps({"epoch": i, "stage": "head", "val_accuracy": value, "train_accuracy": None, "seconds": 1.5}) + "\n"
        for i, value in enumerate(accuracies)
    )


def make_log(folder, *accuracies):
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text(log_rows(*accuracies))
    return folder


def test_each_fine_tuning_has_a_curve_and_a_best_epoch(hostile_model, tmp_path):
    for name, values in {"a.featx": (0.5, 0.9, 0.8), "b.featx": (0.4, 0.6)}.items():
        make_log(tmp_path / f"{name}.finetune", *values)
    section = make_finetuning(open_context(hostile_model, finetune=sorted(tmp_path.iterdir())))
    assert [(curve.name, curve.best, curve.seconds) for curve in section.data.curves] == [
        ("a.featx", 1, 4.5), ("b.featx", 1, 3.0)]  # fmt: skip
    assert "Validation accuracy of a.featx rose from 50.0\N{NO-BREAK SPACE}% to 90.0\N{NO-BREAK SPACE}%" in section.lead
    assert make_finetuning(open_context(hostile_model)) is None


def test_the_log_beside_a_model_is_found(hostile_model, tmp_path):
    load_model(hostile_model).save(tmp_path / "tuned.featx")
    store = hostile_model.with_suffix(".h5")
    assert open_context(tmp_path / "tuned.featx", store=store).logs == ()
    make_log(tmp_path / "tuned.featx.finetune", 0.5)
    (folder,) = open_context(tmp_path / "tuned.featx", store=store).logs
    assert folder.name == "tuned.featx.finetune"


def test_a_folder_without_a_log_is_refused(hostile_model, tmp_path):
    with pytest.raises(DataError, match=r"has no training log \(log\.jsonl\); give a folder that featx finetune made"):
        open_context(hostile_model, finetune=[tmp_path])


def test_logs_with_the_same_folder_name_are_named_by_their_paths(hostile_model, tmp_path):
    folders = [make_log(tmp_path / place / "tuned.featx.finetune", 0.5, value)
               for place, value in {"a": 0.6, "b": 0.7}.items()]  # fmt: skip
    folders.append(make_log(tmp_path / "other.finetune", 0.1))
    found = make_finetuning(open_context(hostile_model, finetune=folders)).data.curves
    assert [curve.name for curve in found] == [*(str(folder)[: -len(".finetune")] for folder in folders[:2]), "other"]


def test_more_logs_than_colors_are_refused(hostile_model, tmp_path):
    folders = [make_log(tmp_path / f"{number}.finetune", 0.5) for number in range(MAX_LOGS + 1)]
    assert len(make_finetuning(open_context(hostile_model, finetune=folders[1:])).data.curves) == MAX_LOGS
    with pytest.raises(SpecError, match=r"--finetune of report must be given 6 times at most, .* got 7"):
        open_context(hostile_model, finetune=folders)


def test_a_stage_continues_at_the_epoch_where_the_previous_one_ended(hostile_model, tmp_path):
    folder = make_log(tmp_path / "a.finetune", 0.5, 0.6)
    log = folder / "log.jsonl"
    log.write_text(log.read_text() + log_rows(0.6, 0.9).replace("head", "backbone"))
    (curve,) = make_finetuning(open_context(hostile_model, finetune=[folder])).data.curves
    assert curve.epochs == (0, 1, 1, 2)


def test_a_damaged_line_of_a_log_is_named(hostile_model, tmp_path):
    folder = make_log(tmp_path / "a.finetune", 0.5)
    for line in ("{", "[1]", '{"epoch": 1, "stage": "head"}', '{"epoch": 1, "val_accuracy": 0.5}', "\xff"):
        (folder / "log.jsonl").write_bytes((log_rows(0.5) + line).encode("latin-1"))
        with pytest.raises(DataError, match=r"line 2 of .*log\.jsonl is not a row of a training log; remove the line"):
            open_context(hostile_model, finetune=[folder])


def test_a_log_that_cannot_be_written_stays_unchanged(tmp_path, monkeypatch):
    log = TrainingLog(make_log(tmp_path / "a.finetune", 0.5))
    before = (log.folder / "log.jsonl").read_bytes()
    with pytest.raises(TypeError):
        log.add(epoch=1, stage="head", val_accuracy=object())
    assert (log.folder / "log.jsonl").read_bytes() == before
    log.rows.pop()
    monkeypatch.setattr(csv, "DictWriter", full)
    with pytest.raises(OSError, match="full"):
        log.add(epoch=1, stage="head", val_accuracy=0.6)
    assert not (log.folder / "log.csv").exists()
    assert [row["epoch"] for row in TrainingLog(log.folder).rows] == [0, 1]


def full(file, columns):
    file.write("epoch")
    raise OSError("the disk is full")


def heads_of(model):
    return model.estimator.named_steps["head"].estimators_


@pytest.mark.slow
def test_the_commands_reproduce_the_store_and_the_model(tmp_path, photos, oxford, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = ExtractSpec(
        size=48, blocks=(1, 3), pools=("avg", "max"), resize="pad", n_views=2, augment="flip", view_seed=3
    )
    extract(photos, "p.h5", spec)
    fit(
        "p.h5",
        "m.featx",
        head="ovr-logistic",
        blocks=(1,),
        pools=("max",),
        C=10,
        options=FitOptions(normalize="standard", class_weight="balanced"),
        validation=Validation(test_size=0.25, random_state=4, folds=3, nested=True),
    )
    context = open_context("m.featx", root="photos")
    facts = [fact for group in make_extraction(context).data.groups.values() for fact in group]
    assert ("Augmentation", "flip, fill reflect, seed 3") in facts
    assert ("Fitted on", "36 of 48 rows, 25% held out") in facts
    assert {"Nested accuracy", "Columns"} <= {name for name, _ in facts}
    lines = lines_of(context)
    wanted = {name: (tmp_path / name).read_bytes() for name in ("p.h5", "m.featx")}
    for name in wanted:
        (tmp_path / name).unlink()
    for what in ("Extract the features", "Fit the head", "Score the model"):
        result = CliRunner().invoke(main, shlex.split(lines[what])[1:])
        assert result.exit_code == 0, result.output
    assert load_features("p.h5").spec == dataclasses.replace(spec, backbone_digest=oxford.digest)
    again, before = load_model("m.featx"), wanted["m.featx"]
    (tmp_path / "before.featx").write_bytes(before)
    for old, new in zip(heads_of(load_model("before.featx")), heads_of(again), strict=True):
        assert old.coef_.tolist() == new.coef_.tolist()
    assert lines["Write this page"] == "featx report m.featx -o report.html --root photos --store p.h5"


def test_a_store_of_a_manifest_is_extracted_from_a_manifest_again(context, shared_store):
    assert make_commands(context).data[0].line.startswith("featx extract MANIFEST -o ")
    assert make_commands(context).data[0].line.endswith(f"--root {context.root} --size 32")
    assert make_commands(open_context(shared_store)).data[0].line.startswith("featx extract IMAGES -o ")


@pytest.fixture
def tuned(tmp_path, photos, oxford, monkeypatch):
    """Return a function that fine-tunes ``head.featx`` to ``NAME.featx`` in the working folder, even without a gain."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ValidationScore, "better_than", lambda self, other: True)
    extract(photos, "p.h5", ExtractSpec(size=32, blocks=(5,)))
    fit(
        "p.h5",
        "head.featx",
        head="linear-svc",
        C=3,
        options=FitOptions(class_weight="balanced", calibrate=True),
        validation=Validation(folds=3),
    )

    def tune(name, **options):
        recipe = Recipe(lr=0.01, val_size=0.25, **options)
        finetune(load_model("head.featx"), "p.h5", f"{name}.featx", recipe, root=photos)
        return open_context(f"{name}.featx", store="p.h5", root="photos")

    return tune


def lines_of(context):
    return {one.purpose: one.line for one in make_commands(context).data}


@pytest.mark.slow
def test_a_fine_tuned_model_is_reproduced_from_its_head(tuned):
    context = tuned("tuned", head_epochs=2, epochs=0)
    assert "Probabilities" not in dict(make_extraction(context).data.groups["Head"])
    assert dict(make_extraction(context).data.groups["Head"])["Fine-tuned"].startswith("validation accuracy ")
    lines = lines_of(context)
    assert lines["Fit the head"] == (
        "featx fit p.h5 -o head.featx --head linear-svc --blocks 5 --C 3 --folds 3 --class-weight balanced"
    )
    assert lines["Fine-tune it"].endswith("--root photos --epochs 0 --head-epochs 2 --lr 0.01 --val-size 0.25")
    for what in ("Fit the head", "Fine-tune it"):
        result = CliRunner().invoke(main, [*shlex.split(lines[what])[1:], "--overwrite"])
        assert result.exit_code == 0, result.output
    again = load_model("tuned.featx").estimator.named_steps["head"]
    np.testing.assert_allclose(again.coef_, context.model.estimator.named_steps["head"].coef_, atol=1e-6)


@pytest.mark.slow
def test_a_fine_tuned_backbone_has_no_command_that_fits_a_head(tuned, photos):
    """Its store has features of the fine-tuned backbone, but the head was fitted on features of the original one."""
    tuned("tuned", epochs=1)
    backbone = "tuned.backbone.safetensors"
    extract(photos, "tuned.h5", ExtractSpec(size=32, blocks=(5,), backbone="finetuned"), weights=backbone)
    context = open_context("tuned.featx", root="photos")
    assert context.store.name == "tuned.h5"
    lines = lines_of(context)
    assert list(lines) == ["Extract the features", "Compare the depths", "Write this page"]
    assert "The model is taken as it is" in make_commands(context).lead
    line = lines["Extract the features"]
    assert line == f"featx extract photos -o tuned.h5 --backbone finetuned --blocks 5 --size 32 --weights {backbone}"
    context.store.unlink()
    result = CliRunner().invoke(main, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert load_features("tuned.h5").spec == context.model.spec


def test_a_model_of_ones_own_training_has_the_command_of_its_first_head(tuned, oxford):
    context = tuned("tuned", head_epochs=1, epochs=0)
    start = load_model("head.featx")
    module = start.to_torch(oxford)
    nn.init.zeros_(module.head.bias)
    own = dataclasses.replace(from_torch(module, start, oxford)[0], path=context.model.path)
    lines = lines_of(dataclasses.replace(context, model=own))
    assert " -o head.featx " in lines["Fit the head that your own training started from"]
    assert not {"Fit the head", "Fine-tune it"} & set(lines)


# Thumbnails


def test_thumbnails_are_small_and_unreadable_images_have_none(tmp_path):
    Image.new("RGB", (600, 300), "red").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    copies = encode_thumbnails(tmp_path, {3: "good.png", 4: "bad.png", 5: "gone.png"}, ValueRange())
    assert list(copies) == [3]
    assert Image.open(BytesIO(base64.b64decode(copies[3]))).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)


# The whole report


def test_a_multi_label_report_lacks_the_sections_for_single_labels(tmp_path, photos, oxford):
    rows = [f"{path.relative_to(photos)},{path.parent.name}|{'even' if int(path.stem) % 2 else 'odd'}"
            for path in sorted(photos.rglob("*.png"))]  # fmt: skip
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    fit(tmp_path / "m.h5", tmp_path / "m.featx", head="ovr-logistic", C=1, validation=Validation(folds=3))
    written = report(tmp_path / "m.featx", tmp_path / "report.html", root=photos)
    assert set(written.missing) == {"depth", "advice", "confusion", "reliability", "mistakes"}
    assert (
        written.missing["confusion"] == "the confusion matrix needs one label per image, but the model is multi-label"
    )
    assert "needs one label per image" in (tmp_path / "report.html").read_text()


def test_reliability_without_probabilities_says_how_to_get_them(shared_store, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="linear-svc", C=1, blocks=(1,))
    context = open_context(tmp_path / "m.featx", store=shared_store)
    with pytest.raises(DataError, match=r"the model has no probabilities; fit it with --calibrate"):
        make_reliability(context)


def test_the_command_names_empty_sections_and_prints_json(tmp_path, photos, oxford):
    for path in sorted(photos.rglob("*.png")):
        path.rename(photos / f"{path.parent.name}-{path.name}")
    extract(photos, tmp_path / "flat.h5", ExtractSpec(size=32, blocks=(1,)))
    line = ["report", str(tmp_path / "flat.h5"), "-o", str(tmp_path / "r.html")]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    assert "r.html: 6 sections, 0 images, 0." in result.output
    assert "left out: depth: " in result.output
    assert CliRunner().invoke(main, [*line, "--quiet"]).output == ""
    document = json.loads(CliRunner().invoke(main, [*line, "--json", "--root", str(photos)]).stdout)
    assert document["bytes"] == (tmp_path / "r.html").stat().st_size
    assert set(document["missing"]) == {"depth", "advice"}
    assert date.today().isoformat() in (tmp_path / "r.html").read_text()


def test_a_page_that_cannot_be_written_is_refused_before_the_work(hostile_model, tmp_path):
    """The model does not exist either: if it were opened first, the message would name it."""
    with pytest.raises(
        StoreError, match=r"no/r\.html cannot be written: its folder .*no does not exist; create it first"
    ):
        report(tmp_path / "no.featx", tmp_path / "no" / "r.html")
    (tmp_path / "r.html").mkdir()
    with pytest.raises(StoreError, match=r"r\.html cannot be written: "):
        report(hostile_model.with_suffix(".h5"), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == [tmp_path / "r.html"]


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """Make all sources of weights unavailable."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    nowhere = dataclasses.replace(BACKBONES["oxford"], url="http://127.0.0.1:9/closed", wheel="")
    monkeypatch.setitem(BACKBONES, "oxford", nowhere)


def test_without_weights_the_page_lacks_only_times_and_class_maps(hostile_model, tmp_path, no_weights):
    context = open_context(hostile_model, root=hostile_model.parent / "images")
    assert [depth.milliseconds for depth in context.probe.depths] == [None] * 15
    data = make_mistakes(context).data
    assert [row.predicted_map for row in data.rows] == ["", ""]
    assert data.note.startswith("no class maps: ")
    written = report(hostile_model, tmp_path / "r.html", root=context.root)
    assert written.missing == {}
    page = (tmp_path / "r.html").read_text()
    assert "Times are missing, because the weights of the backbone are not available" in page
    assert "No class maps: " in page


def test_without_torch_the_page_lacks_only_class_maps(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "featx.inspection.explanation.explainer", None)
    data = make_mistakes(context).data
    assert [row.predicted_map for row in data.rows] == ["", ""]
    assert data.note.startswith("no class maps: they need a package: pip install 'featx[torch]' (")


@pytest.mark.slow
def test_with_the_weights_of_another_backbone_the_page_lacks_only_times_and_class_maps(
    hostile_model, oxford, tmp_path, monkeypatch
):
    """All fine-tuned backbones are called finetuned; here the cache has another one."""
    folder, model = hostile_model.parent, load_model(hostile_model)
    module = model.to_torch(oxford)
    with torch.no_grad():
        module.backbone.features[5].bias += 1e-5
    tuned, weights = from_torch(module, model, oxford)
    tuned.save(tmp_path / "m.featx")
    elsewhere = save_finetuned(weights, tmp_path / "elsewhere.featx")
    spec = ExtractSpec(size=32, backbone="finetuned")
    extract(folder / "rows.csv", tmp_path / "m.h5", spec, root=folder / "images", weights=elsewhere)
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    add_backbone(save_finetuned(oxford, tmp_path / "other.featx"), "finetuned")
    context = open_context(tmp_path / "m.featx", root=folder / "images")
    assert [depth.milliseconds for depth in context.probe.depths] == [None] * 15
    data = make_mistakes(context).data
    assert [row.predicted_map for row in data.rows] == ["", ""]
    assert data.note.startswith("no class maps: backbone_digest is ")
    assert report(tmp_path / "m.featx", tmp_path / "r.html", root=context.root).missing == {"reliability": (
        "the model has no probabilities; fit it with --calibrate, or use softmax or ovr-logistic")}  # fmt: skip


def test_reports_need_jinja2(hostile_model, monkeypatch, tmp_path):
    """The store does not exist: if it were opened first, the message would name it."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(EngineError, match=r"report needs a package: pip install 'featx\[report\]'"):
        report(hostile_model.parent / "no.h5", tmp_path / "r.html")
