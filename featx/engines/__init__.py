"""Engines run the trunk: images in, pooled features of every tapped block out.

torch, OpenVINO and ncnn are imported when an engine is made, and not before.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

from featx.errors import EngineError
from featx.spec import ExtractSpec
from featx.weights import TrunkWeights

GPU_DEVICES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""What Linux has in /dev for a GPU that torch may use: NVIDIA's, also in small boards, AMD's, and either under WSL."""
CPU_FEATURES: dict[str, bool] = _multiarray_umath.__cpu_features__
"""What the processor has, by numpy, which prints it (`numpy.show_runtime`) but has no public name for it."""
ENGINES = ("auto", "torch", "openvino", "ncnn")


class Engine(Protocol):
    """What every engine offers; see `featx.engines.batching.BatchedEngine`."""

    spec: ExtractSpec
    batch_size: int
    on_gpu: bool

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images: uint8 (n, size, size, 3) RGB to float32 (n, width) by name, in column order."""


def make_engine(
    weights: TrunkWeights,
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
        The trunk's tensors, and what to tap and pool.
    device, batch_size
        As `featx.engines.torch_engine.TorchEngine` takes them.
    engine : str
        ``auto``, ``torch``, ``openvino`` or ``ncnn``. It changes no value beyond the tolerance of the precision class.
        ``auto`` is, on a CPU, ncnn for fp32 where the processor has AVX2 and no AVX-512, and OpenVINO for all else.
    threads : int, optional
        Of the processor's, for OpenVINO and ncnn; torch has its own for the whole process.

    Raises
    ------
    EngineError
        If the engine is not installed, the device is not there or not one of the engine's, or int8 is not calibrated.
    """
    if engine not in ENGINES:
        raise EngineError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}")
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
    except ModuleNotFoundError as error:
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
    others = [name for name in ENGINES[2:] if find_spec(name)]
    if not others or not _is_cpu(device):
        return "torch"
    # Winograd's products in ncnn beat direct ones in OpenVINO twofold with AVX2 (docs/benchmarks.md); with AVX-512,
    # which makes both faster, and on ARM it has not been measured.
    winograd = spec.precision == "fp32" and CPU_FEATURES.get("AVX2") and not CPU_FEATURES.get("AVX512F")
    if "ncnn" in others and (winograd or (others == ["ncnn"] and spec.precision == "fp32")):
        return "ncnn"
    return "openvino" if "openvino" in others else "torch"


def _is_cpu(device: str) -> bool:
    if device != "auto":
        return device == "cpu"
    # Only to learn that there is none, importing torch takes seconds and half a gigabyte.
    if sys.platform == "linux" and not any(next(Path("/dev").glob(name), None) for name in GPU_DEVICES):
        return True
    from featx.engines.torch_engine import find_device

    return find_device().type == "cpu"
