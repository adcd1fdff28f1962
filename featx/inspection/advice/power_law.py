"""The power law of learning curves, error = floor + factor × n^-exponent, fitted, and how far it can be trusted.

Figueroa, Zeng-Treitler, Kandula & Ngo (2012), "Predicting sample size required for classification performance", fit it
by weighted least squares; Hestness et al. (2017), "Deep learning scaling is predictable, empirically", find it on many
tasks. For one exponent the other two numbers are linear, so that trying exponents finds the global minimum (variable
projection: Golub & Pereyra 1973).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXPONENTS = np.geomspace(0.05, 2.0, 60)
BOOTSTRAPS = 1000
LEVEL = 0.95
"""Of the intervals."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """One law, or, as arrays of one shape, several: what is left with any number of images, and how the rest falls."""

    floor: Array
    factor: Array
    exponent: Array

    def error(self, images: float) -> Array:
        """The error at a number of images a class."""
        return np.asarray(self.floor + self.factor * images**-self.exponent)


@dataclass(frozen=True)
class Fit:
    """The law of the mean over draws, and one for each bootstrap sample of the draws."""

    law: PowerLaw
    samples: PowerLaw

    def error(self, images: float) -> tuple[float, float, float]:
        """The expected error at a number of images a class, and the ends of its interval."""
        low, high = _interval(self.samples.error(images))
        return float(self.law.error(images)), low, high

    def gain(self, images: float, more: float) -> tuple[float, float, float]:
        """By how much the error falls with ``more`` images a class, and the ends of the interval."""
        low, high = _interval(self.samples.error(images) - self.samples.error(images + more))
        return float(self.law.error(images) - self.law.error(images + more)), low, high


def fit_power_law(images: ArrayLike, errors: ArrayLike, scored: int, seed: int = 0) -> Fit:
    """Fit the law to the errors of several draws.

    Parameters
    ----------
    images : array (points,)
        Training images a class, rising.
    errors : array (draws, points)
        Each draw's error; draws are scored on images of their own.
    scored : int
        Images that all draws together score: no mean is taken to be surer than so many allow.
    seed : int
        Of the bootstrap, which draws draws with replacement (Efron 1979). Where draws differ less than the binomial
        distribution says of so many images, what is lacking is added, alike for all points: they score the same images.
    """
    n, values = np.asarray(images, np.float64), np.asarray(errors, np.float64)
    draws, mean = len(values), values.mean(axis=0)
    spread = values.var(axis=0, ddof=1) / draws if draws > 1 else np.zeros_like(mean)
    smoothed = (mean * scored + 1) / (scored + 2)
    lacking = np.maximum(smoothed * (1 - smoothed) / scored - spread, 0)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, draws, (BOOTSTRAPS, draws))
    # Resampled means vary less than means do, by the share that a variance of few lacks.
    varied = (values[chosen].mean(axis=1) - mean) * np.sqrt(draws / max(draws - 1, 1))
    varied += rng.standard_normal((BOOTSTRAPS, 1)) * np.sqrt(lacking)
    weights = 1 / (spread + lacking)
    return Fit(_solve(n, mean, weights), _solve(n, np.clip(mean + varied, 0, 1), weights))


def _solve(n: Array, errors: Array, weights: Array) -> PowerLaw:
    """The weighted least squares (…) of errors (…, points), floor and factor at least 0."""
    basis = n ** -EXPONENTS[:, np.newaxis]
    total, first = weights.sum(), basis @ weights
    second = basis**2 @ weights
    y, x = (errors @ weights)[..., np.newaxis], errors @ (basis * weights).T
    slope = (total * x - first * y) / (total * second - first**2)
    floor = (y - slope * first) / total
    # Where one of the two would be negative it is 0, and the other what suits that best.
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
