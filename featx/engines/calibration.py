"""Calibration for int8: how large the inputs of each convolution get over a sample of images, and how far int8 is."""

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from featx.blocks import BLOCK_NUMBERS, CONVOLUTIONS
from featx.engines import Engine
from featx.engines.trunk import Normalize, Trunk, pool_taps, put_before_convolutions
from featx.errors import EngineError
from featx.spec import PREPROCESSINGS, ExtractSpec
from featx.weights import TrunkWeights

MIN_COSINE = 0.99
"""The least mean cosine to fp32 of each feature over the sample."""
BATCH = 4


@dataclasses.dataclass(frozen=True)
class Calibration:
    """``bounds`` of the 13 convolutions' inputs, and the fp32 features (n, width) of the images they were found on."""

    bounds: tuple[float, ...]
    features: dict[str, np.ndarray]


@torch.inference_mode()
def calibrate(weights: TrunkWeights, spec: ExtractSpec, images: np.ndarray) -> Calibration:
    """Find the largest absolute input of each convolution over images, uint8 (n, size, size, 3), in one fp32 pass.

    The maximum, since clipping the few largest values, by a percentile or by the mean over images, cost block 5 more
    than finer steps gave back. Always all 13, whatever is tapped, so that equal samples give equal bounds.
    """
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    normalize = Normalize(preprocessing.mean, preprocessing.std)
    trunk = Trunk.from_tensors(weights.tensors, BLOCK_NUMBERS).eval().to(memory_format=torch.channels_last)
    watches = [_Watch() for _ in CONVOLUTIONS]
    put_before_convolutions(trunk, watches)
    batches = []
    for start in range(0, len(images), BATCH):
        x = normalize(torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2))
        batches.append(pool_taps(trunk(x), spec))
    features = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in spec.widths}
    # An input that is zero throughout has no range, and needs none.
    return Calibration(tuple(watch.largest or 1.0 for watch in watches), features)


def check_agreement(engine: Engine, images: np.ndarray, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean cosine between the engine's features of images and those of fp32, by feature name.

    Raises
    ------
    EngineError
        If one of them is below `MIN_COSINE`.
    """
    cosines = {name: _cosine(values, reference[name]) for name, values in engine(images).items()}
    worst = min(cosines, key=cosines.__getitem__)
    if not cosines[worst] >= MIN_COSINE:
        raise EngineError(
            f"{worst} at --precision int8 must have a cosine of at least {MIN_COSINE} to fp32 on a sample of "
            f"{len(images)} images, got {cosines[worst]:.4f}; use --precision bf16 or fp32"
        )
    return cosines


def _cosine(values: np.ndarray, reference: np.ndarray) -> float:
    norms = np.linalg.norm(values, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((values * reference).sum(1) / np.maximum(norms, 1e-12)).mean())


class _Watch(nn.Module):
    """Passes on what it is given, and remembers the largest absolute value of it."""

    largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        self.largest = max(self.largest, float(x.abs().amax()))
        return x
