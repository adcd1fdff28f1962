"""Fine-tuning as a whole: it starts where scikit-learn ended, never ends worse, and resumes after a stop."""

import csv
import dataclasses
import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import FINETUNE_SPEC as SPEC
from conftest import fill

from featx.cli.group import main
from featx.engines import load_backbone_for, make_engine
from featx.engines.winograd import WinogradConv2d
from featx.errors import DataError, EngineError, FeatxError, ModelError, SpecError, SpecMismatch
from featx.exporting import export
from featx.extraction import extract
from featx.finetuning import Recipe, finetune, read_logs
from featx.finetuning.activation_cache import ActivationCache
from featx.finetuning.finetuned_model import FinetuneReport
from featx.finetuning.stage import Stage, ValidationScore
from featx.finetuning.starting_point import fit_head, fit_logit_scale, make_classifier, read_finetune_data
from featx.finetuning.trainable_layers import TrainableLayers
from featx.finetuning.training_examples import mix_up
from featx.heads.pipeline.decisions import class_decisions
from featx.images import load_file
from featx.models import FitOptions, Validation, evaluate, fit, from_torch, load_model, predict
from featx.runtime import Compute

FAST = Recipe(epochs=2, batch_size=8, lr=1e-3, val_size=0.25)


class Stop(Exception):
    """Stands for a kill."""


def stop(*_):
    raise Stop


@pytest.fixture
def model(finetune_folder):
    return load_model(finetune_folder / "photos.featx")


@pytest.fixture
def tune(finetune_folder, model):
    """Fine-tune the shared model, or another one, on the shared store."""

    def run(output, recipe=FAST, start=model, **options):
        return finetune(
            start, finetune_folder / "photos.h5", output, recipe, root=finetune_folder / "photos", **options
        )

    return run


@pytest.fixture
def every_epoch_is_better(monkeypatch):
    monkeypatch.setattr(ValidationScore, "better_than", lambda self, other: True)


@pytest.fixture
def no_epoch_is_better(monkeypatch):
    monkeypatch.setattr(ValidationScore, "better_than", lambda self, other: False)


def read_log(output):
    lines = (output.parent / f"{output.name}.finetune" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def validation_accuracy(model, store, recipe):
    """Accuracy of scikit-learn's head, fitted without the validation images, on these images."""
    data = read_finetune_data(model, store, recipe)
    base = fit_head(model, data, data.train)
    names = np.array(data.training.classes)[data.val.labels]
    return base.estimator.score(data.val.features, names)


# What a fine-tuning writes


@pytest.mark.slow
def test_a_fine_tuned_model_predicts_with_the_backbone_beside_it(finetune_folder, tune, tmp_path):
    report = tune(tmp_path / "tuned.featx")
    assert report.val_best >= report.val_start
    tuned = load_model(tmp_path / "tuned.featx")
    assert tuned.info["finetune"]["recipe"]["epochs"] == 2
    predictions = list(predict(tuned, [finetune_folder / "photos" / "red" / "0.png"]))
    assert predictions[0].classes == ("red",)


@pytest.mark.slow
def test_the_log_has_a_row_per_epoch_with_its_learning_rates(tune, tmp_path):
    tune(tmp_path / "tuned.featx")
    with (tmp_path / "tuned.featx.finetune" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [("backbone", "0"), ("backbone", "1"), ("backbone", "2")]
    assert [row["epoch"] for row in read_log(tmp_path / "tuned.featx")] == [0, 1, 2]
    # Cosine decay from the recipe's rate to zero; the log has the rate at the start of each epoch.
    assert [float(row["learning_rate"]) for row in rows[1:]] == pytest.approx([1e-3, 5e-4])
    assert float(rows[1]["backbone_learning_rate"]) == pytest.approx(float(rows[1]["learning_rate"]) / 100)


@pytest.mark.slow
def test_a_fine_tuned_model_is_scored_on_features_of_its_own_backbone(finetune_folder, tune, tmp_path):
    tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, lr=1e-2))
    tuned = load_model(tmp_path / "tuned.featx")
    with pytest.raises(SpecMismatch, match="--backbone finetuned"):
        evaluate(tuned, finetune_folder / "photos.h5")
    fill(tmp_path / "photos", each=2, first=900)
    spec = dataclasses.replace(SPEC.plain, backbone="finetuned")
    extract(tmp_path / "photos", tmp_path / "tuned.h5", spec, weights=tmp_path / "tuned.backbone.safetensors")
    predictions = predict(tuned, [tmp_path / "photos"])
    accuracy = np.mean([p.path.split("/")[-2] == p.classes[0] for p in predictions])
    assert evaluate(tuned, tmp_path / "tuned.h5")["accuracy"] == accuracy


