"""Fine-tuning: begins where scikit-learn ended, never ends worse, and goes on after a stop."""

import csv
import dataclasses
import json
import re
import shutil
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import fill
from sklearn.exceptions import NotFittedError

from featx.cli.finetune import command
from featx.cli.group import main
from featx.engines.finetuned import load_backbone_for
from featx.engines.selection import make_engine
from featx.engines.winograd import WinogradConv2d
from featx.drawing.figures import save_figure
from featx.errors import DataError, EngineError, FeatxError, ModelError, SpecError, SpecMismatch
from featx.exporting.exported_file import export
from featx.extraction import extract
from featx.finetuning.activation_cache import Boundary, boundary_shape
from featx.finetuning.finetuned_model import finetune
from featx.finetuning.head_layers import make_layers
from featx.finetuning.recipe import OPTIONS, Recipe, first_trained, frozen_block
from featx.finetuning.stage import Rows, Score, Stage
from featx.finetuning.starting_point import head_of, logit_scale, make_module, read_data
from featx.finetuning.trainable_layers import Tail
from featx.finetuning.training_curves import plot_training_curves
from featx.finetuning.training_log import Log, read_logs
from featx.heads.hidden import HiddenLayer
from featx.images.loading import load_file
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.prediction import predict
from featx.models.torch_bridge import from_torch, to_torch
from featx.runtime.compute import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

SPEC = ExtractSpec(size=32, blocks=(3, 4, 5), pools=("avg", "max"), n_views=3, augment="flip,translate=0.1")
FAST = Recipe(epochs=2, batch_size=8, lr=1e-3, val_size=0.25)


@pytest.fixture(scope="module")
def place(tmp_path_factory, oxford):
    """A folder with photos, a store of their views, and a model."""
    folder = tmp_path_factory.mktemp("finetune")
    fill(folder / "photos", each=12)
    extract(folder / "photos", folder / "photos.h5", SPEC)
    fit(folder / "photos.h5", folder / "photos.featx", head="softmax", blocks=(3, 4, 5), C=1.0)
    return folder


@pytest.fixture
def model(place):
    return load_model(place / "photos.featx")


def tune(place, model, output, recipe=FAST, **options):
    return finetune(model, place / "photos.h5", output, recipe, root=place / "photos", **options)


def read_log(output):
    return [
        json.loads(line) for line in (output.parent / f"{output.name}.finetune" / "log.jsonl").read_text().splitlines()
    ]


def test_limits_of_images_are_those_of_the_extraction(place, tmp_path):
    """What was extracted with --max-pixels can be trained on with it, and --decode-timeout reaches here too."""
    command = ["finetune", str(place / "photos.featx"), str(place / "photos.h5"), "--root", str(place / "photos"),
               "--epochs", "1", "-o", str(tmp_path / "tuned.featx"), "--decode-timeout", "60"]  # fmt: skip
    result = CliRunner().invoke(main, [*command, "--max-pixels", "100"])
    assert result.exit_code == 1
    assert re.search(r"cannot be trained on: .* of the pixels allowed \(--max-pixels\)", result.output)
    assert CliRunner().invoke(main, command).exit_code == 0


