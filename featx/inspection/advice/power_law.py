"""Fit the power law of learning curves, error = floor + factor × n^-exponent, with confidence intervals.

Figueroa, Zeng-Treitler, Kandula & Ngo (2012), "Predicting sample size required for classification performance", fit
this law by weighted least squares. Hestness et al. (2017), "Deep learning scaling is predictable, empirically", find it
on many tasks. For a given exponent the law is linear in floor and factor. So the global minimum is found by trying many
exponents (variable projection, Golub & Pereyra 1973).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXPONENTS = np.geomspace(0.05, 2.0, 60)
BOOTSTRAPS = 1000
LEVEL = 0.95
"""Confidence level of the intervals."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """One power law, or several as arrays of one shape. ``floor`` is the error that more images cannot remove."""

    floor: Array
    factor: Array
    exponent: Array

    def error(self, images: float) -> Array:
        """Compute the error at a number of images per class."""
        return np.asarray(self.floor + self.factor * images**-self.exponent)


@dataclass(frozen=True)
class PowerLawFit:
    """The law of the mean error over draws, and one law per bootstrap sample of the draws."""

    law: PowerLaw
    samples: PowerLaw

    def error(self, images: float) -> tuple[float, float, float]:
        """Return the expected error at a number of images per class, and the ends of its interval."""
        low, high = _interval(self.samples.error(images))
        return float(self.law.error(images)), low, high

    def gain(self, images: float, more: float) -> tuple[float, float, float]:
        """Return how much the error falls with ``more`` images per class, and the ends of its interval."""
        low, high = _interval(self.samples.error(images) - self.samples.error(images + more))
        return float(self.law.error(images) - self.law.error(images + more)), low, high


def fit_power_law(images: ArrayLike, errors: ArrayLike, scored: int, random_state: int = 0) -> PowerLawFit:
    """Fit the law to the errors of several draws. Intervals come from a bootstrap of the draws (Efron 1979).

    Draws that agree by chance would give intervals that are too narrow. So the variance of a mean error is set to at
    least the binomial variance of ``scored`` images. The missing variance is added equally to all points, because they
    are scored on the same images.

    Parameters
    ----------
    images : array (points,)
        Training images per class, ascending.
    errors : array (draws, points)
        Error of each draw. No two draws are scored on the same images.
    scored : int
        Number of images that all draws score together.
    random_state : int
        Seed of the bootstrap.
    """
    n, values = np.asarray(images, np.float64), np.asarray(errors, np.float64)
    draws, mean = len(values), values.mean(axis=0)
    variance = values.var(axis=0, ddof=1) / draws if draws > 1 else np.zeros_like(mean)
    smoothed = (mean * scored + 1) / (scored + 2)
    missing = np.maximum(smoothed * (1 - smoothed) / scored - variance, 0)
    rng = np.random.default_rng(random_state)
    chosen = rng.integers(0, draws, (BOOTSTRAPS, draws))
    # The variance of resampled means is too small by the factor (draws - 1) / draws.
    deviations = (values[chosen].mean(axis=1) - mean) * np.sqrt(draws / max(draws - 1, 1))
    deviations += rng.standard_normal((BOOTSTRAPS, 1)) * np.sqrt(missing)
    weights = 1 / (variance + missing)
    return PowerLawFit(_solve(n, mean, weights), _solve(n, np.clip(mean + deviations, 0, 1), weights))


def _solve(n: Array, errors: Array, weights: Array) -> PowerLaw:
    """Solve the weighted least squares for errors (…, points), with floor and factor at least 0."""
    basis = n ** -EXPONENTS[:, np.newaxis]
    total, first = weights.sum(), basis @ weights
    second = basis**2 @ weights
    y, x = (errors @ weights)[..., np.newaxis], errors @ (basis * weights).T
    slope = (total * x - first * y) / (total * second - first**2)
    floor = (y - slope * first) / total
    # If floor or factor would be negative, it is set to 0, and the other one is optimized for this value.
    slope = np.where(floor < 0, x / second, np.maximum(slope, 0))
    floor = np.maximum((y - slope * first) / total, 0)
    residual = errors[..., np.newaxis, :] - floor[..., np.newaxis] - slope[..., np.newaxis] * basis
    best = (residual**2 @ weights).argmin(axis=-1)[..., np.newaxis]
    floor, slope = (np.take_along_axis(values, best, axis=-1)[..., 0] for values in (floor, slope))
    return PowerLaw(floor, slope, EXPONENTS[best[..., 0]])


def _interval(values: Array) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)
