"""Covariance pooling: engines against a plain computation in float64, exports, gradients, and what fit makes of it."""

import dataclasses

import numpy as np
import pytest
import torch

from featx.backbones.poolings import NEWTON_SCHULZ_STEPS, channel_projection, get_pooling
from featx.engines.reference_check import relative_error
from featx.engines.selection import make_engine
from featx.engines.torch_backbone import TorchPooling
from featx.errors import SpecError
from featx.exporting.exported_file import export
from featx.extraction.extraction_run import extract
from featx.models.fit_options import Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.spec.extract_spec import ExtractSpec

POOL = "cov32"
SPEC = ExtractSpec(blocks=(3, 5), pools=("avg", POOL), size=64)


def random_images(count=3, size=64):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def root_by_newton_schulz(covariance):
    """Compute the formula of the paper in float64."""
    trace = np.trace(covariance)
    y, w = covariance / trace, np.eye(len(covariance))
    for _ in range(NEWTON_SCHULZ_STEPS):
        step = (3 * np.eye(len(covariance)) - w @ y) / 2
        y, w = y @ step, step @ w
    return np.sqrt(trace) * y


def exact_root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def plain_covariance(feature_map, d):
    """Compute the covariance of projected channels over positions in float64, from (channels, height, width)."""
    channels = feature_map.reshape(len(feature_map), -1).astype(np.float64)
    return np.cov(channel_projection(len(feature_map), d).T.astype(np.float64) @ channels, bias=True)


@pytest.fixture(scope="module")
def feature_maps(oxford):
    """Outputs of block 3 and 5, float32 (n, channels, height, width)."""
    spec = dataclasses.replace(SPEC, pools=("flat",))
    flat = make_engine(oxford, spec, "cpu", None, "torch")(random_images())
    return {3: flat["block3_flat"].reshape(-1, 256, 8, 8), 5: flat["block5_flat"].reshape(-1, 512, 2, 2)}


@pytest.mark.parametrize("engine", ["torch", "openvino", "ncnn"])
def test_engines_equal_a_plain_computation_in_float64(oxford, feature_maps, engine):
    features = make_engine(oxford, SPEC, "cpu", None, engine)(random_images())
    upper = np.triu_indices(32)
    for block, maps in feature_maps.items():
        expected = np.stack([root_by_newton_schulz(plain_covariance(image, 32))[upper] for image in maps])
        assert relative_error(features[f"block{block}_{POOL}"], expected) < 1e-3


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_half_precision_of_the_backbone_does_not_reach_the_pooling(oxford, engine):
    exact = make_engine(oxford, SPEC, "cpu", None, "torch")(random_images())
    spec = dataclasses.replace(SPEC, precision="bf16")
    features = make_engine(oxford, spec, "cpu", None, engine)(random_images())
    assert list(features) == list(SPEC.widths)
    for name, values in features.items():
        assert relative_error(values, exact[name]) < spec.tolerance


def test_the_root_is_close_to_the_exact_one_for_large_eigenvalues(feature_maps):
    covariance = plain_covariance(feature_maps[3][0], 32)
    exact, found = exact_root(covariance), root_by_newton_schulz(covariance)
    assert np.linalg.norm(found - exact) < 0.05 * np.linalg.norm(exact)


def test_an_image_without_any_variation_has_a_finite_feature():
    zeros = get_pooling("cov16").formula(
        TorchPooling(torch.device("cpu")), torch.zeros(2, 64, 3, 3), channel_projection(64, 16)
    )
    assert zeros.shape == (2, 136)
    assert not zeros.any()


def test_gradients_are_those_of_finite_differences():
    x = torch.rand(1, 64, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    weights = torch.linspace(-1, 1, 136)

    def value(maps):
        return (
            get_pooling("cov16").formula(TorchPooling(maps.device), maps, channel_projection(64, 16)) * weights
        ).sum()

    maps = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(maps), maps)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-2
    slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert torch.isfinite(gradient).all()
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=2e-2)


def test_projections_are_orthonormal_and_nested():
    wide, narrow = channel_projection(256, 128), channel_projection(256, 16)
    np.testing.assert_allclose(wide.T @ wide, np.eye(128), atol=1e-6)
    np.testing.assert_array_equal(wide[:, :16], narrow)
    assert wide[0, 0] == pytest.approx(0.1087837, rel=1e-5)  # The directions must never change.


def test_a_covariance_needs_a_block_with_twice_as_many_channels():
    spec = ExtractSpec(blocks="1-5", pools="cov64,avg")
    assert spec.pools == ("avg", "cov64")
    assert [block for block, pool in spec.features if pool == "cov64"] == [2, 3, 4, 5]
    assert spec.widths["block4_cov64"] == 64 * 65 // 2
    with pytest.raises(SpecError, match=r"pools of the spec must project to at most half .*, got cov64 for block 1"):
        ExtractSpec(blocks="1-5", pools="cov64")
    for name in ("cov", "cov8", "cov257", "cov064"):
        with pytest.raises(SpecError, match=f"pools of the spec must be one of avg, .*cov16 to cov256, got '{name}'"):
            ExtractSpec(pools=name)


def test_a_model_is_fitted_saved_and_exported(oxford, photos, tmp_path):
    extract(photos, tmp_path / "p.h5", dataclasses.replace(SPEC, blocks=(3, 4, 5)))
    fitted = fit(tmp_path / "p.h5", tmp_path / "m.featx", head="softmax", validation=Validation(folds=3))
    tried = {row["feature_set"] for row in fitted.info["search"]["rows"]}
    assert {"3-5", "3-5 avg", "5", "5 avg"} <= tried
    chosen = fit(tmp_path / "p.h5", tmp_path / "m.featx", head="softmax", C=1.0, blocks="4-5", overwrite=True)
    assert chosen.spec.pools == ("avg", POOL)
    model = load_model(tmp_path / "m.featx")
    images = random_images(4)
    features = make_engine(oxford, model.spec, "cpu", None, "openvino")(images)
    decisions = model.decision_function(np.hstack(list(features.values())))
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = model.to_torch(oxford).eval()(pixels).numpy()
    assert np.abs(logits - decisions).max() < 1e-3
    for name, options in {"m.onnx": {}, "t.onnx": {"input": "tensor"}, "m.pt2": {}}.items():
        assert export(model, tmp_path / name, **options).difference < 1e-3