def test_a_tuned_model_is_a_model_with_its_backbone_beside_it(place, model, tmp_path):
    report = tune(place, model, tmp_path / "tuned.featx")
    assert report.val_best >= report.val_start
    tuned = load_model(tmp_path / "tuned.featx")
    assert tuned.info["finetune"]["recipe"]["epochs"] == 2
    found = list(predict(tuned, [place / "photos" / "red" / "0.png"]))
    assert found[0].classes == ("red",)
    with (tmp_path / "tuned.featx.finetune" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [("backbone", "0"), ("backbone", "1"), ("backbone", "2")]
    assert [row["epoch"] for row in read_log(tmp_path / "tuned.featx")] == [0, 1, 2]
    # A cosine from the recipe's rate to zero, of which each epoch logs where it began.
    assert [float(row["learning_rate"]) for row in rows[1:]] == pytest.approx([1e-3, 5e-4])
    assert float(rows[1]["backbone_learning_rate"]) == pytest.approx(float(rows[1]["learning_rate"]) / 100)


def test_a_tuned_model_is_scored_on_images_that_go_through_its_backbone(place, model, tmp_path):
    tune(place, model, tmp_path / "tuned.featx", dataclasses.replace(FAST, lr=1e-2))
    tuned = load_model(tmp_path / "tuned.featx")
    with pytest.raises(
        SpecMismatch, match=r"the options of the model, --backbone finetuned and its --weights among them"
    ):
        evaluate(tuned, place / "photos.h5")
    fill(tmp_path / "photos", each=2, first=900)
    spec = dataclasses.replace(SPEC.plain, backbone="finetuned")
    extract(tmp_path / "photos", tmp_path / "tuned.h5", spec, weights=tmp_path / "tuned.backbone.safetensors")
    found = predict(tuned, [tmp_path / "photos"])
    accuracy = np.mean([p.path.split("/")[-2] == p.classes[0] for p in found])
    assert evaluate(tuned, tmp_path / "tuned.h5")["accuracy"] == accuracy


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("head", ["softmax", "linear-svc", "ovr-logistic"])
def test_stage_1_begins_with_the_accuracy_of_scikit_learn(place, tmp_path, head, hidden, oxford):
    model = fit(place / "photos.h5", head=head, blocks=(3, 4, 5), C=0.01)
    recipe = dataclasses.replace(FAST, head_epochs=1, epochs=0, hidden=hidden, dropout=0.5)
    data = read_data(model, place / "photos.h5", recipe)
    base = head_of(model, data, data.train)
    names = np.array(data.training.classes)[data.val.labels]
    module = make_module(base, oxford, logit_scale(base, data.val), recipe).eval()
    with torch.no_grad():
        chosen = module.classify(torch.from_numpy(data.val.features)).argmax(1).numpy()
    assert (chosen == data.val.labels).mean() == base.estimator.score(data.val.features, names)
    if not hidden:
        tune(place, model, tmp_path / "tuned.featx", recipe)
        first = json.loads((tmp_path / "tuned.featx.finetune" / "log.jsonl").read_text().splitlines()[0])
        assert first["val_accuracy"] == base.estimator.score(data.val.features, names)


@pytest.mark.parametrize("head", ["linear-svc", "ovr-logistic", "softmax"])
def test_logits_are_scaled_for_images_that_the_head_has_not_seen(place, head):
    model = fit(place / "photos.h5", head=head, blocks=(3, 4, 5), C=1.0)
    data = read_data(model, place / "photos.h5", FAST)
    base = head_of(model, data, data.train)
    labels = data.val.labels
    mistaken = dataclasses.replace(data.val, labels=np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 3, labels))
    right, wrong = logit_scale(base, data.val), logit_scale(base, mistaken)
    if head == "softmax":
        assert right == wrong == 1
        return
    assert wrong < right
    # All are told apart, and still there is something to learn.
    logits = torch.from_numpy(base.estimator.decision_function(data.val.features))
    assert (logits.argmax(1).numpy() == labels).all()
    assert 1e-3 < torch.nn.functional.cross_entropy(logits * right, torch.from_numpy(labels)) < 0.7


def test_validation_holds_plain_views_of_images_that_are_not_trained_on(place, model):
    data = read_data(model, place / "photos.h5", FAST)
    assert not set(data.train.digests) & set(data.val.digests)
    assert (len(data.train.digests), len(data.val.digests)) == (27, 9)
    assert (len(data.train.labels), len(data.val.labels)) == (81, 9)
    assert np.bincount(data.train.owners).tolist() == [3] * 27
    with Store(place / "photos.h5") as store:
        paths, X = np.array(store.paths), store.read(model.spec.widths)
    for images in (data.train, data.val):
        for number, path in enumerate(images.digests):
            stored = X[paths == path][: (images.owners == number).sum()]
            np.testing.assert_array_equal(images.features[images.owners == number], stored)


@pytest.mark.parametrize("unfreeze", ["block5", "layers=4", "block4", "all"])
def test_the_tail_gives_what_the_whole_gives(place, model, tmp_path, oxford, unfreeze):
    data = read_data(model, place / "photos.h5", FAST)
    module = make_module(model, oxford, 1.0, FAST)
    tail = Tail(module, first_trained(unfreeze)).eval()
    boundary, views = Boundary(tmp_path, data.spec, tail.boundary), data.spec.n_views
    boundary.fill(lambda spec: make_engine(oxford, spec, "cpu"), data.val.digests, views, place / "photos", 1,
                  progress=False)  # fmt: skip
    every = boundary.of(data.val.digests.values(), views)
    assert every[:].shape == (27, *boundary_shape(data.spec, tail.boundary))
    x = torch.from_numpy(every[np.arange(0, 27, 3)])
    with torch.no_grad():
        logits = tail(x if x.dtype == torch.uint8 else x.float(), torch.from_numpy(data.val.features))
    expected = model.decision_function(data.val.features)
    np.testing.assert_allclose(logits.numpy(), expected, atol=5e-3)
    loss = tail(x if x.dtype == torch.uint8 else x.float(), torch.from_numpy(data.val.features)).square().sum()
    loss.backward()
    for number, layer in enumerate(module.backbone.features):
        if isinstance(layer, torch.nn.Conv2d):
            assert (layer.weight.grad is not None) == (number >= tail.first)


