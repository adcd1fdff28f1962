"""VGG16's backbone as a torch module: taps and pooling, shared by extraction and fine-tuning."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS, GEM_FLOOR, GEM_POWER, feature_name
from featx.engines.quantization import INPUT_LEVELS, KERNEL_LEVELS, input_range, kernel_bounds
from featx.spec import ExtractSpec


class TorchBackbone(nn.Module):
    """The convolutions up to the last block that a spec taps; ``features.{i}`` are torchvision's names.

    Forward takes preprocessed images, float (n, 3, size, size), and gives the tapped blocks' outputs by number.
    Nothing after the last tapped block is built or run.
    """

    def __init__(self, blocks: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        self.taps = {BLOCKS[number - 1].stop: number for number in blocks}
        for block in BLOCKS[: max(blocks)]:
            for _ in block.convolutions:
                layers += [nn.Conv2d(inputs, block.channels, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = block.channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor, start: int = 0) -> dict[int, Tensor]:
        """Outputs of the tapped blocks, (n, channels, size / stride, size / stride) each.

        ``x`` is what enters layer ``start``; blocks that end before it are not among the outputs.
        """
        tapped = {}
        for stop, number in self.taps.items():
            if stop <= start:
                continue
            x = self.features[start:stop](x)
            tapped[number], start = x, stop
        return tapped

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], blocks: tuple[int, ...]) -> "TorchBackbone":
        """A backbone with the given weights, named as in torchvision's state dict."""
        with torch.device("meta"):
            backbone = cls(blocks)
        # A copy: what a file gave may be read-only, and a backbone may be trained.
        needed = {name: torch.tensor(tensors[name]) for name in backbone.state_dict()}
        backbone.load_state_dict(needed, assign=True)
        return backbone


class Normalize(nn.Module):
    """RGB bytes, uint8 (n, 3, size, size), to what the backbone expects, float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(pixels - mean) / std."""
        return (pixels.float() - self.mean) / self.std


class Quantize(nn.Module):
    """Round to evenly spaced ``levels`` from ``low`` to ``high``; what lies beyond is cut off."""

    low: Tensor
    step: Tensor

    def __init__(self, low: Tensor, high: Tensor, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("step", (high - low) / (levels - 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The nearest level of each value, same shape and dtype."""
        return ((x - self.low) / self.step).round().clamp(0, self.levels - 1) * self.step + self.low


def put_before_convolutions(backbone: TorchBackbone, modules: Sequence[nn.Module]) -> None:
    """Run a module on the input of each convolution, in order; a backbone that stops early leaves some over."""
    layers = [number for number, layer in enumerate(backbone.features) if isinstance(layer, nn.Conv2d)]
    for number, module in zip(layers, modules, strict=False):
        backbone.features[number] = nn.Sequential(module, backbone.features[number])


def quantize_backbone(backbone: TorchBackbone, bounds: Sequence[float]) -> None:
    """Make a backbone compute on the steps of int8, in floats: each convolution's inputs and weights are rounded."""
    for layer in backbone.features:
        if isinstance(layer, nn.Conv2d):
            ends = torch.from_numpy(kernel_bounds(layer.weight.detach().numpy()))
            layer.weight = nn.Parameter(Quantize(-ends, ends, KERNEL_LEVELS)(layer.weight.detach()))
    # Only the first convolution takes values below 0.
    ranges = [input_range(bound, signed=number == 0) for number, bound in enumerate(bounds)]
    put_before_convolutions(backbone, [Quantize(torch.tensor(a), torch.tensor(b), INPUT_LEVELS) for a, b in ranges])


def pool(x: Tensor, how: str) -> Tensor:
    """Pool one block's output (n, channels, height, width) to float32 (n, width of the feature).

    ``gem`` is the generalised mean with p = 3 (Radenović, Tolias & Chum 2018, "Fine-tuning CNN image retrieval
    with no human annotation").
    """
    if how == "avg":
        return x.mean((2, 3), dtype=torch.float32)
    if how == "max":
        return x.amax((2, 3)).float()
    if how == "gem":
        return x.float().clamp(min=GEM_FLOOR).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)
    return x.float().flatten(1)


def pool_taps(tapped: Mapping[int, Tensor], spec: ExtractSpec) -> dict[str, Tensor]:
    """Every feature of the spec by name (``block3_avg``), in column order."""
    return {feature_name(block, how): pool(tapped[block], how) for block, how in spec.features}
