"""Calibrate int8: choose the levels that values are rounded to, and check that int8 features agree with fp32.

The quantization is uniform and affine (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient
inference", sections 2 and 3). The inputs of a convolution have 256 levels. Its weights have 255 levels, which are
symmetric and chosen for each output channel. Both engines that compute int8 take the levels from this module.
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
"""Lowest accepted cosine similarity between a feature at int8 and at fp32, as a mean over the calibration images."""


def input_range(bound: float, *, signed: bool) -> tuple[float, float]:
    """Return the lowest and highest level of a convolution's inputs.

    The levels range from 0 to ``bound``. If ``signed`` is true, they range from ``-bound`` to ``bound * 127 / 128``.
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
        The largest absolute weight per channel. It is 1 for a channel of zeros, where any value is correct.
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
        The fp32 features of the calibration images, by name.
    """

    bounds: tuple[float, ...]
    features: dict[str, np.ndarray] = dataclasses.field(repr=False)


def calibrate_int8(weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray) -> Int8Calibration:
    """Measure the largest absolute input of each convolution, in one fp32 pass over some images.

    The bound is the maximum over the images. Lower bounds, such as a percentile or the mean of the images' maxima, clip
    the largest inputs and made block 5 less exact. All 13 convolutions are measured, even if the spec names few blocks,
    so that equal images give equal bounds.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        Describes the features to return. Its precision does not matter.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.
    """
    # Use OpenVINO if it is installed: it will compute the features too, and importing torch takes seconds.
    if find_spec("openvino"):
        from featx.engines.openvino_engine import largest_inputs
    else:
        from featx.engines.torch_engine import largest_inputs
    whole = dataclasses.replace(spec, blocks=BLOCK_NUMBERS, precision="fp32", calibration=())
    largest, features = largest_inputs(weights, whole, images)
    # A bound must not be 0. If an input is always 0, any other bound is correct.
    return Int8Calibration(tuple(bound or 1.0 for bound in largest), {name: features[name] for name in spec.widths})


def check_int8_agreement(engine: Engine, images: np.ndarray, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean cosine similarity of int8 and fp32 features, by feature. The mean is over images.

    Parameters
    ----------
    engine : Engine
        The engine, which has precision int8.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.
    reference : dict of str to float32 array (n, width)
        The fp32 features of the images, by name.

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
