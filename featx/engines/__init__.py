"""Engines run the trunk: images in, pooled features of every tapped block out."""

from typing import Protocol

import numpy as np

from featx.spec import ExtractSpec
from featx.weights import TrunkWeights


class Engine(Protocol):
    """What every engine offers; see `featx.engines.torch_engine.TorchEngine`."""

    spec: ExtractSpec
    batch_size: int

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images: uint8 (n, size, size, 3) RGB to float32 (n, width) by name, in column order."""


def make_engine(
    weights: TrunkWeights, spec: ExtractSpec, device: str = "auto", batch_size: int | None = None
) -> Engine:
    """The engine for a device; torch is imported here and not before."""
    from featx.engines.torch_engine import TorchEngine

    return TorchEngine(weights, spec, device, batch_size)