@pytest.mark.slow
def test_models_with_equal_stems_keep_their_own_backbones(tune, tmp_path):
    for name in ("run.1", "run.2"):
        tune(tmp_path / name, dataclasses.replace(FAST, epochs=1, lr=1e-2))
    for name in ("run.1", "run.2"):
        assert load_backbone_for(load_model(tmp_path / name).spec, None, tmp_path / name).name == "finetuned"
    (tmp_path / "other.backbone.safetensors").write_bytes(b"another model's")
    with pytest.raises(ModelError, match=r"other\.backbone\.safetensors exists already"):
        tune(tmp_path / "other.featx")


@pytest.mark.slow
@pytest.mark.parametrize("names", [("red", "green", "blue"), ("red", "blue")], ids=["three classes", "two"])
def test_a_hidden_layer_is_saved_with_the_model(finetune_folder, tmp_path, names):
    photos = tmp_path / "photos"
    for name in names:
        shutil.copytree(finetune_folder / "photos" / name, photos / name)
    extract(photos, tmp_path / "photos.h5", SPEC)
    linear = fit(tmp_path / "photos.h5", head="softmax", blocks=(3, 4, 5), C=1.0)
    recipe = dataclasses.replace(FAST, head_epochs=3, epochs=1, hidden=16, dropout=0.5, init="random")
    finetune(linear, tmp_path / "photos.h5", tmp_path / "tuned.featx", recipe, root=photos)
    tuned = load_model(tmp_path / "tuned.featx")
    assert [name for name, _ in tuned.estimator.steps] == ["normalizer", "hidden", "head"]
    paths = [str(photos / "red" / "0.png"), str(photos / "blue" / "3.png")]
    pixels = np.stack([load_file(photos / path, tuned.spec).pixels for path in paths])
    weights = load_backbone_for(tuned.spec, None, tuned.path)
    with torch.no_grad():
        logits = tuned.to_torch()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    features = make_engine(weights, tuned.spec, "cpu", engine="torch")(pixels)
    decisions = tuned.decision_function(np.hstack(list(features.values())))
    assert logits.shape == (len(paths), len(names))
    np.testing.assert_allclose(logits, class_decisions(decisions), atol=1e-4)
    again, _ = from_torch(tuned.to_torch(), tuned)
    np.testing.assert_allclose(again.decision_function(np.hstack(list(features.values()))), decisions, atol=1e-6)
    assert export(tuned, tmp_path / "tuned.onnx").difference < 1e-3
    with pytest.raises(DataError, match="torch has trained the head and backbone of this model; fit a new head"):
        finetune(tuned, tmp_path / "photos.h5", tmp_path / "more.featx", recipe, root=photos)


def test_a_report_prints_what_was_gained_and_where_the_files_are():
    report = FinetuneReport("t.featx", "", 0.9, 0.95, {"head": 2, "backbone": 5}, "t.featx.finetune/log.csv")
    assert repr(report).splitlines() == [
        "FinetuneReport(validation accuracy 0.9000 -> 0.9500, best epochs: head 2, backbone 5)",
        "  model: t.featx",
        "  backbone: unchanged",
        "  log: t.featx.finetune/log.csv",
    ]


# Where it starts, and that it never ends worse


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("head", ["softmax", "linear-svc", "ovr-logistic"])
def test_training_starts_with_the_accuracy_of_scikit_learn(finetune_folder, tune, tmp_path, head, hidden, oxford):
    store = finetune_folder / "photos.h5"
    model = fit(store, head=head, blocks=(3, 4, 5), C=0.01)
    recipe = dataclasses.replace(FAST, head_epochs=1, epochs=0, hidden=hidden, dropout=0.5)
    accuracy = validation_accuracy(model, store, recipe)
    data = read_finetune_data(model, store, recipe)
    base = fit_head(model, data, data.train)
    classifier = make_classifier(base, oxford, fit_logit_scale(base, data.val), recipe).eval()
    with torch.no_grad():
        predicted = classifier.classify(torch.from_numpy(data.val.features)).argmax(1).numpy()
    assert (predicted == data.val.labels).mean() == accuracy
    if not hidden:
        tune(tmp_path / "tuned.featx", recipe, model)
        assert read_log(tmp_path / "tuned.featx")[0]["val_accuracy"] == accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("no_epoch_is_better")
