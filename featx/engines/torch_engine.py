"""Compute features with torch, on the CPU, CUDA or MPS."""

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
"""The dtype of the backbone for each precision. At int8, values are rounded to its levels but computed in float32. The
results are then those of int8, at the speed of fp32."""
BATCH_SIZES = {"cpu": 16, "mps": 32, "cuda": 128}
CALIBRATION_BATCH = 4
"""Number of images per forward pass of a calibration. It is small, because each input is read once more for its
maximum."""


def find_device(name: str = "auto") -> torch.device:
    """Return a device by its name. The name ``auto`` stands for the first available one of CUDA, MPS and the CPU.

    Raises
    ------
    EngineError
        If this machine does not have the device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    kind = available[0] if name == "auto" else name
    if kind.partition(":")[0] not in available:
        raise EngineError(f"--device must be auto or one of {', '.join(available)}, which this machine has; got {name}")
    return torch.device(kind)


class TorchEngine(BatchedEngine):
    """Compute features with torch.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to compute, and the image size and precision.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    batch_size : int, optional
        Number of images per forward pass. The default depends on the device.

    Raises
    ------
    EngineError
        If this machine does not have the device.
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
        """Compute features on CUDA. Full batches replay a recorded CUDA graph."""
        pixels = pixels.pin_memory()
        with disable_tf32():
            if len(pixels) < self.batch_size:
                return self._features(pixels.to(self.device, non_blocking=True))
            if self._graphed is None:
                self._graphed = GraphedFunction(self._features, pixels.to(self.device))
            return self._graphed(pixels)

    def _features(self, pixels: Tensor) -> Tensor:
        """Compute all features as one float32 array (n, width), from uint8 images (n, size, size, 3) on the device."""
        # NHWC pixels that are viewed as NCHW are in channels_last order, in which convolutions are fastest.
        x = self._normalize(pixels.permute(0, 3, 1, 2)).to(self._dtype)
        return torch.cat(list(pool_outputs(self._backbone(x), self.spec).values()), dim=1)

    def _out_of_memory(self, error: Exception) -> bool:
        return super()._out_of_memory(error) or is_out_of_memory(error)

    def _halve(self, error: Exception) -> None:
        super()._halve(error)
        self._graphed = None  # The graph holds the memory of the larger batch.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def disable_tf32() -> AbstractContextManager[None]:
    """Make CUDA compute float32 convolutions in float32 inside a ``with`` block. torch's default is TF32 (10 bits)."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return flags


@torch.inference_mode()
def largest_inputs(
    weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray
) -> tuple[list[float], dict[str, np.ndarray]]:
    """Measure the largest absolute input of each convolution over some images, on the CPU.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The spec, which has precision fp32.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.

    Returns
    -------
    largest : list of float
        One value per convolution, in order.
    features : dict of str to float32 array (n, width)
        The features of the images by name.
    """
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    normalize = Normalize(preprocessing.mean, preprocessing.std)
    backbone = TorchBackbone.from_tensors(weights.tensors, spec.blocks).eval().to(memory_format=torch.channels_last)
    recorders = [_MaximumRecorder() for layer in backbone.features if isinstance(layer, nn.Conv2d)]
    put_before_convolutions(backbone, recorders)
    batches = []
    for start in range(0, len(images), CALIBRATION_BATCH):
        x = normalize(torch.from_numpy(images[start : start + CALIBRATION_BATCH]).permute(0, 3, 1, 2))
        batches.append(pool_outputs(backbone(x), spec))
    features = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in spec.widths}
    return [recorder.largest for recorder in recorders], features


class _MaximumRecorder(nn.Module):
    """Returns its input unchanged and records the largest absolute value."""

    largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, float(x.abs().amax()))
        return x


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error from torch means that memory ran out."""
    # On the CPU and on MPS, torch raises a plain RuntimeError, so the text must be searched.
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)
