"""Convolutions of 3 × 3 by Winograd's algorithm, forwards and backwards, for training on a CPU.

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks": a tile of 4 × 4 outputs takes 36 products
instead of 144, as matrix products over all tiles, one for each of 36 frequencies; relative errors are some 1e-6.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from featx.engines.torch_backbone import TorchBackbone

TILE, INPUT = 4, 6
"""Sides of a tile's outputs, and of the inputs that they are computed from."""
LEAST_CHANNELS = 256
"""With fewer inputs, moving tiles about takes longer than the products that it saves."""
MOST_COVERED = 1.6
"""Outputs that tiles may have to each that is wanted."""
_INPUT = torch.tensor([
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
]).double()  # fmt: skip
_KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]).double()


class WinogradConv2d(nn.Conv2d):
    """A 3 × 3 convolution with stride 1 and padding 1, and the parameters of the one that it stands in for."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        height, width = input.shape[2:]
        # What tiles cover beyond a small image is computed in vain.
        if -(-height // TILE) * -(-width // TILE) * TILE**2 > MOST_COVERED * height * width:
            direct: Tensor = super()._conv_forward(input, weight, bias)
            return direct
        # Of the class of its inputs, within autocast too: it would halve some of the products.
        with torch.autocast(input.device.type, enabled=False):
            out: Tensor = _Convolve.apply(input, weight)
        return out if bias is None else out + bias.view(-1, 1, 1)


def use_winograd(backbone: TorchBackbone) -> None:
    """Let those of a backbone's convolutions that gain by it run so, in place; their parameters and names stay."""
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels >= LEAST_CHANNELS:
            layer.__class__ = WinogradConv2d


class _Convolve(torch.autograd.Function):
    """Images (n, inputs, height, width) and kernels (outputs, inputs, 3, 3) to (n, outputs, height, width)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        tiles = _input_tiles(x)
        ctx.save_for_backward(weight, tiles if ctx.needs_input_grad[1] else None)
        return _outputs(tiles @ _frequencies(weight), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, tiles = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # The same convolution, with kernels turned by half and inputs and outputs exchanged.
            turned = _frequencies(weight.flip(2, 3).transpose(0, 1))
            of_x = _outputs(_input_tiles(gradient) @ turned, gradient)
        if ctx.needs_input_grad[1]:
            products = tiles.transpose(1, 2) @ _output_tiles(gradient)
            of_weight = _transform(_KERNEL.T, products.flatten(1)).view(3, 3, *products.shape[1:]).permute(3, 2, 0, 1)
        return of_x, of_weight


def _frequencies(weight: Tensor) -> Tensor:
    """Kernels (outputs, inputs, 3, 3) to (36, inputs, outputs)."""
    outputs, inputs = weight.shape[:2]
    kernels = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return _transform(_KERNEL, kernels).view(INPUT * INPUT, inputs, outputs)


def _input_tiles(x: Tensor) -> Tensor:
    """Images to (36, tiles, channels): overlapping tiles, transformed."""
    count, channels, height, width = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    room = (0, 0, 1, across * TILE + 1 - width, 1, down * TILE + 1 - height)
    padded = nn.functional.pad(x.permute(0, 2, 3, 1), room).contiguous()
    image, row, pixel, _ = padded.stride()
    tiles = padded.as_strided(
        (INPUT, INPUT, count, down, across, channels), (row, pixel, image, TILE * row, TILE * pixel, 1)
    )
    return _transform(_INPUT, tiles.reshape(INPUT * INPUT, -1)).view(INPUT * INPUT, -1, channels)


def _output_tiles(gradient: Tensor) -> Tensor:
    """The gradient by the outputs to that by their frequencies, (36, tiles, channels)."""
    count, channels, height, width = gradient.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padded = nn.functional.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, across * TILE - width, 0, down * TILE - height))
    tiles = padded.view(count, down, TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    return _transform(_OUTPUT.T, tiles.reshape(TILE * TILE, -1)).view(INPUT * INPUT, -1, channels)


def _outputs(products: Tensor, like: Tensor) -> Tensor:
    """Frequencies (36, tiles, channels) to images (n, channels, height, width) of the size of ``like``."""
    count, _, height, width = like.shape
    down, across = -(-height // TILE), -(-width // TILE)
    tiles = _transform(_OUTPUT, products.flatten(1)).view(TILE, TILE, count, down, across, -1)
    images = tiles.permute(2, 3, 0, 4, 1, 5).reshape(count, down * TILE, across * TILE, -1)
    return images[:, :height, :width].permute(0, 3, 1, 2)


def _transform(matrix: Tensor, values: Tensor) -> Tensor:
    """Apply a matrix to both sides of squares, whose entries are the rows of ``values``."""
    return torch.kron(matrix, matrix).to(values.dtype) @ values
