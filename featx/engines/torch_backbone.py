"""VGG16's backbone as a torch module, for extraction and for training."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS, Convolution, MaxPool, apply_layers, pool_blocks
from featx.engines.int8 import INPUT_LEVELS, KERNEL_LEVELS, input_range, kernel_bounds
from featx.spec import ExtractSpec


class TorchBackbone(nn.Module):
    """VGG16's layers up to the last requested block. Later layers are neither built nor run.

    The parameters have torchvision's names, such as ``features.{i}.weight``.

    Parameters
    ----------
    blocks : tuple of int
        The blocks whose outputs are returned, 1 to 5.
    """

    def __init__(self, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = blocks
        layers = [layer for block in BLOCKS[: max(blocks)] for layer in block.layers]
        self.features = nn.Sequential(*apply_layers(layers, list[nn.Module](), _ModuleOperators()))

    def forward(self, x: Tensor, start: int = 0) -> dict[int, Tensor]:
        """Compute the outputs of the requested blocks.

        Parameters
        ----------
        x : float tensor (n, 3, height, width)
            Preprocessed images. If ``start`` is not 0, the input of layer ``start``.
        start : int
            Number of the first layer to run.

        Returns
        -------
        dict of int to float tensor (n, channels, height / stride, width / stride)
            The outputs by block number, without the blocks that end before layer ``start``.
        """
        outputs = {}
        for number in self.blocks:
            stop = BLOCKS[number - 1].stop
            if stop <= start:
                continue
            x = self.features[start:stop](x)
            outputs[number], start = x, stop
        return outputs

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], blocks: tuple[int, ...]) -> "TorchBackbone":
        """Build a backbone with the given weights, named ``features.{i}.weight`` and ``features.{i}.bias``."""
        with torch.device("meta"):
            backbone = cls(blocks)
        # The tensors are copies, because arrays from a file may be read-only, and training changes them.
        needed = {name: torch.tensor(tensors[name]) for name in backbone.state_dict()}
        backbone.load_state_dict(needed, assign=True)
        return backbone


class _ModuleOperators:
    """Layers as torch modules in a list; see `featx.backbones.LayerOperators`."""

    def convolution(self, x: list[nn.Module], layer: Convolution) -> list[nn.Module]:
        return [*x, nn.Conv2d(layer.inputs, layer.outputs, 3, padding=1), nn.ReLU(inplace=True)]

    def max_pool(self, x: list[nn.Module], layer: MaxPool) -> list[nn.Module]:
        return [*x, nn.MaxPool2d(2)]


class TorchPooling:
    """Pooling operators on tensors (n, channels, height, width); see `featx.backbones.PoolingOperators`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over positions, float32 (n, channels)."""
        return x.mean((2, 3), dtype=torch.float32)

    def max(self, x: Tensor) -> Tensor:
        """Return the maximum over positions, float32 (n, channels)."""
        return x.amax((2, 3)).float()

    def power_mean(self, x: Tensor, power: float, floor: float) -> Tensor:
        """Return the generalised mean over positions, float32 (n, channels)."""
        return x.float().clamp(min=floor).pow(power).mean((2, 3)).pow(1 / power)

    def flatten(self, x: Tensor) -> Tensor:
        """Return all values of each image, float32 (n, channels × height × width)."""
        return x.float().flatten(1)

    def matrix(self, x: Tensor) -> Tensor:
        """Return the feature maps as matrices, float32 (n, channels, positions)."""
        return x.float().flatten(2)

    def constant(self, values: np.ndarray) -> Tensor:
        """Return an array as a tensor on the device of the feature maps."""
        return _constant_tensor(values.tobytes(), values.dtype.str, values.shape, self._device)

    def matmul(self, a: Tensor, b: Tensor, *, transpose: bool = False) -> Tensor:
        """Multiply stacks of matrices."""
        return a @ (b.mT if transpose else b)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """Add entry by entry."""
        return a + b

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply entry by entry."""
        return a * b

    def divide(self, a: Tensor, b: Tensor) -> Tensor:
        """Divide entry by entry."""
        return a / b

    def square_root(self, x: Tensor) -> Tensor:
        """Return the square root of each entry."""
        return x.sqrt()

    def row_means(self, x: Tensor) -> Tensor:
        """Return the mean of each row, (…, rows, 1)."""
        return x.mean(-1, keepdim=True)

    def entries(self, x: Tensor, indices: np.ndarray) -> Tensor:
        """Return entries of each matrix, (n, indices)."""
        return x.flatten(-2)[..., self.constant(indices)]


