"""Expected calibration error: how far probabilities are from observed frequencies."""

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15


def expected_calibration_error(correct: NDArray[np.bool_], confidence: NDArray[np.float64]) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width, weighted by the rows in each bin.

    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks". The function
    `sklearn.calibration.calibration_curve` does not return the number of rows per bin, which the weights need.

    Parameters
    ----------
    correct : bool array (rows,)
        Whether the prediction is right.
    confidence : float64 array (rows,)
        Probability of the prediction, 0 to 1.
    """
    bins = bin_confidences(confidence)
    return float(np.abs(np.bincount(bins, weights=correct - confidence)).sum() / len(correct))


def bin_confidences(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of the bin, 0 to 14, of each confidence. An edge belongs to the bin below it."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.intp) - 1, 0, CALIBRATION_BINS - 1)