def test_unless_it_gets_better_the_model_is_the_one_it_was(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Score, "better_than", lambda self, other: False)
    report = tune(place, model, tmp_path / "tuned.featx")
    tuned = load_model(tmp_path / "tuned.featx")
    assert (report.backbone, report.epochs) == ("", {"backbone": 0})
    assert tuned.spec == model.spec
    np.testing.assert_array_equal(tuned.estimator[-1].coef_, model.estimator[-1].coef_)


def test_what_no_random_start_betters_is_reported_as_it_is(place, model, tmp_path, monkeypatch):
    """And not by the random head, which nobody gets."""
    monkeypatch.setattr(Score, "better_than", lambda self, other: False)
    recipe = dataclasses.replace(FAST, init="random", epochs=1)
    report = tune(place, model, tmp_path / "tuned.featx", recipe)
    data = read_data(model, place / "photos.h5", recipe)
    base = head_of(model, data, data.train)
    names = np.array(data.training.classes)[data.val.labels]
    assert report.val_start == report.val_best == base.estimator.score(data.val.features, names)
    assert read_log(tmp_path / "tuned.featx")[0]["val_accuracy"] < report.val_start


def test_models_of_like_names_keep_their_backbones(place, model, tmp_path):
    for name in ("run.1", "run.2"):
        tune(place, model, tmp_path / name, dataclasses.replace(FAST, epochs=1, lr=1e-2))
    for name in ("run.1", "run.2"):
        assert load_backbone_for(load_model(tmp_path / name).spec, None, tmp_path / name).name == "finetuned"
    (tmp_path / "other.backbone.safetensors").write_bytes(b"another model's")
    with pytest.raises(ModelError, match=r"other\.backbone\.safetensors is there already"):
        tune(place, model, tmp_path / "other.featx")


@pytest.mark.parametrize("change", ["one", "class"])
def test_other_labels_are_not_gone_on_with(place, tmp_path, monkeypatch, change):
    fill(tmp_path / "photos", each=8)
    rows = ["path,label", *(f"{c}/{n}.png,{c}" for c in ("blue", "green", "red") for n in range(8))]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    extract(tmp_path / "rows.csv", tmp_path / "photos.h5", SPEC, root=tmp_path / "photos")
    model = fit(tmp_path / "photos.h5", head="softmax", blocks=(3, 4, 5), C=1.0, validation=Validation(folds=3))
    output = tmp_path / "tuned.featx"
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_keep", lambda self, state, keep=Stage._keep: (keep(self, state), stop())[0])
        with pytest.raises(Stop):
            tune_here(tmp_path, model, output)
    text = (tmp_path / "rows.csv").read_text()
    text = text.replace("red/1.png,red", "red/1.png,blue") if change == "one" else text.replace(",red", ",rot")
    (tmp_path / "rows.csv").write_text(text)
    extract(tmp_path / "rows.csv", tmp_path / "photos.h5", SPEC, root=tmp_path / "photos")
    if change == "class":
        with pytest.raises(SpecMismatch, match=r"labels of .* are others than when the model was fitted; fit it again"):
            tune_here(tmp_path, model, output)
        return
    tune_here(tmp_path, model, output)
    tune_here(tmp_path, model, tmp_path / "fresh.featx")
    (ours, theirs) = (read_log(path) for path in (output, tmp_path / "fresh.featx"))
    assert [row["train_loss"] for row in ours] == [row["train_loss"] for row in theirs]


def tune_here(folder, model, output):
    return finetune(model, folder / "photos.h5", output, FAST, root=folder / "photos")


class Stop(Exception):
    """Stands for a kill after a batch."""