@lru_cache(64)
def _constant_tensor(values: bytes, dtype: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device. It is copied once, because a CUDA graph cannot copy from the CPU."""
    with torch.inference_mode(False):  # A tensor of inference mode cannot be used in training later.
        return torch.from_numpy(np.frombuffer(values, dtype).reshape(shape).copy()).to(device)


def pool_outputs(outputs: Mapping[int, Tensor], spec: ExtractSpec) -> dict[str, Tensor]:
    """Compute the features of a spec by pooling the outputs of blocks.

    Parameters
    ----------
    outputs : mapping of int to tensor (n, channels, height, width)
        The outputs by block number, as `TorchBackbone` returns them.
    spec : ExtractSpec
        The spec, which names the features.

    Returns
    -------
    dict of str to float32 tensor (n, width)
        The features by name, such as ``block3_avg``, in column order.
    """
    device = next(iter(outputs.values())).device
    # Autocast would multiply matrices in bfloat16.
    with torch.autocast(device.type, enabled=False):
        return pool_blocks(outputs, spec.features, TorchPooling(device))


class Normalize(nn.Module):
    """Preprocess RGB bytes: subtract the mean and divide by the standard deviation of each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images (n, 3, height, width) into preprocessed float32 images of the same shape."""
        return (pixels.float() - self.mean) / self.std


class Quantize(nn.Module):
    """Round values to evenly spaced levels. There are ``levels`` levels from ``low`` to ``high``.

    Values below ``low`` become ``low``, and values above ``high`` become ``high``.
    """

    low: Tensor
    step: Tensor

    def __init__(self, low: Tensor, high: Tensor, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("step", (high - low) / (levels - 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the nearest level of each value, with the same shape and dtype."""
        return ((x - self.low) / self.step).round().clamp(0, self.levels - 1) * self.step + self.low


def put_before_convolutions(backbone: TorchBackbone, modules: Sequence[nn.Module]) -> None:
    """Run ``modules[i]`` on the input of convolution number ``i``. If there are more modules, the rest is ignored."""
    layers = [number for number, layer in enumerate(backbone.features) if isinstance(layer, nn.Conv2d)]
    for number, module in zip(layers, modules, strict=False):
        backbone.features[number] = nn.Sequential(module, backbone.features[number])


def quantize_backbone(backbone: TorchBackbone, bounds: Sequence[float]) -> None:
    """Round the inputs and weights of each convolution to int8 levels, in place. The arithmetic stays in float32.

    Parameters
    ----------
    backbone : TorchBackbone
        The backbone to change, in float32 and on the CPU.
    bounds : sequence of float
        The largest absolute input of each convolution, in order.
    """
    for layer in backbone.features:
        if isinstance(layer, nn.Conv2d):
            ends = torch.from_numpy(kernel_bounds(layer.weight.detach().numpy()))
            layer.weight = nn.Parameter(Quantize(-ends, ends, KERNEL_LEVELS)(layer.weight.detach()))
    # Only the first convolution has negative inputs; all others follow a ReLU.
    ranges = [input_range(bound, signed=number == 0) for number, bound in enumerate(bounds)]
    put_before_convolutions(backbone, [Quantize(torch.tensor(a), torch.tensor(b), INPUT_LEVELS) for a, b in ranges])