def test_without_a_better_epoch_the_model_stays_as_it_was(model, tune, tmp_path):
    report = tune(tmp_path / "tuned.featx")
    tuned = load_model(tmp_path / "tuned.featx")
    assert (report.backbone, report.epochs) == ("", {"backbone": 0})
    assert tuned.spec == model.spec
    np.testing.assert_array_equal(tuned.estimator[-1].coef_, model.estimator[-1].coef_)


@pytest.mark.slow
@pytest.mark.usefixtures("no_epoch_is_better")
def test_without_a_better_epoch_the_report_has_the_accuracy_of_the_model_that_is_kept(
    finetune_folder, model, tune, tmp_path
):
    """And not that of the random head that training started from."""
    recipe = dataclasses.replace(FAST, init="random", epochs=1)
    report = tune(tmp_path / "tuned.featx", recipe)
    accuracy = validation_accuracy(model, finetune_folder / "photos.h5", recipe)
    assert report.val_start == report.val_best == accuracy
    assert read_log(tmp_path / "tuned.featx")[0]["val_accuracy"] < report.val_start


@pytest.mark.slow
def test_from_scratch_starts_below_the_head(tune, tmp_path):
    recipe = dataclasses.replace(FAST, epochs=1, from_scratch=True, batch_size=16)
    assert tune(tmp_path / "tuned.featx", recipe).val_start < 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_epoch_is_better")
def test_patience_ends_a_stage(tune, tmp_path):
    tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, epochs=9, patience=2))
    assert [row["epoch"] for row in read_log(tmp_path / "tuned.featx")] == [0, 1, 2]


# Refit


@pytest.mark.slow
def test_a_refit_is_validated_on_the_same_images(tune, tmp_path):
    logs = []
    for refit in (False, True):
        output = tmp_path / f"{refit}.featx"
        tune(output, dataclasses.replace(FAST, refit=refit))
        logs.append([row for row in read_log(output) if row["stage"] == "backbone"])
    assert len(logs[0]) == len(logs[1]) == 1 + FAST.epochs
    for without, with_refit in zip(*logs, strict=True):
        # Equal up to rounding: an engine may compute an image differently in another batch.
        assert without["val_loss"] == pytest.approx(with_refit["val_loss"], rel=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch_is_better")
def test_a_refit_trains_on_all_images_for_the_best_number_of_epochs(tune, tmp_path):
    report = tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, refit=True, head_epochs=1))
    assert report.epochs == {"head": 1, "backbone": 2}
    rows = read_log(tmp_path / "tuned.featx")
    # No image is left to validate on, so a refit has no point in a learning curve.
    refitted = [(row["epoch"], row["val_accuracy"]) for row in rows if row["stage"] == "refit-backbone"]
    assert refitted == [(1, None), (2, None)]
    ((name, validated),) = read_logs([f"{tmp_path}/tuned.featx.finetune/"]).items()
    assert (name, [row["stage"] for row in validated]) == ("tuned.featx", 2 * ["head"] + 3 * ["backbone"])
    assert load_model(tmp_path / "tuned.featx").spec.backbone == "finetuned"


# Stop and resume