@pytest.mark.parametrize("batches", [2, 5, 7])
def test_stopped_and_resumed_it_ends_with_the_same_weights(place, model, tmp_path, batches, monkeypatch):
    recipe = dataclasses.replace(FAST, dropout=0.3, ema_decay=0.9, mixup=0.2, accumulate=2, lr=1e-2)
    tune(place, model, tmp_path / "whole.featx", recipe)
    left = [batches]
    mix = Stage._mix

    def stopping(self, inputs, rng):
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        return mix(self, inputs, rng)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_mix", stopping)
        with pytest.raises(Stop):
            tune(place, model, tmp_path / "stopped.featx", recipe)
    tune(place, model, tmp_path / "stopped.featx", recipe)
    whole, stopped = (tmp_path / name for name in ("whole.featx", "stopped.featx"))
    assert whole.read_bytes() == stopped.read_bytes()
    beside = [path.with_name(path.stem + ".backbone.safetensors") for path in (whole, stopped)]
    assert [path.exists() for path in beside] == [True, True]
    assert beside[0].read_bytes() == beside[1].read_bytes()
    logs = [[{**row, "seconds": 0} for row in read_log(path)] for path in (whole, stopped)]
    assert logs[0] == logs[1]


def test_splits_share_what_frozen_layers_give(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Score, "better_than", lambda self, other: True)
    computed, compute = [], Boundary._compute

    def watched(self, make, spec, pending, *arguments):
        computed.extend((path, spec.n_views) for path in pending)
        return compute(self, make, spec, pending, *arguments)

    monkeypatch.setattr(Boundary, "_compute", watched)
    shared = tmp_path / "shared"
    for seed in range(2):
        recipe = dataclasses.replace(FAST, epochs=1, refit=True, random_state=seed)
        tune(place, model, tmp_path / f"{seed}.featx", recipe, cache=shared)
        assert len(computed) == len({path for path, _ in computed}) == 36
        assert {views for _, views in computed} == {SPEC.n_views}
    assert {path.suffix for path in shared.iterdir()} == {".boundary", ".index", ".lock"}


def test_another_recipe_does_not_go_on_from_a_stopped_run(place, model, tmp_path, monkeypatch):
    output = tmp_path / "tuned.featx"
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_keep", lambda self, state, keep=Stage._keep: (keep(self, state), stop())[0])
        with pytest.raises(Stop):
            tune(place, model, output, dataclasses.replace(FAST, epochs=1, lr=3e-3))
    folder = tmp_path / "tuned.featx.finetune"
    assert {path.name for path in folder.iterdir()} >= {"backbone.pt", "run", "log.csv"}
    assert list(folder.glob("*.boundary"))
    tune(place, model, output, dataclasses.replace(FAST, epochs=1))
    assert [(row["epoch"], row["learning_rate"]) for row in read_log(output)] == [(0, None), (1, FAST.lr)]
    assert {path.name for path in folder.iterdir()} == {"log.csv", "log.jsonl"}


def stop(*_):
    raise Stop


def test_no_row_of_the_log_is_lost_by_a_stop(place, model, tmp_path, monkeypatch):
    for moment in ("_keep", "_note"):
        output = tmp_path / f"{moment}.featx"
        for whole in (True, False):
            # Either just before, or just after what is written at that moment.
            written = getattr(Stage, moment)

            def stopping(self, *args, written=written, whole=whole, **row):
                if whole:
                    written(self, *args, **row)
                if self._optimizer.state:
                    raise Stop
                if not whole:
                    written(self, *args, **row)

            with monkeypatch.context() as patch:
                patch.setattr(Stage, moment, stopping)
                with pytest.raises(Stop):
                    tune(place, model, output)
        tune(place, model, output)
        assert [row["epoch"] for row in read_log(output)] == [0, 1, 2]


def test_a_cache_stays_wherever_it_is(place, model, tmp_path):
    output = tmp_path / "tuned.featx"
    tune(place, model, output, cache=tmp_path / "tuned.featx.finetune")
    (path,) = (tmp_path / "tuned.featx.finetune").glob("*.boundary")
    assert path.stat().st_size == 36 * SPEC.n_views * 512 * 2 * 2 * 2


def test_where_memory_runs_out_a_smaller_batch_is_advised(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Tail, "forward", lambda self, *inputs: torch.empty(1 << 60))
    with pytest.raises(EngineError, match="memory ran out in training; give a smaller --batch-size, with --accumulate"):
        tune(place, model, tmp_path / "tuned.featx")
    monkeypatch.setattr(Tail, "forward", stop)
    with pytest.raises(Stop):
        tune(place, model, tmp_path / "tuned.featx")


def test_a_share_that_cannot_be_held_out_is_told_by_its_option(place, model, tmp_path):
    with pytest.raises(DataError, match=r"--val-size 0\.01 does not split these rows by class"):
        tune(place, model, tmp_path / "tuned.featx", dataclasses.replace(FAST, val_size=0.01))


