"""Engines run the backbone: images in, pooled features of every tapped block out.

torch, OpenVINO and ncnn are imported when an engine is made, and not before.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines.cpu_features import winograd_pays
from featx.errors import EngineError
from featx.spec import ExtractSpec

GPU_DEVICES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""What Linux has in /dev for a GPU that torch may use: NVIDIA's, also in small boards, AMD's, and either under WSL."""
ENGINES = ("auto", "torch", "openvino", "ncnn")
NCNN_SIZE = 96
"""Pixels from which on ncnn is the faster one, on two cores of an EPYC with AVX2 and of one with AVX-512: 0.8 and 0.9
times OpenVINO's rate at 64, 1.1 and 1.3 at 96, 1.6 and 2.1 at 224. It takes an image by itself, and of a small one
reading 200 MB of weights is most of the work."""


class Engine(Protocol):
    """What every engine offers; see `featx.engines.batching.BatchedEngine`."""

    spec: ExtractSpec
    batch_size: int
    on_gpu: bool

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images: uint8 (n, size, size, 3) RGB to float32 (n, width) by name, in column order."""


def make_engine(
    weights: BackboneWeights,
    spec: ExtractSpec,
    device: str = "auto",
    batch_size: int | None = None,
    engine: str = "auto",
    threads: int | None = None,
) -> Engine:
    """The engine for a device: on a CPU ncnn or OpenVINO where they are installed, torch everywhere else.

    Parameters
    ----------
    weights, spec
        The backbone's tensors, and what to tap and pool.
    device, batch_size
        As `featx.engines.torch_engine.TorchEngine` takes them.
    engine : str
        ``auto``, ``torch``, ``openvino`` or ``ncnn``. It changes no value beyond the tolerance of the precision class.
        ``auto`` is, on a CPU and as far as they are installed, ncnn for fp32 and images of 96 pixels and more where
        the processor has AVX2, OpenVINO for all else, and otherwise torch.
    threads : int, optional
        Of the processor's, for OpenVINO and ncnn; torch has its own for the whole process.

    Raises
    ------
    EngineError
        If the engine is not installed, the device is not there or not one of the engine's, or int8 is not calibrated.
    """
    if engine not in ENGINES:
        raise EngineError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    spec.check_resolved("an engine")
    if spec.precision == "int8" and not spec.calibration:
        raise EngineError("--precision int8 needs a calibration, and this spec has none: featx extract makes one")
    if engine == "auto":
        engine = _fastest(spec, device)
    if engine == "torch":
        from featx.engines.torch_engine import TorchEngine

        return TorchEngine(weights, spec, device, batch_size)
    if device not in ("auto", "cpu"):
        raise EngineError(f"--device of the {engine} engine must be cpu, got {device}; give --engine torch")
    try:
        return _engine_class(engine)(weights, spec, batch_size, threads)
    except ImportError as error:
        raise EngineError(f"--engine {engine} needs a package: pip install 'featx[{engine}]' ({error})") from error


def _engine_class(engine: str) -> Callable[..., Engine]:
    """The class of an engine that a package of its own is needed for."""
    if engine == "ncnn":
        from featx.engines.ncnn_engine import NcnnEngine

        return NcnnEngine
    from featx.engines.openvino_engine import OpenVINOEngine

    return OpenVINOEngine


def _fastest(spec: ExtractSpec, device: str) -> str:
    """The fastest engine of those that are installed."""
    found = [name for name in ("ncnn", "openvino") if find_spec(name)]
    if "ncnn" in found and not (spec.precision == "fp32" and spec.size >= NCNN_SIZE and winograd_pays()):
        found.remove("ncnn")
    return found[0] if found and _is_cpu(device) else "torch"


def _is_cpu(device: str) -> bool:
    if device != "auto":
        return device == "cpu"
    # Only to learn that there is none, importing torch takes seconds and half a gigabyte.
    if sys.platform == "linux" and not any(next(Path("/dev").glob(name), None) for name in GPU_DEVICES):
        return True
    from featx.engines.torch_engine import find_device

    return find_device().type == "cpu"
