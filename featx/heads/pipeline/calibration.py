"""Probabilities from decisions, for a head that only has decisions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from featx.errors import ModelError
from featx.heads.pipeline.decisions import class_decisions

CALIBRATION_METHOD = "temperature"
SCALES = (-2.0, 3.0)
"""Range in which the factor on the decisions is searched, as exponents of 10 and relative to the size of the
decisions."""


@dataclass(frozen=True)
class TemperatureCalibration:
    """One temperature that turns decisions into probabilities: p = softmax(decisions / temperature).

    All classes share the temperature, so the class with the largest decision is also the most probable one, and
    calibration changes no prediction (Guo et al. 2017, "On calibration of modern neural networks"). One sigmoid per
    class, as in Platt (1999), would not ensure this.

    Parameters
    ----------
    temperature : float
        Above 0. A higher temperature means probabilities that are closer to each other.

    Raises
    ------
    ModelError
        If the temperature is not a finite number above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ModelError(f"temperature of a calibration must be a number above 0, got {self.temperature}")

    def predict_proba(self, decisions: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities that add up to 1 per row.

        Parameters
        ----------
        decisions : float array (rows, classes), or (rows,) for two classes

        Returns
        -------
        float64 array (rows, classes)
        """
        scaled = class_decisions(np.asarray(decisions, dtype=np.float64)) / self.temperature
        return np.asarray(softmax(scaled, axis=1))


def fit_temperature(
    decisions: ArrayLike, codes: NDArray[np.integer], sample_weight: ArrayLike | None = None
) -> TemperatureCalibration:
    """Find the temperature that minimizes the cross-entropy of decisions on rows that the head was not fitted on.

    On few rows a head may make no mistake, so that probabilities of 0 and 1 would be best. Therefore targets are
    smoothed as if each class had one more row (Platt 1999).

    Parameters
    ----------
    decisions : float array (rows, classes), or (rows,) for two classes
    codes : int array (rows,)
        Index of the class of each row.
    sample_weight : float array (rows,), optional
    """
    values = class_decisions(np.asarray(decisions, dtype=np.float64))
    rows, classes = values.shape
    size = float(np.sqrt(np.mean((values - values.mean(axis=1, keepdims=True)) ** 2)))
    if not size:
        return TemperatureCalibration(1.0)
    smoothing = classes / (rows + classes)
    targets = (1 - smoothing) * (codes[:, np.newaxis] == np.arange(classes)) + smoothing / classes
    weights = np.ones(rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)

    def loss(power: float) -> float:
        losses = -(targets * log_softmax(values * (10**power / size), axis=1)).sum(axis=1)
        return float(weights @ losses / weights.sum())

    return TemperatureCalibration(size / 10 ** float(minimize_scalar(loss, bounds=SCALES, method="bounded").x))