@pytest.mark.parametrize("mixed", [False, True])
def test_a_cpu_trains_by_winograd_in_memory_that_is_kept(place, model, tmp_path, monkeypatch, mixed):
    monkeypatch.setattr("featx.finetuning.placement.winograd_is_faster", lambda: True)
    monkeypatch.setattr("featx.engines.winograd.MOST_COVERED", 4)
    seen, entered, run = [], [], Stage.run

    def watched(stage, advance):
        seen.append(sum(isinstance(layer, WinogradConv2d) for layer in stage.model.modules()))
        return run(stage, advance)

    @contextmanager
    def keeping():
        entered.append(True)
        yield

    monkeypatch.setattr(Stage, "run", watched)
    monkeypatch.setattr("featx.finetuning.resumable_run.keeping_memory", keeping)
    report = tune(place, model, tmp_path / "tuned.featx", dataclasses.replace(FAST, amp=mixed))
    assert [count > 0 for count in seen] == [not mixed]
    assert entered == [True]
    assert report.val_best >= report.val_start


def test_a_stopped_run_goes_on_as_mixed_as_it_began(place, model, tmp_path, monkeypatch):
    seen = []

    def watched(stage, advance):
        seen.append(stage.model.mixed)
        raise Stop

    monkeypatch.setattr(Stage, "run", watched)
    for pays, mixed in ((True, None), (False, None), (False, False)):
        monkeypatch.setattr("featx.finetuning.placement.bf16_is_faster", lambda pays=pays: pays)
        with pytest.raises(Stop):
            tune(
                place,
                model,
                tmp_path / "tuned.featx",
                dataclasses.replace(FAST, amp=mixed),
                compute=Compute(device="cpu"),
            )
    assert seen == [True, True, False]


def test_the_backbone_alone_is_mixed(place, model, oxford):
    module = make_module(model, oxford, 1.0, FAST)
    tail = Tail(module, first_trained("block5"), mixed=True).eval()
    kinds = []
    tail.module.backbone.features[24].register_forward_hook(lambda layer, inputs, output: kinds.append(output.dtype))
    tail.module.head.register_forward_hook(lambda layer, inputs, output: kinds.append(output.dtype))
    features = torch.zeros(2, sum(model.spec.widths.values()))
    tail(torch.zeros(2, *boundary_shape(model.spec, tail.boundary)), features)
    assert kinds == [torch.bfloat16, torch.float32]


def test_a_refit_validates_the_same_rows(place, model, tmp_path):
    logs = []
    for refit in (False, True):
        output = tmp_path / f"{refit}.featx"
        tune(place, model, output, dataclasses.replace(FAST, refit=refit))
        logs.append([row for row in read_log(output) if row["stage"] == "backbone"])
    assert len(logs[0]) == len(logs[1]) == 1 + FAST.epochs
    for ours, theirs in zip(*logs, strict=True):
        # But for rounding: an engine may take images by themselves in another way than among others.
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-2)


def test_refit_trains_on_all_images_as_long(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Score, "better_than", lambda self, other: True)
    report = tune(place, model, tmp_path / "tuned.featx", dataclasses.replace(FAST, refit=True, head_epochs=1))
    assert report.epochs == {"head": 1, "backbone": 2}
    rows = read_log(tmp_path / "tuned.featx")
    # Nothing is held out there, so that there is nothing to validate on, and no point of a curve.
    refitted = [(row["epoch"], row["val_accuracy"]) for row in rows if row["stage"] == "refit-backbone"]
    assert refitted == [(1, None), (2, None)]
    ((name, drawn),) = read_logs([f"{tmp_path}/tuned.featx.finetune/"]).items()
    assert (name, [row["stage"] for row in drawn]) == ("tuned.featx", 2 * ["head"] + 3 * ["backbone"])
    assert load_model(tmp_path / "tuned.featx").spec.backbone == "finetuned"


def test_a_schedule_runs_over_the_epochs_that_are_trained(tmp_path):
    rows = Rows((np.ones((4, 2), np.float32),), np.array([0, 1, 0, 1]), np.arange(4))
    layer = torch.nn.Linear(2, 2)
    stage = Stage("x", layer, [{"params": list(layer.parameters()), "lr": 0.1}], 9, FAST, rows, rows, tmp_path,
                  Log(tmp_path), device=torch.device("cpu"), stop=2)  # fmt: skip
    stage.run()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert stage._rates[0] == pytest.approx(0, abs=1e-9)


