"""A model as a torch module and back: the same decisions, finite gradients, and the right backbone."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from featx.backbones.poolings import POOLINGS
from featx.engines.finetuned import finetuned_path, load_backbone_for, save_finetuned
from featx.engines.reference_check import compute_reference_features
from featx.engines.torch_engine import TorchEngine
from featx.errors import ModelError, SpecError, SpecMismatch, WeightsError, WeightsNotFound
from featx.heads.pipeline.calibration import TemperatureCalibration
from featx.heads.pipeline.linear_heads import HEADS, make_head
from featx.heads.pipeline.normalizer import BlockNormalizer
from featx.images.pixels.preprocessing import preprocess
from featx.images.pixels.reference_images import draw_reference_images
from featx.models.model_file import load_model
from featx.models.prediction import predict
from featx.models.saved_model import Model
from featx.models.torch_bridge import from_torch, to_torch
from featx.models.torch_modules import PowerNormalize, Standardize
from featx.models.trained_by_torch import trained_parts
from featx.spec.extract_spec import ExtractSpec

POOLS = (*POOLINGS, "cov32")

pytestmark = pytest.mark.core

NAMES = np.array(["daisy", "iris", "lily"])
FEATURES = {
    "block 5 avg": {"blocks": (5,)},
    "blocks 3-5 avg": {"blocks": (3, 4, 5)},
    "avg and max": {"blocks": (4, 5), "pools": ("avg", "max")},
    **{pool: {"blocks": (2, 5), "pools": (pool,)} for pool in POOLS},
}


def make_images(count=12, size=64):
    """Make up to 12 images: the reference images, flipped both ways, and darkened; uint8 (count, size, size, 3)."""
    spec = ExtractSpec(size=size)
    plain = [preprocess(image, spec) for image in draw_reference_images()]
    changed = [change(p) for change in (np.fliplr, np.flipud, lambda p: p // 3) for p in plain]
    return np.stack((plain + changed)[:count])


def as_tensor(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def fitted(oxford, head="softmax", normalize="power", classes=3, spec=None):
    """Fit a model on the features of these images; return it with the features."""
    spec = dataclasses.replace(spec or ExtractSpec(size=64, blocks=(1, 2)), backbone_digest=oxford.digest)
    engine = TorchEngine(oxford, spec, "cpu")
    X = np.hstack(list(engine(make_images(size=spec.size)).values()))
    C = 1e-7 if normalize == "none" else 10.0  # raw features are in the thousands
    estimator = make_head(head, C, normalize=normalize, widths=tuple(spec.widths.values()))
    estimator.fit(X, NAMES[np.arange(len(X)) % classes])
    names = tuple(NAMES[:classes].tolist())
    return Model(spec, names, head, estimator, compute_reference_features(engine), {"C": C}), X


@pytest.fixture(scope="module")
def model(oxford):
    return fitted(oxford)[0]


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("head", HEADS)
def test_logits_equal_the_heads_decisions(oxford, head, features):
    model, X = fitted(oxford, head, spec=ExtractSpec(size=64, **FEATURES[features]))
    with torch.no_grad():
        logits = model.to_torch(oxford)(as_tensor(make_images())).numpy()
    assert logits.shape == (12, 3)
    assert np.abs(logits - model.decision_function(X)).max() < 1e-4


@pytest.mark.parametrize("normalize", ["power", "standard", "none"])
@pytest.mark.parametrize("head", HEADS)
def test_every_normalizer_with_two_classes(oxford, head, normalize):
    model, X = fitted(oxford, head, normalize, classes=2)
    with torch.no_grad():
        logits = to_torch(model, oxford)(as_tensor(make_images())).numpy()
    expected = model.decision_function(X)
    assert logits.shape == (12, 2)
    limit = 1e-4 * max(1, np.abs(expected).max())
    assert np.abs(logits[:, 1] - logits[:, 0] - expected).max() < limit
    assert np.abs(logits.sum(axis=1)).max() < limit
    if model.has_probabilities:
        assert np.abs(torch.from_numpy(logits).softmax(1).numpy() - model.predict_proba(X)).max() < 1e-4


def test_preprocessed_images_and_stored_features(oxford, model):
    module, images = to_torch(model, oxford), as_tensor(make_images(3))
    with torch.no_grad():
        logits = module(images)
        assert torch.equal(module(module.preprocess(images)), logits)
        assert torch.equal(module.classify(module.features(images)), logits)
        stored = torch.from_numpy(np.hstack(list(model.reference_features.values())))
        torch.testing.assert_close(module.classify(stored), logits, atol=1e-4, rtol=0)


def test_images_of_the_wrong_range_or_size(oxford, model):
    """To the backbone, floats from 0 to 1 would all be nearly black."""
    module, images = to_torch(model, oxford), as_tensor(make_images(3))
    with pytest.warns(
        UserWarning, match=r"got values from 0 to 1, .* give uint8, or module\.preprocess\(255 \* images"
    ):
        module(images / 255)
    module(images / 255)  # warns only once
    torch.testing.assert_close(module(module.preprocess(255 * (images / 255))), module(images), atol=1e-3, rtol=0)
    for shape in ((3, 3, 32, 32), (3, 64, 64), (3, 1, 64, 64)):
        with pytest.raises(SpecError, match=r"must have the shape \(n, 3, 64, 64\), the size .*, got \(3, "):
            module(torch.zeros(shape, dtype=torch.uint8))


def test_another_power_than_one_half(oxford):
    X = np.abs(np.random.default_rng(0).normal(size=(4, 6))).astype(np.float32) * [1, -1, 1, -1, 1, 1]
    expected = BlockNormalizer((4, 2), 0.25).fit_transform(X)
    np.testing.assert_allclose(PowerNormalize((4, 2), 0.25)(torch.tensor(X)), expected, atol=1e-6)
    assert repr(PowerNormalize((4, 2), 0.25)) == "PowerNormalize(widths=[4, 2], power=0.25)"


def test_gradients_at_zero_are_finite():
    x = torch.zeros(3, 6, requires_grad=True)
    with torch.no_grad():
        x[1, 2], x[2, :] = 4.0, 1e-30
    PowerNormalize((4, 2), 0.5)(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    normalized = PowerNormalize((4, 2), 0.5)(x)
    assert normalized[0].tolist() == [0] * 6
    assert normalized[1].tolist() == [0, 0, 1, 0, 0, 0]


def test_all_parameters_get_finite_gradients(oxford, model):
    module = to_torch(model, oxford)
    images = as_tensor(make_images(3))
    images[0] = 0
    loss = nn.functional.cross_entropy(module(images), torch.tensor([0, 1, 2]))
    loss.backward()
    names = dict(module.named_parameters())
    assert set(names) == {f"backbone.features.{i}.{part}" for i in (0, 2, 5, 7) for part in ("weight", "bias")} | {
        "head.weight",
        "head.bias",
    }
    for name, parameter in names.items():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_state_includes_the_scaler():
    assert set(Standardize(np.zeros(2), np.ones(2)).state_dict()) == {"mean", "scale"}


def test_a_round_trip_returns_the_same_model(oxford, model):
    images = as_tensor(make_images(3))
    back, weights = from_torch(to_torch(model, oxford), model, oxford)
    assert (back.spec, back.head, back.classes, back.info) == (model.spec, model.head, model.classes, model.info)
    assert weights is oxford
    assert torch.equal(to_torch(back, weights)(images), to_torch(model, oxford)(images))


def test_a_calibration_of_probabilities_is_dropped(oxford):
    model, _ = fitted(oxford, "linear-svc")
    calibrated = dataclasses.replace(model, calibration=TemperatureCalibration(0.5))
    back, _ = from_torch(to_torch(calibrated, oxford), calibrated, oxford)
    assert back.calibration is None


def test_info_does_not_mention_a_dropped_calibration(oxford):
    model, _ = fitted(oxford, "linear-svc")
    told = dataclasses.replace(model, info={"C": 10.0, "calibration": {"method": "temperature", "folds": 5}})
    assert from_torch(to_torch(told, oxford), told, oxford)[0].info == {"C": 10.0}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("head", HEADS)
def test_parameters_of_the_head_are_kept(oxford, head, kind):
    model, X = fitted(oxford, head)
    estimator = make_head(head, 20.0, class_weight="balanced", random_state=3, widths=model.spec.widths.values())
    estimator.fit(X, model.predict(X))
    model = dataclasses.replace(model, estimator=estimator)
    back = from_torch(to_torch(model, oxford), model, oxford, head=kind)[0].estimator.named_steps["head"]
    kept = getattr(back, "estimator", back)
    assert (kept.C, kept.class_weight, kept.random_state) == (20.0, "balanced", 3)


def test_class_weights_by_name_do_not_pass_to_another_head(oxford):
    model, _ = fitted(oxford)
    model.estimator.set_params(head__class_weight={"iris": 2.0})
    kept = {kind: from_torch(to_torch(model, oxford), model, oxford, head=kind)[0].estimator[-1] for kind in HEADS}
    assert kept["softmax"].class_weight == {"iris": 2.0}
    assert kept["ovr-logistic"].estimator.class_weight is None


def test_a_model_knows_which_of_its_parts_torch_has_trained(oxford, model, tmp_path):
    def trained(change, start=model, weights=oxford, **options):
        module = to_torch(start, weights)
        with torch.no_grad():
            change(module)
        back, backbone = from_torch(module, start, weights, **options)
        back.save(tmp_path / "m.featx", overwrite=True)
        assert trained_parts(back) == trained_parts(load_model(tmp_path / "m.featx"))
        return back, backbone

    def head(module):
        module.head.bias[0] += 0.5

    def backbone(module):
        module.backbone.features[5].weight += 1e-3

    def hidden(module):
        module.head = nn.Sequential(nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))

    assert trained_parts(trained(nn.Module.eval)[0]) == ()
    assert trained_parts(trained(nn.Module.eval, head="ovr-logistic")[0]) == ("head",)
    assert trained_parts(trained(hidden)[0]) == ("head",)
    after, weights = trained(backbone)
    assert trained_parts(after) == ("backbone",)
    assert trained_parts(trained(nn.Module.eval, after, weights)[0]) == ("backbone",)
    assert trained_parts(trained(head, after, weights)[0]) == ("head", "backbone")


@pytest.mark.parametrize(
    ("epochs", "parts"),
    [({"backbone": 0}, ()), ({"head": 2, "backbone": 0}, ("head",)), ({"backbone": 2}, ("head", "backbone"))],
)
def test_models_of_the_first_versions_know_it_by_their_epochs(model, epochs, parts):
    assert trained_parts(dataclasses.replace(model, info={"finetune": {"epochs": epochs}})) == parts


def tuned(oxford, model, **options):
    """Change the backbone and the head of a module; return it with its model and backbone."""
    module = to_torch(model, oxford)
    with torch.no_grad():
        module.backbone.features[5].weight += 1e-3
        module.head.bias += 0.5
    return module, *from_torch(module, model, oxford, **options)


def test_predict_with_a_fine_tuned_model(oxford, model, tmp_path):
    module, changed, weights = tuned(oxford, model, info={"note": "tuned"})
    assert changed.spec.backbone == "finetuned"
    assert changed.spec.backbone_digest == weights.digest != oxford.digest
    assert changed.info == {"note": "tuned", "trained_by_torch": ["head", "backbone"]}
    for name, values in weights.tensors.items():  # layers after block 2 are not trained
        assert np.array_equal(values, oxford.tensors[name]) == (name != "features.5.weight")
    changed.save(tmp_path / "tuned.featx")
    assert save_finetuned(weights, tmp_path / "tuned.featx") == tmp_path / "tuned.backbone.safetensors"

    reopened = load_model(tmp_path / "tuned.featx")
    for number, image in enumerate(draw_reference_images()):
        image.save(tmp_path / f"{number}.png")
    found = [next(predict(reopened, [tmp_path / f"{number}.png"], top=3)) for number in range(3)]
    with torch.no_grad():
        expected = module(as_tensor(make_images(3))).softmax(1).numpy()
    np.testing.assert_allclose([p.probabilities for p in found], -np.sort(-expected, axis=1), atol=1e-4)
    with torch.no_grad():
        assert torch.equal(reopened.to_torch()(as_tensor(make_images(3))), module(as_tensor(make_images(3))))


def test_another_backbone_beside_a_model_is_refused(oxford, model, tmp_path):
    _, changed, weights = tuned(oxford, model)
    changed.save(tmp_path / "tuned.featx")
    reopened = load_model(tmp_path / "tuned.featx")
    file = rf".*tuned\.backbone\.safetensors \(digest {weights.digest}\)"
    message = rf"the backbone finetuned of .*tuned\.featx must be in {file}"
    with pytest.raises(WeightsNotFound, match=message):
        reopened.to_torch()
    save_finetuned(dataclasses.replace(oxford, name="finetuned"), tmp_path / "tuned.featx")
    with pytest.raises(WeightsNotFound, match="or be given by --weights, got neither"):
        reopened.to_torch()
    with pytest.raises(SpecMismatch, match=r"backbone_digest is .* in the model but .* in the weights from"):
        reopened.to_torch(finetuned_path(tmp_path / "tuned.featx"))
    save_finetuned(weights, tmp_path / "elsewhere.featx")
    assert load_backbone_for(reopened.spec, finetuned_path(tmp_path / "elsewhere.featx")).digest == weights.digest
    with pytest.raises(WeightsNotFound, match="name of a backbone must be one of"):
        load_backbone_for(reopened.spec)


def test_the_spec_decides_the_preprocessing_of_a_file(oxford, model, tmp_path):
    _, changed, weights = tuned(oxford, model)
    spec = dataclasses.replace(changed.spec, preprocessing="imagenet1k_v1")
    file = save_finetuned(weights, tmp_path / "other.featx")
    assert load_backbone_for(spec, file).preprocessing == "imagenet1k_v1"
    assert load_backbone_for(spec, model=tmp_path / "other.featx").preprocessing == "imagenet1k_v1"


def test_a_backbone_that_cannot_be_written(oxford, tmp_path):
    with pytest.raises(WeightsError, match=r"gone/m\.backbone\.safetensors cannot be written: "):
        save_finetuned(oxford, tmp_path / "gone" / "m.featx")


def test_a_trained_backbone_is_fp32_without_calibration(oxford, model):
    spec = dataclasses.replace(model.spec, precision="int8", calibration=(100.0,) * 13)
    quantized = dataclasses.replace(model, spec=spec)
    same, _ = from_torch(to_torch(quantized, oxford), quantized, oxford)
    assert same.spec == spec
    _, changed, _ = tuned(oxford, quantized)
    assert (changed.spec.precision, changed.spec.calibration) == ("fp32", ())


def test_a_head_with_dropout_and_two_logits_for_two_classes(oxford):
    model, X = fitted(oxford, "linear-svc", classes=2)
    module = to_torch(model, oxford)
    module.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(sum(model.spec.widths.values()), 2, bias=False)).eval()
    back, _ = from_torch(module, model, oxford, head="softmax")
    with torch.no_grad():
        expected = module(as_tensor(make_images())).softmax(1).numpy()
    np.testing.assert_allclose(back.predict_proba(X), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "got"),
    [
        (nn.Sequential(nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3)), "Linear, Tanh, Linear"),
        (nn.Identity(), "none"),
        (nn.Sequential(nn.ReLU()), "ReLU"),
    ],
)
def test_a_head_with_other_layers_is_refused(oxford, model, head, got):
    module = to_torch(model, oxford)
    module.head = head
    message = f"head of the module must be one linear layer, or two with ReLU between, to become a model, got {got}"
    with pytest.raises(ModelError, match=re.escape(message)):
        from_torch(module, model, oxford)


def test_a_head_with_another_number_of_classes_is_refused(oxford, model):
    module = to_torch(model, oxford)
    module.head = nn.Linear(192, 5)
    with pytest.raises(SpecError, match="weights and intercepts of 3 classes must have 3 rows"):
        from_torch(module, model, oxford)


def test_weights_of_another_digest_are_refused(oxford, model):
    other = dataclasses.replace(oxford, digest="0" * 64)
    with pytest.raises(SpecMismatch, match=r"backbone_digest is 25d2.* in the model but 0000"):
        to_torch(model, other)