@pytest.mark.slow
@pytest.mark.parametrize("batches", [2, 5, 7])
def test_a_resumed_run_ends_with_the_same_weights(tune, tmp_path, batches, monkeypatch):
    recipe = dataclasses.replace(FAST, dropout=0.3, ema_decay=0.9, mixup=0.2, accumulate=2, lr=1e-2)
    tune(tmp_path / "whole.featx", recipe)
    left = [batches]

    def stop_after_batches(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        return mix_up(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("featx.finetuning.stage.mix_up", stop_after_batches)
        with pytest.raises(Stop):
            tune(tmp_path / "stopped.featx", recipe)
    tune(tmp_path / "stopped.featx", recipe)
    whole, stopped = (tmp_path / name for name in ("whole.featx", "stopped.featx"))
    assert whole.read_bytes() == stopped.read_bytes()
    backbones = [path.with_name(path.stem + ".backbone.safetensors").read_bytes() for path in (whole, stopped)]
    assert backbones[0] == backbones[1]
    logs = [[{**row, "seconds": 0} for row in read_log(path)] for path in (whole, stopped)]
    assert logs[0] == logs[1]


@contextmanager
def stop_after_one_epoch(monkeypatch):
    save = Stage._save_state

    def save_and_stop(self, state):
        save(self, state)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_save_state", save_and_stop)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("change", ["one label", "a class"])
def test_changed_labels_start_a_new_run(tmp_path, monkeypatch, change):
    fill(tmp_path / "photos", each=8)
    rows = ["path,label", *(f"{c}/{n}.png,{c}" for c in ("blue", "green", "red") for n in range(8))]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    store, photos = tmp_path / "photos.h5", tmp_path / "photos"
    extract(tmp_path / "rows.csv", store, SPEC, root=photos)
    model = fit(store, head="softmax", blocks=(3, 4, 5), C=1.0, validation=Validation(folds=3))
    with stop_after_one_epoch(monkeypatch), pytest.raises(Stop):
        finetune(model, store, tmp_path / "tuned.featx", FAST, root=photos)
    text = (tmp_path / "rows.csv").read_text()
    text = text.replace(",red", ",rot") if change == "a class" else text.replace("red/1.png,red", "red/1.png,blue")
    (tmp_path / "rows.csv").write_text(text)
    extract(tmp_path / "rows.csv", store, SPEC, root=photos)
    if change == "a class":
        with pytest.raises(SpecMismatch, match=r"labels of .* have changed since the model was fitted; fit it again"):
            finetune(model, store, tmp_path / "tuned.featx", FAST, root=photos)
        return
    for name in ("tuned.featx", "fresh.featx"):
        finetune(model, store, tmp_path / name, FAST, root=photos)
    losses = [[row["train_loss"] for row in read_log(tmp_path / name)] for name in ("tuned.featx", "fresh.featx")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_another_recipe_starts_a_new_run(tune, tmp_path, monkeypatch):
    output, folder = tmp_path / "tuned.featx", tmp_path / "tuned.featx.finetune"
    with stop_after_one_epoch(monkeypatch), pytest.raises(Stop):
        tune(output, dataclasses.replace(FAST, epochs=1, lr=3e-3))
    assert {path.name for path in folder.iterdir()} >= {"backbone.pt", "run", "log.csv"}
    assert list(folder.glob("*.activations"))
    tune(output, dataclasses.replace(FAST, epochs=1))
    assert [(row["epoch"], row["learning_rate"]) for row in read_log(output)] == [(0, None), (1, FAST.lr)]
    assert {path.name for path in folder.iterdir()} == {"log.csv", "log.jsonl"}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["_save_state", "_log_row"])
def test_a_stop_loses_no_row_of_the_log(tune, tmp_path, monkeypatch, moment):
    output, write = tmp_path / "tuned.featx", getattr(Stage, moment)

    def stop_after(self, *args, **row):
        write(self, *args, **row)
        if self._optimizer.state:
            raise Stop

    def stop_before(self, *args, **row):
        if self._optimizer.state:
            raise Stop
        write(self, *args, **row)

    for stopping in (stop_after, stop_before):
        with monkeypatch.context() as patch:
            patch.setattr(Stage, moment, stopping)
            with pytest.raises(Stop):
                tune(output)
    tune(output)
    assert [row["epoch"] for row in read_log(output)] == [0, 1, 2]


def test_a_resumed_run_keeps_the_precision_that_it_started_with(tune, tmp_path, monkeypatch):
    seen = []

    def note_and_stop(stage, advance):
        seen.append(stage.model.amp)
        raise Stop

    monkeypatch.setattr(Stage, "run", note_and_stop)
    for is_faster, amp in ((True, None), (False, None), (False, False)):
        monkeypatch.setattr("featx.finetuning.performance.bf16_is_faster", lambda is_faster=is_faster: is_faster)
        with pytest.raises(Stop):
            tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, amp=amp), compute=Compute(device="cpu"))
    assert seen == [True, True, False]


# The cache of activations


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch_is_better")
def test_splits_share_a_cache(tune, tmp_path, monkeypatch):
    computed, compute_rows = [], ActivationCache._compute

    def watched(self, make_engine, spec, pending, *arguments):
        computed.extend((path, spec.n_views) for path in pending)
        return compute_rows(self, make_engine, spec, pending, *arguments)

    monkeypatch.setattr(ActivationCache, "_compute", watched)
    for seed in range(2):
        recipe = dataclasses.replace(FAST, epochs=1, refit=True, random_state=seed)
        tune(tmp_path / f"{seed}.featx", recipe, cache=tmp_path / "shared")
        assert len(computed) == len({path for path, _ in computed}) == 36
        assert {n_views for _, n_views in computed} == {SPEC.n_views}
    assert {path.suffix for path in (tmp_path / "shared").iterdir()} == {".activations", ".index", ".lock"}


