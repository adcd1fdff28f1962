"""The parts of fine-tuning: where it starts, the trained layers, one stage of training, and the log."""

import dataclasses
import re
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from featx.drawing import save_figure
from featx.engines import make_engine
from featx.errors import DataError, EngineError
from featx.finetuning import Recipe, plot_training_curves, read_logs
from featx.finetuning.activation_cache import ActivationCache, activation_shape
from featx.finetuning.recipe import first_trained_layer
from featx.finetuning.stage import Stage, ValidationScore
from featx.finetuning.starting_point import fit_head, fit_logit_scale, make_classifier, read_finetune_data
from featx.finetuning.trainable_layers import TrainableLayers
from featx.finetuning.training_examples import TrainingExamples, mix_up
from featx.finetuning.training_log import TrainingLog
from featx.heads import HiddenLayer
from featx.models import FitOptions, fit, load_model, to_torch
from featx.runtime import Compute
from featx.store import Store

CPU = torch.device("cpu")
FAST = Recipe(epochs=2, batch_size=8, lr=1e-3, val_size=0.25)


@pytest.fixture(scope="module")
def store(finetune_folder):
    return finetune_folder / "photos.h5"


@pytest.fixture
def model(finetune_folder):
    return load_model(finetune_folder / "photos.featx")


@pytest.fixture
def data(model, store):
    return read_finetune_data(model, store, FAST)


def test_validation_images_are_plain_and_not_trained_on(store, model, data):
    assert not set(data.train.digests) & set(data.val.digests)
    assert (len(data.train.digests), len(data.val.digests)) == (27, 9)
    assert (len(data.train.labels), len(data.val.labels)) == (81, 9)
    assert np.bincount(data.train.image_ids).tolist() == [3] * 27
    with Store(store) as opened:
        paths, X = np.array(opened.paths), opened.read(model.spec.widths)
    for images in (data.train, data.val):
        for number, path in enumerate(images.digests):
            stored = X[paths == path][: (images.image_ids == number).sum()]
            np.testing.assert_array_equal(images.features[images.image_ids == number], stored)


def test_a_model_fitted_with_sample_weights_is_refused(store):
    with Store(store) as opened:
        weights = np.ones(opened.n_rows)
    weighted = fit(store, head="softmax", blocks=(3,), C=1.0, options=FitOptions(sample_weight=weights))
    with pytest.raises(DataError, match="finetune does not support sample weights; fit the model without them first"):
        read_finetune_data(weighted, store, FAST)


@pytest.mark.parametrize("head", ["linear-svc", "ovr-logistic", "softmax"])
def test_the_logit_scale_fits_images_that_the_head_has_not_seen(store, head):
    model = fit(store, head=head, blocks=(3, 4, 5), C=1.0)
    data = read_finetune_data(model, store, FAST)
    base = fit_head(model, data, data.train)
    labels = data.val.labels
    mistaken = dataclasses.replace(data.val, labels=np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 3, labels))
    scale, scale_with_errors = fit_logit_scale(base, data.val), fit_logit_scale(base, mistaken)
    if head == "softmax":
        assert scale == scale_with_errors == 1
        return
    assert scale_with_errors < scale
    # The head makes no error on these images, and still a loss is left to learn from.
    logits = torch.from_numpy(base.estimator.decision_function(data.val.features))
    assert (logits.argmax(1).numpy() == labels).all()
    assert 1e-3 < torch.nn.functional.cross_entropy(logits * scale, torch.from_numpy(labels)) < 0.7


def test_from_scratch_starts_with_random_weights(model, oxford):
    classifier = make_classifier(model, oxford, 1.0, dataclasses.replace(FAST, from_scratch=True))
    pretrained = to_torch(model, oxford)
    assert not torch.equal(classifier.backbone.features[0].weight, pretrained.backbone.features[0].weight)
    assert not torch.equal(classifier.head.weight, pretrained.head.weight)


@pytest.mark.parametrize("unfreeze", ["block5", "layers=4", "block4", "all"])
def test_cached_activations_and_trained_layers_give_the_logits_of_the_whole_model(
    finetune_folder, model, data, tmp_path, oxford, unfreeze
):
    classifier = make_classifier(model, oxford, 1.0, FAST)
    layers = TrainableLayers(classifier, first_trained_layer(unfreeze)).eval()
    cache, n_views = ActivationCache(tmp_path, data.spec, layers.frozen_block), data.spec.n_views
    cache.fill(
        lambda spec: make_engine(oxford, spec, "cpu"), data.val.digests, n_views, finetune_folder / "photos",
        Compute(workers=1),
    )  # fmt: skip
    rows = cache.select(data.val.digests.values(), n_views)
    assert rows[:].shape == (27, *activation_shape(data.spec, layers.frozen_block))
    x = torch.from_numpy(rows[np.arange(0, 27, 3)])
    x = x if x.dtype == torch.uint8 else x.float()
    with torch.no_grad():
        logits = layers(x, torch.from_numpy(data.val.features))
    np.testing.assert_allclose(logits.numpy(), model.decision_function(data.val.features), atol=5e-3)
    layers(x, torch.from_numpy(data.val.features)).square().sum().backward()
    for number, layer in enumerate(classifier.backbone.features):
        if isinstance(layer, torch.nn.Conv2d):
            assert (layer.weight.grad is not None) == (number >= layers.first_layer)


