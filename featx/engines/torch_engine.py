"""The torch engine: the trunk with taps and pooling on CPU, CUDA or MPS."""

import numpy as np
import torch

from featx.engines.batching import BatchedEngine
from featx.engines.trunk import Normalize, Trunk, pool_taps, quantize_trunk
from featx.errors import EngineError
from featx.spec import PREPROCESSINGS, ExtractSpec
from featx.weights import TrunkWeights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""What the trunk computes in; int8 is computed on its steps, in floats: the same values, not faster."""
BATCH_SIZES = {"cpu": 16, "mps": 32, "cuda": 64}


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
    weights : TrunkWeights
        The trunk's 26 tensors.
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
        self, weights: TrunkWeights, spec: ExtractSpec, device: str = "auto", batch_size: int | None = None
    ) -> None:
        self.spec = spec
        self.device = find_device(device)
        self.batch_size = batch_size or BATCH_SIZES[self.device.type]
        preprocessing = PREPROCESSINGS[spec.preprocessing]
        self._dtype = DTYPES[spec.precision]
        self._normalize = Normalize(preprocessing.mean, preprocessing.std).to(self.device)
        trunk = Trunk.from_tensors(weights.tensors, spec.blocks).eval()
        if spec.precision == "int8":
            quantize_trunk(trunk, spec.calibration)
        self._trunk = trunk.to(self.device, self._dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        pixels = torch.from_numpy(images)
        if self.device.type == "cuda":
            # From pinned memory the copy runs beside the kernels of the batch before.
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        # NHWC bytes seen as NCHW are already in the channels_last order that convolutions are fastest in.
        x = self._normalize(pixels.permute(0, 3, 1, 2)).to(self._dtype)
        return {name: values.cpu().numpy() for name, values in pool_taps(self._trunk(x), self.spec).items()}

    def _out_of_memory(self, error: RuntimeError) -> bool:
        # The CPU's allocator raises a plain RuntimeError; only its text tells.
        return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

    def _halve(self, error: RuntimeError) -> None:
        super()._halve(error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