@pytest.mark.slow
def test_a_cache_is_kept_even_in_the_folder_of_the_log(tune, tmp_path):
    tune(tmp_path / "tuned.featx", cache=tmp_path / "tuned.featx.finetune")
    (path,) = (tmp_path / "tuned.featx.finetune").glob("*.activations")
    assert path.stat().st_size == 36 * SPEC.n_views * 512 * 2 * 2 * 2


# Performance


@pytest.mark.slow
@pytest.mark.parametrize("amp", [False, True])
def test_training_on_a_cpu_uses_winograd_in_float32_and_keeps_memory(tune, tmp_path, monkeypatch, amp):
    monkeypatch.setattr("featx.finetuning.performance.winograd_is_faster", lambda: True)
    monkeypatch.setattr("featx.engines.winograd.MAX_WASTE", 4)
    winograd_layers, entered, run = [], [], Stage.run

    def watched(stage, advance):
        winograd_layers.append(sum(isinstance(layer, WinogradConv2d) for layer in stage.model.modules()))
        return run(stage, advance)

    @contextmanager
    def watched_memory():
        entered.append(True)
        yield

    monkeypatch.setattr(Stage, "run", watched)
    monkeypatch.setattr("featx.finetuning.resumable_run.keep_freed_memory", watched_memory)
    report = tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, amp=amp))
    assert [count > 0 for count in winograd_layers] == [not amp]
    assert entered == [True]
    assert report.val_best >= report.val_start


# Errors


def test_a_lack_of_memory_suggests_a_smaller_batch(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainableLayers, "forward", lambda self, *inputs: torch.empty(1 << 60))
    with pytest.raises(EngineError, match=r"memory ran out during training; give a smaller --batch-size \(with --acc"):
        tune(tmp_path / "tuned.featx")
    monkeypatch.setattr(TrainableLayers, "forward", stop)
    with pytest.raises(Stop):
        tune(tmp_path / "tuned.featx")


def test_a_training_that_diverges_suggests_a_smaller_learning_rate(tune, tmp_path):
    recipe = dataclasses.replace(FAST, epochs=0, head_epochs=3, lr=1e30, label_smoothing=0.1)
    with pytest.raises(ModelError, match=r"the training loss is not finite in epoch \d; give a smaller --lr"):
        tune(tmp_path / "far.featx", recipe)


def test_a_validation_split_that_is_too_small_names_the_option(tune, tmp_path):
    with pytest.raises(DataError, match=r"--val-size 0\.01"):
        tune(tmp_path / "tuned.featx", dataclasses.replace(FAST, val_size=0.01))


