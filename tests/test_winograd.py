"""Winograd's convolutions against torch's own, forwards and backwards; and memory that is kept meanwhile."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from featx.engines.trunk import Trunk
from featx.engines.winograd import LEAST_CHANNELS, WinogradConv2d, use_winograd
from featx.finetune import memory


def pair(inputs, outputs, dtype=torch.float32):
    """A direct convolution, and one by Winograd with the same parameters."""
    torch.manual_seed(0)
    direct, tiled = (nn.Conv2d(inputs, outputs, 3, padding=1, dtype=dtype) for _ in range(2))
    tiled.load_state_dict(direct.state_dict())
    tiled.__class__ = WinogradConv2d
    return direct, tiled


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (14, 14), (7, 10), (13, 3)])
def test_outputs_are_those_of_direct_sums(size):
    direct, tiled = pair(48, 40)
    x = torch.randn(3, 48, *size)
    torch.testing.assert_close(tiled(x), direct(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_direct_sums(order):
    found = []
    for layer in pair(5, 3, torch.float64):
        torch.manual_seed(1)
        layer = layer.to(memory_format=order)
        x = torch.randn(2, 5, 6, 9, dtype=torch.float64).to(memory_format=order).requires_grad_()
        layer(x).pow(3).sum().backward()
        found.append([x.grad, layer.weight.grad, layer.bias.grad])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("trained", [(True, False), (False, True), (True, True)])
def test_gradients_are_right_by_finite_differences(trained):
    _, layer = pair(2, 3, torch.float64)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=trained[0])
    weight = layer.weight.detach().requires_grad_(trained[1])
    assert torch.autograd.gradcheck(lambda x, weight: layer._conv_forward(x, weight, None), (x, weight))


def test_rounding_stays_small():
    direct, tiled = pair(512, 512)
    x = torch.randn(2, 512, 14, 14).relu()
    exact = direct.double()(x.double())
    assert (tiled(x).double() - exact).norm() < 5e-6 * exact.norm()


def test_a_trunk_keeps_its_parameters_and_what_it_gives():
    trunk = Trunk((3, 4))
    before, x = trunk.state_dict(), torch.randn(2, 3, 32, 32)
    expected = trunk(x)
    use_winograd(trunk)
    assert {name: value.data_ptr() for name, value in trunk.state_dict().items()} == {
        name: value.data_ptr() for name, value in before.items()
    }
    tiled = [layer for layer in trunk.modules() if isinstance(layer, WinogradConv2d)]
    assert [layer.in_channels for layer in tiled] == [256, 256, 256, 512, 512]
    assert min(layer.in_channels for layer in tiled) >= LEAST_CHANNELS
    for number, values in trunk(x).items():
        torch.testing.assert_close(values, expected[number], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_is_kept_and_then_given_back():
    code = """
import numpy as np
from pathlib import Path
from featx.finetune.memory import keeping_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
with keeping_memory():
    np.ones(50_000_000)
    kept = resident() - before
given_back = before + kept - resident()
assert kept > 300_000_000, kept
assert given_back > 300_000_000, given_back
np.ones(50_000_000)
assert resident() - before < 100_000_000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_elsewhere_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    with memory.keeping_memory():
        pass