def test_patience_ends_a_stage(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Score, "better_than", lambda self, other: False)
    tune(place, model, tmp_path / "tuned.featx", dataclasses.replace(FAST, epochs=9, patience=2))
    assert len((tmp_path / "tuned.featx.finetune" / "log.jsonl").read_text().splitlines()) == 3


def test_an_epoch_takes_one_view_of_each_image_and_they_change(place, model, tmp_path):
    data = read_data(model, place / "photos.h5", FAST)
    rows = Rows((data.train.features,), data.train.labels, data.train.owners)
    layer = torch.nn.Linear(rows.inputs[0].shape[1], 3)
    stage = Stage("x", layer, [{"params": list(layer.parameters()), "lr": 0.1}], 1, FAST, rows, rows, tmp_path, None,
                  device=torch.device("cpu"))  # fmt: skip
    epochs = [np.concatenate(list(stage._batches(np.random.default_rng(seed)))) for seed in (0, 1)]
    for chosen in epochs:
        assert sorted(rows.owners[chosen]) == list(range(27))
    assert set(epochs[0]) != set(epochs[1])


def test_from_scratch_begins_at_random(place, model, tmp_path, oxford):
    recipe = dataclasses.replace(FAST, epochs=1, from_scratch=True, init="random", batch_size=16)
    module = make_module(model, oxford, 1.0, recipe)
    known = to_torch(model, oxford)
    assert not torch.equal(module.backbone.features[0].weight, known.backbone.features[0].weight)
    assert not torch.equal(module.head.weight, known.head.weight)
    assert tune(place, model, tmp_path / "tuned.featx", recipe).val_start < 1
    assert dataclasses.replace(recipe, init="head") == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.0}, "--dropout of finetune must be from 0 up to, not including, 1, got 1.0"),
        ({"epochs": -1}, "--epochs of finetune must be 0 or more, got -1"),
        ({"batch_size": 0}, "--batch-size of finetune must be 1 or more, got 0"),
        ({"lr": 0.0}, "--lr of finetune must be above 0, got 0.0"),
        ({"val_size": 1.0}, "--val-size of finetune must be between 0 and 1, got 1.0"),
        ({"init": "zeros"}, "--init of finetune must be one of head, random, got 'zeros'"),
        ({"schedule": "step"}, "--schedule of finetune must be one of cosine, constant, got 'step'"),
        ({"unfreeze": "block6"}, "--unfreeze of finetune must be block1 to block5, layers=1 to layers=13, all or none"),
        ({"unfreeze": "layers=14"}, "got 'layers=14'"),
        ({"from_scratch": True, "epochs": 0}, "--from-scratch of finetune trains backbone and head together: give --"),
        ({"from_scratch": True, "head_epochs": 1}, "--from-scratch of finetune trains backbone and head together"),
    ],
)
def test_a_recipe_out_of_range_is_named(values, message):
    with pytest.raises(SpecError, match=message):
        Recipe(**values)


def test_a_recipe_is_named_by_options_that_there_are():
    options = {option for parameter in command.params for option in parameter.opts}
    names = [field.name for field in dataclasses.fields(Recipe)]
    assert {"--" + OPTIONS.get(name, name).replace("_", "-") for name in names} < options


def test_what_is_trained_and_what_lies_frozen_before_it():
    named = {name: first_trained(name) for name in ("block5", "layers=4", "layers=13", "block1", "all", "none")}
    assert named == {"block5": 24, "layers=4": 21, "layers=13": 0, "block1": 0, "all": 0, "none": None}
    assert [frozen_block(first) for first in (24, 21, 17, 0)] == [4, 3, 3, 0]
    # Of a model that ends before, the last layers are its own.
    assert [first_trained(name, 4) for name in ("layers=1", "layers=4", "all")] == [21, 14, 0]
    with pytest.raises(SpecError, match="layers=1 to layers=10"):
        first_trained("layers=11", 4)


def test_a_hidden_layer_needs_two_units_a_class():
    with pytest.raises(SpecError, match="--hidden of finetune must be at least 6 to begin as a head of 3 logits"):
        make_layers(torch.ones(3, 2), torch.zeros(3), Recipe(hidden=5))
    assert make_layers(torch.ones(3, 2), torch.zeros(3), Recipe(hidden=5, init="random"))[0].out_features == 5


