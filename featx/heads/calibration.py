"""Probabilities from the decisions of a head that has none of its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from featx.errors import ModelError

METHOD = "sigmoid"


@dataclass(frozen=True, eq=False)
class Calibration:
    """One sigmoid a class: p = 1 / (1 + exp(slope × decision + intercept)).

    Platt (1999), "Probabilistic outputs for support vector machines", as sklearn's CalibratedClassifierCV has it.

    Parameters
    ----------
    slope, intercept : float64 array (classes,), or (1,) for two classes
        Slopes are below 0 where a larger decision means a more probable class.

    Raises
    ------
    ModelError
        If they are not two finite arrays of one shape.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (self.slope.shape, self.intercept.shape)
        if self.slope.ndim != 1 or len(set(shapes)) > 1 or not np.isfinite([self.slope, self.intercept]).all():
            raise ModelError(f"slope and intercept of a calibration must be finite, one a class, got shapes {shapes}")

    def probabilities(self, decisions: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (rows, classes) for decisions (rows, classes), or (rows,) for two classes; rows add up to 1.

        Each class's sigmoid knows nothing of the others': the most probable class need not be the one that the
        decisions choose.
        """
        values = np.asarray(decisions, dtype=np.float64)
        shares = expit(-(self.slope * values.reshape(len(values), -1) + self.intercept))
        if len(self.slope) == 1:
            return np.hstack([1 - shares, shares])
        total = shares.sum(axis=1, keepdims=True)
        # Sigmoids that are all 0 say nothing.
        np.divide(shares, total, out=shares, where=total > 0)
        return np.where(total > 0, shares, 1 / len(self.slope))
