"""Choose an engine: torch, OpenVINO or ncnn. The package of an engine is imported only when the engine is made."""

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
"""Names of the files in /dev on Linux that stand for a GPU that torch may use. They belong to GPUs of NVIDIA (also on
small boards), of AMD, and of both under WSL."""
NCNN_SIZE = 96
"""ncnn is faster than OpenVINO for images of at least this side in pixels (measured, see docs/benchmarks). For smaller
images, ncnn spends most of its time on reading 200 MB of weights, because it computes one image at a time."""


class Engine(Protocol):
    """The interface of every engine; see `featx.engines.batching.BatchedEngine`."""

    spec: ExtractSpec
    batch_size: int
    on_gpu: bool

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the features of RGB images, uint8 (n, size, size, 3).

        The result has each feature by name, float32 (n, width), in column order.
        """


def make_engine(
    weights: BackboneWeights,
    spec: ExtractSpec,
    device: str = "auto",
    batch_size: int | None = None,
    engine: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Make an engine for a device. On a CPU it is ncnn or OpenVINO if they are installed, and otherwise torch.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to compute.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    batch_size : int, optional
        Number of images per forward pass. The default depends on the device.
    engine : str
        ``auto``, ``torch``, ``openvino`` or ``ncnn``. The results of the engines differ by less than the tolerance of
        the precision class. On a CPU, ``auto`` tries ncnn, OpenVINO and torch in this order, and takes the first one
        that is installed. It tries ncnn only if the precision is fp32, the side of the images is at least 96 pixels and
        the processor has AVX2.
    threads : int, optional
        Number of threads of OpenVINO or ncnn. The default is one per core. torch ignores it, because torch has one
        setting for the whole process.

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
        if engine == "openvino":  # featx itself requires OpenVINO, so no extra installs it.
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
    """Return the name of the fastest installed engine."""
    found = [name for name in ("ncnn", "openvino") if find_spec(name)]
    if "ncnn" in found and not (spec.precision == "fp32" and spec.size >= NCNN_SIZE and winograd_is_faster()):
        found.remove("ncnn")
    return found[0] if found and _is_cpu(device) else "torch"


def _is_cpu(device: str) -> bool:
    """Return whether a device is the CPU. For ``auto``, it is the CPU if torch finds no GPU."""
    if device != "auto":
        return device == "cpu"
    if not find_spec("torch"):
        return True
    # Importing torch takes seconds and half a gigabyte, so look for a GPU's device file first.
    if sys.platform == "linux" and not any(next(Path("/dev").glob(name), None) for name in GPU_DEVICES):
        return True
    from featx.engines.torch_engine import find_device

    return find_device().type == "cpu"
