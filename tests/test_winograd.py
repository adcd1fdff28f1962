"""Winograd's convolutions against torch's own, forward and backward; and the allocator during training."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from featx.engines import winograd
from featx.engines.torch_backbone import TorchBackbone
from featx.engines.winograd import WinogradConv2d, use_winograd
from featx.finetuning import performance


@pytest.fixture
def always(monkeypatch):
    """Use tiles for images of any size."""
    monkeypatch.setattr(winograd, "MAX_WASTE", 16)


def pair(inputs, outputs, dtype=torch.float32):
    """Make a direct convolution, and one by Winograd's algorithm with the same parameters."""
    torch.manual_seed(0)
    direct, tiled = (nn.Conv2d(inputs, outputs, 3, padding=1, dtype=dtype) for _ in range(2))
    tiled.load_state_dict(direct.state_dict())
    tiled.__class__ = WinogradConv2d
    return direct, tiled


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (14, 14), (7, 10), (13, 3)])
def test_outputs_equal_a_direct_convolution(size, always):
    direct, tiled = pair(48, 40)
    x = torch.randn(3, 48, *size)
    assert not torch.equal(tiled(x), direct(x))
    torch.testing.assert_close(tiled(x), direct(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gradients_equal_those_of_a_direct_convolution(order, always):
    found = []
    for layer in pair(5, 3, torch.float64):
        torch.manual_seed(1)
        layer = layer.to(memory_format=order)
        x = torch.randn(2, 5, 6, 9, dtype=torch.float64).to(memory_format=order).requires_grad_()
        layer(x).pow(3).sum().backward()
        found.append([x.grad, layer.weight.grad, layer.bias.grad])
    assert not torch.equal(found[0][0], found[1][0])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("trained", [(True, False), (False, True), (True, True)])
def test_gradients_equal_finite_differences(trained, always):
    _, layer = pair(2, 3, torch.float64)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=trained[0])
    weight = layer.weight.detach().requires_grad_(trained[1])
    assert torch.autograd.gradcheck(lambda x, weight: layer._conv_forward(x, weight, None), (x, weight))


def test_second_derivatives_are_refused(always):
    layer = nn.Conv2d(4, 4, 3, padding=1)
    layer.__class__ = WinogradConv2d
    x = torch.randn(1, 4, 24, 24, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_rounding_errors_are_small():
    direct, tiled = pair(512, 512)
    x = torch.randn(2, 512, 14, 14).relu()
    exact = direct.double()(x.double())
    assert (tiled(x).double() - exact).norm() < 5e-6 * exact.norm()


def test_a_backbone_keeps_its_parameters_and_outputs():
    backbone = TorchBackbone((3, 4))
    before, x = backbone.state_dict(), torch.randn(2, 3, 32, 32)
    expected = backbone(x)
    use_winograd(backbone)
    assert {name: value.data_ptr() for name, value in backbone.state_dict().items()} == {
        name: value.data_ptr() for name, value in before.items()
    }
    tiled = [layer for layer in backbone.modules() if isinstance(layer, WinogradConv2d)]
    assert [layer.in_channels for layer in tiled] == [256, 256, 256, 512, 512]
    for number, values in backbone(x).items():
        torch.testing.assert_close(values, expected[number], rtol=1e-3, atol=1e-4)


def test_small_images_are_convolved_directly():
    direct, tiled = pair(48, 40)
    x = torch.randn(2, 48, 5, 5)
    assert torch.equal(tiled(x), direct(x))
    assert not torch.equal(tiled(torch.ones(2, 48, 7, 7)), direct(torch.ones(2, 48, 7, 7)))


def test_autocast_does_not_apply():
    direct, tiled = pair(48, 40)
    x = torch.randn(2, 48, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = tiled(x)
    y.sum().backward()
    torch.testing.assert_close(y, direct(x), rtol=1e-4, atol=1e-5)
    assert x.grad.dtype == tiled.weight.grad.dtype == torch.float32


KEPT = """
import resource
import numpy as np
from featx.finetuning.performance import keep_freed_memory

def faults(megabytes, rounds=10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(megabytes << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

faults(16)
small, large = faults(16), faults(400)
with keep_freed_memory():
    faults(400, rounds=1)
    kept, grown = faults(400), resident()
left = grown - resident()
after = faults(16, rounds=2) and faults(16)
print(small, large, kept, after, left)
assert kept < large / 10
assert left > 300e6
assert after <= small + 100
assert faults(400) > large / 2
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_during_training_and_then_released():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", [None, object()])
def test_a_system_without_glibc_is_left_alone(monkeypatch, library):
    def no_library(name):
        assert library is not None
        return library

    monkeypatch.setattr(performance.sys, "platform", "linux" if library else "darwin")
    monkeypatch.setattr(performance.ctypes, "CDLL", no_library)
    with performance.keep_freed_memory():
        pass
