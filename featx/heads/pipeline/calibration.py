"""Probabilities from decisions, for a head that only has decisions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from featx.errors import ModelError

CALIBRATION_METHOD = "sigmoid"


@dataclass(frozen=True, eq=False)
class SigmoidCalibration:
    """One sigmoid per class that turns decisions into probabilities: p = 1 / (1 + exp(slope × decision + intercept)).

    Platt (1999), "Probabilistic outputs for support vector machines", as in scikit-learn's CalibratedClassifierCV.

    Parameters
    ----------
    slope, intercept : float64 array (classes,), or (1,) for two classes
        Slopes are negative if a larger decision means a more probable class.

    Raises
    ------
    ModelError
        If they are not two finite arrays of the same shape.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (self.slope.shape, self.intercept.shape)
        if self.slope.ndim != 1 or len(set(shapes)) > 1 or not np.isfinite([self.slope, self.intercept]).all():
            raise ModelError(
                f"slope and intercept of a calibration must be finite, one number per class, got shapes {shapes}"
            )

    def predict_proba(self, decisions: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities that add up to 1 per row.

        Each sigmoid is fitted without the others, so the most probable class may differ from the predicted class.

        Parameters
        ----------
        decisions : float array (rows, classes), or (rows,) for two classes

        Returns
        -------
        float64 array (rows, classes)
        """
        values = np.asarray(decisions, dtype=np.float64)
        shares = expit(-(self.slope * values.reshape(len(values), -1) + self.intercept))
        if len(self.slope) == 1:
            return np.hstack([1 - shares, shares])
        total = shares.sum(axis=1, keepdims=True)
        # If all sigmoids are 0, every class is equally probable.
        np.divide(shares, total, out=shares, where=total > 0)
        return np.where(total > 0, shares, 1 / len(self.slope))