def test_mixed_precision_leaves_the_head_in_float32(model, oxford):
    layers = TrainableLayers(make_classifier(model, oxford, 1.0, FAST), first_trained_layer("block5"), amp=True).eval()
    dtypes = []
    for layer in (layers.classifier.backbone.features[24], layers.classifier.head):
        layer.register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    features = torch.zeros(2, sum(model.spec.widths.values()))
    layers(torch.zeros(2, *activation_shape(model.spec, layers.frozen_block)), features)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_mixed_up_float_images_are_preprocessed_like_uint8_images(model, data, oxford):
    layers = TrainableLayers(make_classifier(model, oxford, 1.0, FAST), 0).eval()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    features = torch.from_numpy(data.val.features[:3])
    with torch.no_grad():
        torch.testing.assert_close(layers(pixels.float(), features), layers(pixels, features))


def linear_stage(examples, folder, epochs, **options):
    """A stage that trains one linear layer on features."""
    layer = torch.nn.Linear(examples.inputs[0].shape[1], 3)
    groups = [{"params": list(layer.parameters()), "lr": 0.1}]
    return Stage("x", layer, groups, epochs, FAST, examples, examples, TrainingLog(folder), device=CPU, **options)


def test_the_schedule_ends_at_zero_after_the_trained_epochs(tmp_path):
    examples = TrainingExamples((np.ones((4, 2), np.float32),), np.array([0, 1, 0, 1]), np.arange(4))
    stage = linear_stage(examples, tmp_path, 2, validate=False)
    stage.run()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert stage._learning_rates[0] == pytest.approx(0, abs=1e-9)


def test_an_epoch_takes_one_random_copy_of_each_image(data):
    examples = TrainingExamples((data.train.features,), data.train.labels, data.train.image_ids)
    epochs = [np.concatenate(list(examples.iterate_batches(8, np.random.default_rng(seed)))) for seed in (0, 1)]
    for rows in epochs:
        assert sorted(examples.image_ids[rows]) == list(range(27))
    assert set(epochs[0]) != set(epochs[1])


def test_mixup_mixes_all_inputs_with_the_same_partners():
    inputs = [torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8), torch.randn(5, 7)]
    mixed, partners, share = mix_up(inputs, 1.0, np.random.default_rng(0))
    assert 0 < share < 1
    assert sorted(partners.tolist()) == list(range(5))
    for x, y in zip(inputs, mixed, strict=True):
        torch.testing.assert_close(y, share * x.float() + (1 - share) * x.float()[partners])


def test_a_score_that_is_not_finite_is_never_better():
    assert not ValidationScore(0.9, float("nan")).better_than(ValidationScore(0.1, 2.3))
    assert ValidationScore(0.9, 1.0).better_than(ValidationScore(0.1, 2.3))
    assert ValidationScore(0.9, 1.0).better_than(ValidationScore(0.9, 1.1))


def test_stages_are_drawn_one_after_the_other(tmp_path, monkeypatch):
    for name in ("transferred", "scratch"):
        folder = tmp_path / f"{name}.finetune"
        folder.mkdir()
        log = TrainingLog(folder)
        for stage in ("head", "backbone"):
            for epoch, value in enumerate((0.1, 0.5, 0.9)):
                log.add(epoch=epoch, stage=stage, val_accuracy=value)
    logs = read_logs([tmp_path / "transferred.finetune", tmp_path / "scratch.finetune"])
    save_figure(plot_training_curves(logs), tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert drawn.count("<!-- transferred -->") == 1
    # Two stages of two epochs each; the second continues where the first ends.
    axis = drawn[drawn.index('id="matplotlib.axis_1"') : drawn.index('id="matplotlib.axis_2"')]
    assert re.findall("<!-- (.*) -->", axis) == ["0", "1", "2", "3", "4", "epoch"]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EngineError, match=r"plots need a package: pip install 'featx\[plot\]'"):
        plot_training_curves({})


def test_a_hidden_layer_cannot_be_fitted_and_checks_its_shapes():
    with pytest.raises(NotFittedError):
        HiddenLayer().fit(np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"a hidden layer has weights \(units, columns\) and intercepts \(units,\)"):
        HiddenLayer.from_parts(np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
    layer = HiddenLayer.from_parts(np.eye(2, dtype=np.float32), np.array([0, 1], np.float32))
    assert layer.fit(np.zeros((1, 2))).transform([[-1.0, -0.5]]).tolist() == [[0, 0.5]]
