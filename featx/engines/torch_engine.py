"""The torch engine: the backbone with taps and pooling on CPU, CUDA or MPS."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from featx.backbones import PREPROCESSINGS, BackboneWeights
from featx.engines.batching import BatchedEngine
from featx.engines.cuda import FusedBackbone, GraphedFunction
from featx.engines.torch_backbone import (
    Normalize,
    TorchBackbone,
    pool_outputs,
    put_before_convolutions,
    quantize_backbone,
)
from featx.errors import EngineError
from featx.spec import ExtractSpec

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""What the backbone computes in; int8 is computed on its steps, in floats: the same values, not faster."""
BATCH_SIZES = {"cpu": 16, "mps": 32, "cuda": 128}
WATCHED = 4
"""Images a pass while the inputs of convolutions are watched, each of which is passed over once more."""


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is CUDA, else MPS, else the CPU. ``EngineError`` if it is not there."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    kind = there[0] if name == "auto" else name
    if kind.partition(":")[0] not in there:
        raise EngineError(f"--device must be auto or one of {', '.join(there)}, which this machine has; got {name}")
    return torch.device(kind)


class TorchEngine(BatchedEngine):
    """Turns batches of images into features with torch.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's 26 tensors.
    spec : ExtractSpec
        What to tap and pool, at which size and precision.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    batch_size : int or None
        Images a pass; None takes what suits the device.

    Raises
    ------
    EngineError
        If the device is not there.
    """

    def __init__(
        self, weights: BackboneWeights, spec: ExtractSpec, device: str = "auto", batch_size: int | None = None
    ) -> None:
        self.device = find_device(device)
        super().__init__(spec, batch_size or BATCH_SIZES[self.device.type])
        self.on_gpu = self.device.type != "cpu"
        preprocessing = PREPROCESSINGS[spec.preprocessing]
        self._dtype = DTYPES[spec.precision]
        self._normalize = Normalize(preprocessing.mean, preprocessing.std).to(self.device)
        backbone = TorchBackbone.from_tensors(weights.tensors, spec.blocks).eval()
        if spec.precision == "int8":
            quantize_backbone(backbone, spec.calibration)
        backbone = backbone.to(self.device, self._dtype).to(memory_format=torch.channels_last)
        fused = self.device.type == "cuda" and spec.precision != "int8"
        self._backbone: nn.Module = FusedBackbone(backbone, wide=self._dtype != torch.float32) if fused else backbone
        self._graphed: GraphedFunction | None = None

    @torch.inference_mode()
    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        pixels = torch.from_numpy(images)
        features = self._on_cuda(pixels) if self.device.type == "cuda" else self._features(pixels.to(self.device))
        columns = features.cpu().numpy()
        return {name: columns[:, part] for name, part in self.spec.slices.items()}

    def _on_cuda(self, pixels: Tensor) -> Tensor:
        pixels = pixels.pin_memory()
        with full_float32():
            if len(pixels) < self.batch_size:
                return self._features(pixels.to(self.device, non_blocking=True))
            if self._graphed is None:
                self._graphed = GraphedFunction(self._features, pixels.to(self.device))
            return self._graphed(pixels)

    def _features(self, pixels: Tensor) -> Tensor:
        """All features side by side, float32 (n, width), of bytes (n, size, size, 3) on the device."""
        # NHWC bytes seen as NCHW are already in the channels_last order that convolutions are fastest in.
        x = self._normalize(pixels.permute(0, 3, 1, 2)).to(self._dtype)
        return torch.cat(list(pool_outputs(self._backbone(x), self.spec).values()), dim=1)

    def _out_of_memory(self, error: Exception) -> bool:
        return super()._out_of_memory(error) or lacks_memory(error)

    def _halve(self, error: Exception) -> None:
        super()._halve(error)
        self._graphed = None  # it is of the larger batch, and has that much memory
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def full_float32() -> AbstractContextManager[None]:
    """Within, float32 is that throughout: on CUDA torch lets convolutions take TF32, which has 10 bits."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return flags


@torch.inference_mode()
def largest_inputs(
    weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The largest absolute input of each convolution over some images, and their features, on the CPU."""
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    normalize = Normalize(preprocessing.mean, preprocessing.std)
    backbone = TorchBackbone.from_tensors(weights.tensors, spec.blocks).eval().to(memory_format=torch.channels_last)
    watches = [_Watch() for layer in backbone.features if isinstance(layer, nn.Conv2d)]
    put_before_convolutions(backbone, watches)
    batches = []
    for start in range(0, len(images), WATCHED):
        x = normalize(torch.from_numpy(images[start : start + WATCHED]).permute(0, 3, 1, 2))
        batches.append(pool_outputs(backbone(x), spec))
    features = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in spec.widths}
    return [watch.largest for watch in watches], features


class _Watch(nn.Module):
    """Passes on what it is given, and remembers the largest absolute value of it."""

    largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        self.largest = max(self.largest, float(x.abs().amax()))
        return x


def lacks_memory(error: Exception) -> bool:
    """Whether torch says that memory ran out."""
    # The allocators of the CPU and of MPS raise a plain RuntimeError; only its text tells.
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)