def test_what_cannot_be_tuned_says_so(place, model, tmp_path):
    (tmp_path / "there.featx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"there\.featx is there already; choose another --output"):
        tune(place, model, tmp_path / "there.featx")
    with pytest.raises(ModelError, match="finetune has nothing to train: give --head-epochs, or --epochs"):
        tune(place, model, tmp_path / "none.featx", Recipe(unfreeze="none"))
    other = dataclasses.replace(model, info={**model.info, "store": "another"})
    with pytest.raises(SpecMismatch, match="has other images than the store that the model was fitted on"):
        tune(place, other, tmp_path / "other.featx")
    with pytest.raises(
        DataError,
        match=r"0\.png of the store cannot be trained on: cannot be read: .*; finetune .*, from files below --root",
    ):
        finetune(model, place / "photos.h5", tmp_path / "gone.featx", FAST, root=tmp_path)
    recipe = dataclasses.replace(FAST, unfreeze="all")
    with pytest.raises(
        DataError, match=r"of the store cannot be trained on: cannot be read: .*; finetune reads images again"
    ):
        finetune(model, place / "photos.h5", tmp_path / "gone.featx", recipe, root=tmp_path)


@pytest.mark.parametrize(
    "recipe", [FAST, dataclasses.replace(FAST, head_epochs=2)], ids=["backbone", "head and backbone"]
)
def test_a_model_that_ends_before_what_is_to_be_trained_says_so(place, tmp_path, recipe):
    early = fit(place / "photos.h5", head="softmax", blocks=(3, 4), C=1.0)
    with pytest.raises(
        SpecError, match="must name layers that the model runs, which ends at block 4, got layers from 24"
    ):
        tune(place, early, tmp_path / "tuned.featx", recipe)
    assert not list(tmp_path.iterdir())
    tune(place, early, tmp_path / "head.featx", dataclasses.replace(FAST, head_epochs=1, epochs=0))


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        (Recipe(hidden=5), {}),
        (Recipe(unfreeze="none"), {}),
        (Recipe(epochs=0), {}),
        (FAST, {"compute": Compute(device="moon")}),
    ],
    ids=["units", "none", "no epochs", "device"],
)
def test_what_is_refused_leaves_no_folder_behind(place, model, tmp_path, recipe, options):
    with pytest.raises(FeatxError):
        tune(place, model, tmp_path / "tuned.featx", recipe, **options)
    assert not list(tmp_path.iterdir())


