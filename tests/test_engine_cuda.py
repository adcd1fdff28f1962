"""CUDA: the fused backbone against torch's own layers, on any device; and the engine, where there is a GPU."""

import numpy as np
import pytest
import torch
from torch import nn

from featx.backbones.poolings import CHANNEL_POOLS
from featx.engines.cuda import WIDE, FusedBackbone, max_pool_2x2, widen_kernel
from featx.engines.reference_check import relative_error
from featx.engines.torch_backbone import TorchBackbone
from featx.engines.torch_engine import TorchEngine
from featx.errors import EngineError
from featx.spec.extract_spec import ExtractSpec

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def random_images(count, size):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def channels_last(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [48, 36, 33])
@pytest.mark.parametrize("wide", [True, False])
def test_the_fused_backbone_equals_the_backbone(oxford, size, wide):
    backbone = TorchBackbone.from_tensors(oxford.tensors, (1, 3, 4)).eval().to(memory_format=torch.channels_last)
    x = 60 * channels_last(2, 3, size, size)
    with torch.inference_mode():
        expected, got = backbone(x), FusedBackbone(backbone, wide=wide)(x)
    assert list(got) == [1, 3, 4]
    for number, values in expected.items():
        torch.testing.assert_close(got[number], values, rtol=1e-4, atol=1e-4 * float(values.abs().max()))
        assert got[number].is_contiguous(memory_format=torch.channels_last)


def test_a_wide_kernel_computes_the_same_convolution():
    weight, x = torch.randn(5, 3, 3, 3), channels_last(2, 3, 6, 3 * WIDE)
    rows = x.permute(0, 2, 3, 1).reshape(2, 6, 3, WIDE * 3).permute(0, 3, 1, 2)
    wide = nn.functional.conv2d(rows, widen_kernel(weight), padding=1).permute(0, 2, 3, 1).reshape(2, 6, 3 * WIDE, 5)
    torch.testing.assert_close(wide.permute(0, 3, 1, 2), nn.functional.conv2d(x, weight, padding=1))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (5, 5)])
def test_max_pool_2x2_equals_max_pooling(height, width):
    x = channels_last(2, 16, height, width)
    assert torch.equal(max_pool_2x2(x), nn.functional.max_pool2d(x, 2))
    assert max_pool_2x2(x).is_contiguous(memory_format=torch.channels_last)


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("size", [64, 100])
def test_cuda_agrees_with_the_cpu(oxford, precision, size):
    images = random_images(7, size)
    spec = ExtractSpec(size=size, precision=precision, pools=CHANNEL_POOLS)
    reference = TorchEngine(oxford, ExtractSpec(size=size, pools=CHANNEL_POOLS), "cpu")(images)
    features = TorchEngine(oxford, spec, "cuda", batch_size=3)(images)
    assert list(features) == list(reference)
    for name, values in features.items():
        assert values.dtype == np.float32
        assert relative_error(values, reference[name]) < spec.tolerance / (100 if precision == "fp32" else 2)


@gpu
def test_full_batches_replay_a_graph_without_overwriting_results(oxford):
    images = random_images(9, 64)
    engine = TorchEngine(oxford, ExtractSpec(size=64, precision="bf16"), "cuda", batch_size=4)
    first, again = engine(images), engine(images)
    assert engine._graphed is not None
    single = TorchEngine(oxford, engine.spec, "cuda", batch_size=100)(images)
    for name, values in first.items():
        assert np.array_equal(values, again[name])
        assert relative_error(values, single[name]) < engine.spec.tolerance / 4
        assert len(np.unique(values, axis=0)) == 9


@gpu
def test_a_batch_that_does_not_fit_on_the_gpu_is_halved(oxford):
    free = torch.cuda.mem_get_info()[0]
    engine = TorchEngine(oxford, ExtractSpec(size=224, blocks=(1,)), "cuda", batch_size=64)
    images = random_images(70, 224)
    expected = engine(images[:5])
    occupied = torch.empty(free - (3 << 28), dtype=torch.uint8, device="cuda")
    features = engine(images)
    assert engine.batch_size < 64
    assert len(occupied)
    assert relative_error(features["block1_avg"][:5], expected["block1_avg"]) < engine.spec.tolerance


@gpu
def test_a_missing_device(oxford):
    with pytest.raises(EngineError, match="--device must be"):
        TorchEngine(oxford, ExtractSpec(size=32), "mps")
