"""Calibration for int8: how large the inputs of each convolution get over a sample of images, and how far int8 is."""

import dataclasses
from importlib.util import find_spec

import numpy as np

from featx.backbones import BLOCK_NUMBERS, BackboneWeights
from featx.engines.selection import Engine
from featx.errors import EngineError
from featx.spec import ExtractSpec

MIN_COSINE = 0.99
"""The least mean cosine to fp32 of each feature over the sample."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """``bounds`` of the 13 convolutions' inputs, and the fp32 features (n, width) of the images they were found on."""

    bounds: tuple[float, ...]
    features: dict[str, np.ndarray]


def calibrate(weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray) -> Calibration:
    """Find the largest absolute input of each convolution over images, uint8 (n, size, size, 3), in one fp32 pass.

    The maximum, since clipping the few largest values, by a percentile or by the mean over images, cost block 5 more
    than finer steps gave back. Always all 13, whatever is tapped, so that equal samples give equal bounds, as far as
    float32 rounds alike: OpenVINO finds them where it is installed, which computes int8 there and spares the seconds
    that importing torch takes, and torch elsewhere.
    """
    if find_spec("openvino"):
        from featx.engines.openvino_engine import largest_inputs
    else:
        from featx.engines.torch_engine import largest_inputs
    whole = dataclasses.replace(spec, blocks=BLOCK_NUMBERS, precision="fp32", calibration=())
    largest, features = largest_inputs(weights, whole, images)
    # An input that is zero throughout has no range, and needs none.
    return Calibration(tuple(bound or 1.0 for bound in largest), {name: features[name] for name in spec.widths})


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