def test_the_command_tunes_and_says_what_it_gained(place, tmp_path):
    output = tmp_path / "tuned.featx"
    arguments = ["finetune", str(place / "photos.featx"), str(place / "photos.h5"), "-o", str(output), "--root",
                 str(place / "photos"), "--epochs", "1", "--val-size", "0.25", "--lr", "0.01",
                 "--plot", str(tmp_path / "curves.png")]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"{output}: validation accuracy " in result.output
    assert (tmp_path / "curves.png").is_file()
    result = CliRunner().invoke(main, [*arguments, "--overwrite", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == str(output)


def test_the_command_draws_the_accuracy_by_epoch(place, tmp_path):
    plot = tmp_path / "curve.svg"
    arguments = ["finetune", str(place / "photos.featx"), str(place / "photos.h5"), "-o", str(tmp_path / "tuned.featx"),
                 "--root", str(place / "photos"), "--epochs", "1", "--val-size", "0.25", "--lr", "0.01"]  # fmt: skip
    refused = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "curve.xyz")])
    assert (refused.exit_code, "name of a plot must end in one of ." in refused.output) == (1, True)
    assert not list(tmp_path.iterdir()), "the suffix is checked before the training"
    result = CliRunner().invoke(main, [*arguments, "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "<!-- tuned.featx -->" in plot.read_text()


def test_stages_are_drawn_one_after_the_other(tmp_path, monkeypatch):
    for name in ("transferred", "scratch"):
        folder = tmp_path / f"{name}.finetune"
        folder.mkdir()
        log = Log(folder)
        for stage in ("head", "backbone"):
            for epoch, value in enumerate((0.1, 0.5, 0.9)):
                log.add(epoch=epoch, stage=stage, val_accuracy=value)
    logs = read_logs([tmp_path / "transferred.finetune", tmp_path / "scratch.finetune"])
    save_figure(plot_training_curves(logs), tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert drawn.count("<!-- transferred -->") == 1
    # Two stages of two epochs each: the second continues where the first ends.
    axis = drawn[drawn.index('id="matplotlib.axis_1"') : drawn.index('id="matplotlib.axis_2"')]
    assert re.findall("<!-- (.*) -->", axis) == ["0", "1", "2", "3", "4", "epoch"]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EngineError, match=r"plots need a package: pip install 'featx\[plot\]'"):
        plot_training_curves({})


@pytest.mark.parametrize("names", [("red", "green", "blue"), ("red", "blue")], ids=["three classes", "two"])
def test_a_hidden_layer_is_saved_with_the_model(place, tmp_path, names, oxford):
    photos = tmp_path / "photos"
    for name in names:
        shutil.copytree(place / "photos" / name, photos / name)
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
    np.testing.assert_allclose(logits.squeeze(), decisions, atol=1e-4)
    again, _ = from_torch(tuned.to_torch(), tuned)
    np.testing.assert_allclose(again.decision_function(np.hstack(list(features.values()))), decisions, atol=1e-6)
    assert export(tuned, tmp_path / "tuned.onnx").difference < 1e-3
    with pytest.raises(DataError, match=r"torch has trained the head and backbone of this model; fit it anew"):
        finetune(tuned, tmp_path / "photos.h5", tmp_path / "more.featx", recipe, root=photos)


def test_what_torch_has_trained_is_not_tuned_again(place, tmp_path, monkeypatch):
    """Its head would be fitted anew by scikit-learn, and the trained one thrown away without a word."""
    model = fit(
        place / "photos.h5",
        head="linear-svc",
        blocks=(3,),
        C=10.0,
        options=FitOptions(class_weight="balanced", calibrate=True),
    )
    recipe = dataclasses.replace(FAST, head_epochs=2, epochs=0)
    with monkeypatch.context() as patch:
        patch.setattr(Score, "better_than", lambda self, other: False)
        tune(place, model, tmp_path / "kept.featx", recipe)
    kept = load_model(tmp_path / "kept.featx")
    assert (kept.head, "calibration" in kept.info) == ("linear-svc", True)
    monkeypatch.setattr(Score, "better_than", lambda self, other: True)
    tune(place, kept, tmp_path / "tuned.featx", recipe)
    tuned = load_model(tmp_path / "tuned.featx")
    head = tuned.estimator.named_steps["head"]
    assert (head.C, head.class_weight, tuned.info["C"]) == (10.0, "balanced", 10.0)
    assert "calibration" not in tuned.info
    with pytest.raises(DataError, match=r"torch has trained the head of this model; fit it anew on .*photos\.h5, or"):
        tune(place, tuned, tmp_path / "more.featx", recipe)
    assert not (tmp_path / "more.featx.finetune").exists()


def test_mixed_images_are_preprocessed_as_others_are(place, model, oxford):
    data = read_data(model, place / "photos.h5", FAST)
    tail = Tail(make_module(model, oxford, 1.0, FAST), 0).eval()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    features = torch.from_numpy(data.val.features[:3])
    with torch.no_grad():
        torch.testing.assert_close(tail(pixels.float(), features), tail(pixels, features))


def test_a_model_that_was_fitted_with_weights_is_refused(place):
    with Store(place / "photos.h5") as store:
        weights = np.ones(store.n_rows)
    weighted = fit(place / "photos.h5", head="softmax", blocks=(3,), C=1.0, options=FitOptions(sample_weight=weights))
    with pytest.raises(DataError, match="finetune counts all images alike, and this model's fit did not"):
        read_data(weighted, place / "photos.h5", FAST)


def test_a_hidden_layer_has_weights_or_is_none():
    with pytest.raises(NotFittedError):
        HiddenLayer().fit(np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"a hidden layer has weights \(units, columns\) and intercepts \(units,\)"):
        HiddenLayer.from_parts(np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
    layer = HiddenLayer.from_parts(np.eye(2, dtype=np.float32), np.array([0, 1], np.float32))
    assert layer.fit(np.zeros((1, 2))).transform([[-1.0, -0.5]]).tolist() == [[0, 0.5]]


def test_the_command_has_every_choice_of_a_recipe_with_its_default():
    options = command.make_context("finetune", ["m.featx", "s.h5", "-o", "t.featx", "--root", "."]).params
    for field in dataclasses.fields(Recipe):
        assert options[OPTIONS.get(field.name, field.name)] == field.default, field.name


def test_what_is_no_number_is_never_the_best(place, model, tmp_path):
    assert not Score(0.9, float("nan")).better_than(Score(0.1, 2.3))
    assert Score(0.9, 1.0).better_than(Score(0.1, 2.3))
    recipe = dataclasses.replace(FAST, epochs=0, head_epochs=3, lr=1e30, label_smoothing=0.1)
    with pytest.raises(
        ModelError, match=r"the training of epoch \d has left the range of numbers; give a smaller --lr"
    ):
        tune(place, model, tmp_path / "far.featx", recipe)
