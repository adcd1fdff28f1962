"""int8: which levels values are rounded to, the calibration that decides them, and a check against fp32.

Uniform affine quantization with 256 levels for the inputs of a convolution and, symmetric and per output channel, 255
levels for its weights (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference",
sections 2 and 3). Both engines that compute int8 take the levels from here.
"""

import dataclasses
from importlib.util import find_spec

import numpy as np

from featx.backbones import BLOCK_NUMBERS, BackboneWeights
from featx.engines.selection import Engine
from featx.errors import EngineError
from featx.spec import ExtractSpec

INPUT_LEVELS = 256
KERNEL_LEVELS = 255
MIN_COSINE = 0.99
"""Lowest accepted mean cosine between a feature at int8 and at fp32, over the calibration images."""


def input_range(bound: float, *, signed: bool) -> tuple[float, float]:
    """Return the lowest and highest level of a convolution's inputs.

    Inputs range from 0 to ``bound``, or from -``bound`` where ``signed``.
    """
    return (-bound, bound * 127 / 128) if signed else (0.0, bound)


def kernel_bounds(kernel: np.ndarray) -> np.ndarray:
    """Return the largest absolute weight per output channel.

    Parameters
    ----------
    kernel : float32 array (outputs, inputs, 3, 3)
        The weights of a convolution.

    Returns
    -------
    float32 array (outputs, 1, 1, 1)
        1 for a channel of zeros, which needs no range.
    """
    largest: np.ndarray = np.abs(kernel).max((1, 2, 3), keepdims=True)
    return np.where(largest > 0, largest, 1.0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Int8Calibration:
    """What a calibration measured.

    Parameters
    ----------
    bounds : tuple of 13 float
        Largest absolute input of each convolution.
    features : dict of str to float32 array (n, width)
        fp32 features of the calibration images by name.
    """

    bounds: tuple[float, ...]
    features: dict[str, np.ndarray] = dataclasses.field(repr=False)


def calibrate_int8(weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray) -> Int8Calibration:
    """Measure the largest absolute input of each convolution, in one fp32 pass over some images.

    Takes the maximum, because clipping the largest inputs, at a percentile or at the mean over images, made block 5
    less exact. Measures all 13 convolutions whatever blocks the spec names, so that equal images give equal bounds.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to return; its precision does not matter.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.
    """
    # OpenVINO where it is installed, because it will compute the features too, and importing torch takes seconds.
    if find_spec("openvino"):
        from featx.engines.openvino_engine import largest_inputs
    else:
        from featx.engines.torch_engine import largest_inputs
    whole = dataclasses.replace(spec, blocks=BLOCK_NUMBERS, precision="fp32", calibration=())
    largest, features = largest_inputs(weights, whole, images)
    # A bound of 0 is not allowed, and an input that is always 0 needs no range.
    return Int8Calibration(tuple(bound or 1.0 for bound in largest), {name: features[name] for name in spec.widths})


def check_int8_agreement(engine: Engine, images: np.ndarray, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare an int8 engine with fp32 features; return the mean cosine over images by feature name.

    Parameters
    ----------
    engine : Engine
        At precision int8.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.
    reference : dict of str to float32 array (n, width)
        Their fp32 features by name.

    Raises
    ------
    EngineError
        If a mean cosine is below `MIN_COSINE`.
    """
    cosines = {name: _mean_cosine(values, reference[name]) for name, values in engine(images).items()}
    worst = min(cosines, key=cosines.__getitem__)
    if not cosines[worst] >= MIN_COSINE:
        raise EngineError(
            f"{worst} at --precision int8 must have a mean cosine of at least {MIN_COSINE} to fp32 over "
            f"{len(images)} images, got {cosines[worst]:.4f}; use --precision bf16 or fp32"
        )
    return cosines


def _mean_cosine(values: np.ndarray, reference: np.ndarray) -> float:
    norms = np.linalg.norm(values, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((values * reference).sum(1) / np.maximum(norms, 1e-12)).mean())
