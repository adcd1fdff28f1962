"""The steps of int8, one place for both engines: what inputs and weights of a convolution are rounded to.

Uniform affine quantisation with 256 steps for inputs and, symmetric and by channel, 255 for weights (Krishnamoorthi
2018, "Quantizing deep convolutional networks for efficient inference", sections 2 and 3).
"""

import numpy as np

INPUT_LEVELS = 256
KERNEL_LEVELS = 255


def input_range(bound: float, *, signed: bool) -> tuple[float, float]:
    """The lowest and the highest input that is told apart: from 0, or from -bound where ``signed``."""
    return (-bound, bound * 127 / 128) if signed else (0.0, bound)


def kernel_bounds(kernel: np.ndarray) -> np.ndarray:
    """The largest absolute weight of each output channel: (outputs, inputs, 3, 3) to (outputs, 1, 1, 1), float32."""
    largest: np.ndarray = np.abs(kernel).max((1, 2, 3), keepdims=True)
    # A channel of zeros has no range, and needs none.
    return np.where(largest > 0, largest, 1.0).astype(np.float32)
