"""Compute 3 × 3 convolutions and their gradients by Winograd's algorithm, for training on a CPU.

For a tile of 4 × 4 outputs, the algorithm needs 36 products instead of 144 (Lavin & Gray 2016, "Fast algorithms for
convolutional neural networks"). A transformed tile has 36 elements. For each of them, this module computes one matrix
product over all tiles. Relative errors are about 1e-6.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from featx.engines.torch_backbone import TorchBackbone

TILE, INPUT = 4, 6
"""A tile has ``TILE`` × ``TILE`` outputs, which depend on ``INPUT`` × ``INPUT`` inputs."""
MIN_CHANNELS = 256
"""With fewer input channels, transforming the tiles takes more time than the algorithm saves."""
MAX_WASTE = 1.6
"""Limit on the number of outputs of all tiles of an image, divided by the number of outputs that are needed."""
_INPUT = torch.tensor([
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
]).double()  # fmt: skip
_KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]).double()


class WinogradConv2d(nn.Conv2d):
    """A 3 × 3 convolution with stride 1 and padding 1, computed by Winograd's algorithm where that saves time.

    Its parameters and their names are those of ``torch.nn.Conv2d``.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = input.shape[2:]
        # The tiles of a small image reach far beyond the image, and the outputs outside it are not needed.
        if -(-height // TILE) * -(-width // TILE) * TILE**2 > MAX_WASTE * height * width:
            direct: Tensor = super()._conv_forward(input, weight, bias)
            return direct
        # Autocast is off, because it would compute some of the products in half precision.
        with torch.autocast(input.device.type, enabled=False):
            out: Tensor = _Convolve.apply(input, weight)
        return out if bias is None else out + bias.view(-1, 1, 1)


def use_winograd(backbone: TorchBackbone) -> None:
    """Use Winograd's algorithm for those convolutions of a backbone that become faster. Parameters keep their names."""
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels >= MIN_CHANNELS:
            layer.__class__ = WinogradConv2d


class _Convolve(torch.autograd.Function):
    """Convolve images (n, inputs, height, width) with kernels (outputs, inputs, 3, 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        tiles = _transform_inputs(x)
        ctx.save_for_backward(weight, tiles if ctx.needs_input_grad[1] else None)
        return _transform_products(tiles @ _transform_kernels(weight), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, tiles = ctx.saved_tensors
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            # The gradient is the same convolution with kernels rotated by 180°, and with inputs and outputs exchanged.
            rotated = _transform_kernels(weight.flip(2, 3).transpose(0, 1))
            x_gradient = _transform_products(_transform_inputs(gradient) @ rotated, gradient)
        if ctx.needs_input_grad[1]:
            products = tiles.transpose(1, 2) @ _transform_gradient(gradient)
            kernels = _transform_both_sides(_KERNEL.T, products.flatten(1))
            weight_gradient = kernels.view(3, 3, *products.shape[1:]).permute(3, 2, 0, 1)
        return x_gradient, weight_gradient


def _transform_kernels(weight: Tensor) -> Tensor:
    """Transform kernels (outputs, inputs, 3, 3) to (36, inputs, outputs)."""
    outputs, inputs = weight.shape[:2]
    kernels = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return _transform_both_sides(_KERNEL, kernels).view(INPUT * INPUT, inputs, outputs)


def _transform_inputs(x: Tensor) -> Tensor:
    """Cut images into overlapping tiles and transform them to (36, tiles, channels)."""
    count, channels, height, width = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padding = (0, 0, 1, across * TILE + 1 - width, 1, down * TILE + 1 - height)
    padded = nn.functional.pad(x.permute(0, 2, 3, 1), padding).contiguous()
    image, row, pixel, _ = padded.stride()
    tiles = padded.as_strided(
        (INPUT, INPUT, count, down, across, channels), (row, pixel, image, TILE * row, TILE * pixel, 1)
    )
    return _transform_both_sides(_INPUT, tiles.reshape(INPUT * INPUT, -1)).view(INPUT * INPUT, -1, channels)


def _transform_gradient(gradient: Tensor) -> Tensor:
    """Transform the gradient of the outputs to the gradient of the products, (36, tiles, channels)."""
    count, channels, height, width = gradient.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padded = nn.functional.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, across * TILE - width, 0, down * TILE - height))
    tiles = padded.view(count, down, TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    return _transform_both_sides(_OUTPUT.T, tiles.reshape(TILE * TILE, -1)).view(INPUT * INPUT, -1, channels)


def _transform_products(products: Tensor, like: Tensor) -> Tensor:
    """Transform products (36, tiles, channels) to images (n, channels, height, width), as large as ``like``."""
    count, _, height, width = like.shape
    down, across = -(-height // TILE), -(-width // TILE)
    tiles = _transform_both_sides(_OUTPUT, products.flatten(1)).view(TILE, TILE, count, down, across, -1)
    images = tiles.permute(2, 3, 0, 4, 1, 5).reshape(count, down * TILE, across * TILE, -1)
    return images[:, :height, :width].permute(0, 3, 1, 2)


def _transform_both_sides(matrix: Tensor, values: Tensor) -> Tensor:
    """Compute ``matrix @ square @ matrix.T`` for many square matrices.

    Each column of ``values`` holds the elements of one square matrix, row by row.
    """
    return torch.kron(matrix, matrix).to(values.dtype) @ values
