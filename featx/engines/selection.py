"""Choose an engine: torch, OpenVINO or ncnn, each imported only when one is made."""

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines.cpu_features import winograd_is_faster
from featx.errors import EngineError
from featx.runtime import ENGINES, missing_extras
from featx.spec import ExtractSpec

logger = logging.getLogger(__name__)

GPU_DEVICES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""Names in /dev on Linux of GPUs that torch may use: NVIDIA's (also on small boards), AMD's, and both under WSL."""
NCNN_SIZE = 96
"""Image side in pixels from which ncnn is faster than OpenVINO (measured, see docs/benchmarks). It computes one image
at a time, and for a small image most of the time goes into reading 200 MB of weights."""


class Engine(Protocol):
    """What every engine offers; see `featx.engines.batching.BatchedEngine`."""

    spec: ExtractSpec
    batch_size: int
    on_gpu: bool

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute features by name, float32 (n, width), in column order, from RGB images, uint8 (n, size, size, 3)."""


def make_engine(
    weights: BackboneWeights,
    spec: ExtractSpec,
    device: str = "auto",
    batch_size: int | None = None,
    engine: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Make the engine for a device: on a CPU ncnn or OpenVINO where they are installed, else torch.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to compute.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    batch_size : int, optional
        Images per forward pass; by default what suits the device.
    engine : str
        ``auto``, ``torch``, ``openvino`` or ``ncnn``. Engines differ by less than the tolerance of the precision class.
        On a CPU, ``auto`` takes the first installed one of: ncnn, if the precision is fp32, images have 96 pixels or
        more and the processor has AVX2; OpenVINO; torch.
    threads : int, optional
        Threads of OpenVINO and ncnn, by default one per core; torch has one setting for the whole process.

    Raises
    ------
    EngineError
        If the engine is not installed, does not exist or does not run on the device; if the device does not exist; or
        if an int8 spec has no calibration.
    """
    if engine not in ENGINES:
        raise EngineError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    spec.check_resolved("an engine")
    if spec.precision == "int8" and not spec.calibration:
        raise EngineError("--precision int8 needs a spec with a calibration; extract with --precision int8 to make one")
    if engine == "auto":
        engine = _fastest(spec, device)
    if engine != "torch" and device not in ("auto", "cpu"):
        raise EngineError(f"--device of the {engine} engine must be cpu, got {device}; give --engine torch")
    logger.info("engine %s on %s, %s, blocks %s", engine, device, spec.precision, spec.blocks)
    try:
        if engine == "torch":
            from featx.engines.torch_engine import TorchEngine

            return TorchEngine(weights, spec, device, batch_size)
        return _cpu_engine(engine)(weights, spec, batch_size, threads)
    except ImportError as error:
        if engine == "openvino":  # a requirement of featx itself, in no extra
            raise EngineError(f"--engine openvino needs a package: pip install openvino ({error})") from error
        raise missing_extras(engine, f"--engine {engine}", error) from error


def _cpu_engine(engine: str) -> Callable[..., Engine]:
    """Import the class of an engine that runs on CPUs only."""
    if engine == "ncnn":
        from featx.engines.ncnn_engine import NcnnEngine

        return NcnnEngine
    from featx.engines.openvino_engine import OpenVINOEngine

    return OpenVINOEngine


def _fastest(spec: ExtractSpec, device: str) -> str:
    """Name the fastest of the installed engines."""
    found = [name for name in ("ncnn", "openvino") if find_spec(name)]
    if "ncnn" in found and not (spec.precision == "fp32" and spec.size >= NCNN_SIZE and winograd_is_faster()):
        found.remove("ncnn")
    return found[0] if found and _is_cpu(device) else "torch"


def _is_cpu(device: str) -> bool:
    """Whether a device, or the one that ``auto`` stands for, is the CPU."""
    if device != "auto":
        return device == "cpu"
    if not find_spec("torch"):
        return True
    # Importing torch takes seconds and half a gigabyte, so look for a GPU's device file first.
    if sys.platform == "linux" and not any(next(Path("/dev").glob(name), None) for name in GPU_DEVICES):
        return True
    from featx.engines.torch_engine import find_device

    return find_device().type == "cpu"