def test_an_output_that_exists_is_refused(tune, tmp_path):
    (tmp_path / "there.featx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"there\.featx exists already; choose another --output"):
        tune(tmp_path / "there.featx")


def test_a_recipe_that_trains_nothing_is_refused(tune, tmp_path):
    with pytest.raises(ModelError, match="finetune has nothing to train; give --head-epochs, or --epochs"):
        tune(tmp_path / "none.featx", Recipe(unfreeze="none"))


def test_a_model_of_another_store_is_refused(model, tune, tmp_path):
    other = dataclasses.replace(model, info={**model.info, "store": "another"})
    with pytest.raises(SpecMismatch, match="the model was not fitted on the images of"):
        tune(tmp_path / "other.featx", start=other)


@pytest.mark.parametrize("unfreeze", ["block5", "all"])
def test_a_missing_image_names_the_folder_option(finetune_folder, model, tmp_path, unfreeze):
    recipe = dataclasses.replace(FAST, unfreeze=unfreeze)
    message = r"\.png of the store cannot be used for training: cannot be read: .*: give their folder by --root"
    with pytest.raises(DataError, match=message):
        finetune(model, finetune_folder / "photos.h5", tmp_path / "gone.featx", recipe, root=tmp_path)


@pytest.mark.parametrize(
    "recipe", [FAST, dataclasses.replace(FAST, head_epochs=2)], ids=["backbone", "head and backbone"]
)
def test_layers_that_the_model_does_not_run_are_refused(finetune_folder, tune, tmp_path, recipe):
    early = fit(finetune_folder / "photos.h5", head="softmax", blocks=(3, 4), C=1.0)
    with pytest.raises(SpecError, match=r"must name layers of the model's backbone, which ends at block 4, got .* 24"):
        tune(tmp_path / "tuned.featx", recipe, early)
    assert not list(tmp_path.iterdir())
    tune(tmp_path / "head.featx", dataclasses.replace(FAST, head_epochs=1, epochs=0), early)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        (Recipe(hidden=5), {}),
        (Recipe(unfreeze="none"), {}),
        (Recipe(epochs=0), {}),
        (FAST, {"compute": Compute(device="moon")}),
    ],
    ids=["too few units", "no layers", "no epochs", "unknown device"],
)
def test_a_refused_call_leaves_no_folder_behind(tune, tmp_path, recipe, options):
    with pytest.raises(FeatxError):
        tune(tmp_path / "tuned.featx", recipe, **options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_torch_has_trained_is_refused(finetune_folder, tune, tmp_path, monkeypatch):
    """Otherwise scikit-learn would fit the head again, and the trained head would be lost."""
    start = fit(finetune_folder / "photos.h5", head="linear-svc", blocks=(3,), C=10.0,
                options=FitOptions(class_weight="balanced", calibrate=True))  # fmt: skip
    recipe = dataclasses.replace(FAST, head_epochs=2, epochs=0)
    with monkeypatch.context() as patch:
        patch.setattr(ValidationScore, "better_than", lambda self, other: False)
        tune(tmp_path / "kept.featx", recipe, start)
    kept = load_model(tmp_path / "kept.featx")
    assert (kept.head, "calibration" in kept.info) == ("linear-svc", True)
    monkeypatch.setattr(ValidationScore, "better_than", lambda self, other: True)
    tune(tmp_path / "tuned.featx", recipe, kept)
    tuned = load_model(tmp_path / "tuned.featx")
    head = tuned.estimator.named_steps["head"]
    assert (head.C, head.class_weight, tuned.info["C"]) == (10.0, "balanced", 10.0)
    assert "calibration" not in tuned.info
    message = (
        r"cannot be fine-tuned again, and torch has trained the head of this model; fit a new head on .*photos\.h5"
    )
    with pytest.raises(DataError, match=message):
        tune(tmp_path / "more.featx", recipe, tuned)
    assert not (tmp_path / "more.featx.finetune").exists()


# The command


def arguments_of(folder, output, *more):
    return ["finetune", str(folder / "photos.featx"), str(folder / "photos.h5"), "-o", str(output), "--root",
            str(folder / "photos"), "--epochs", "1", *more]  # fmt: skip


@pytest.mark.slow
def test_the_command_fine_tunes_and_prints_the_gain(finetune_folder, tmp_path):
    output = tmp_path / "tuned.featx"
    arguments = arguments_of(finetune_folder, output, "--val-size", "0.25", "--lr", "0.01")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"{output}: validation accuracy " in result.output
    result = CliRunner().invoke(main, [*arguments, "--overwrite", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == str(output)


@pytest.mark.slow
def test_the_command_draws_the_accuracy_by_epoch(finetune_folder, tmp_path):
    plot = tmp_path / "curve.svg"
    arguments = arguments_of(finetune_folder, tmp_path / "tuned.featx", "--val-size", "0.25", "--lr", "0.01")
    refused = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "curve.xyz")])
    assert (refused.exit_code, "name of a plot must end in one of ." in refused.output) == (1, True)
    assert not list(tmp_path.iterdir()), "the suffix is checked before the training"
    result = CliRunner().invoke(main, [*arguments, "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "<!-- tuned.featx -->" in plot.read_text()


@pytest.mark.slow
def test_the_command_has_the_limits_of_the_extraction(finetune_folder, tmp_path):
    """An image that was extracted with --max-pixels or --decode-timeout can be trained on with it."""
    arguments = arguments_of(finetune_folder, tmp_path / "tuned.featx", "--decode-timeout", "60")
    result = CliRunner().invoke(main, [*arguments, "--max-pixels", "100"])
    assert result.exit_code == 1
    assert re.search(r"cannot be used for training: .*--max-pixels", result.output)
    assert CliRunner().invoke(main, arguments).exit_code == 0
