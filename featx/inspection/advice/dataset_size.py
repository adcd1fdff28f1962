"""Measure the size of a data set: the images per class, and the accuracy that more images would gain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from featx.errors import DataError
from featx.inspection.advice.learning_curve import CurvePoint, largest_class, learning_curve
from featx.inspection.advice.power_law import LEVEL, fit_power_law
from featx.inspection.advice.thresholds import GAIN, IMAGES
from featx.models import TrainingRows

Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""Half the width of an interval of level ``LEVEL``, in standard deviations of a normal distribution."""


@dataclass(frozen=True)
class Forecast:
    """The expected accuracy with a number of training images per class, and its 95 % interval."""

    per_class: float
    accuracy: float
    low: float
    high: float

    def measured_on(self, images: int) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy that a test on this many images would measure."""
        error = Z * math.sqrt(self.accuracy * (1 - self.accuracy) / images)
        low, high = (math.hypot(end - self.accuracy, error) for end in (self.low, self.high))
        return max(self.accuracy - low, 0.0), min(self.accuracy + high, 1.0)


@dataclass(frozen=True)
class Gain:
    """The gain in accuracy from ``more`` additional images per class, and its 95 % interval."""

    more: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class DatasetSize:
    """Size of a data set, from 0 (small) to 1 (large), and the values that the size was computed from.

    Parameters
    ----------
    score : float
        The smaller one of ``count`` and ``flatness``, because a large data set has both many images and a flat learning
        curve.
    low, high : float
        The score for the two ends of the interval of the gain.
    count : float
        Score of the images per class: n / (n + 40) for n images. 40 is the threshold ``IMAGES``.
    flatness : float
        Score of the learning curve: 0.02 / (0.02 + gain). ``gain`` is the gain in accuracy from twice as many images,
        and 0.02 is the threshold ``GAIN``.
    images, classes : int
        Number of training images, and of classes.
    per_class : float
        Mean number of training images per class.
    smallest_class : int
        Number of training images of the smallest class.
    curve : tuple of CurvePoint
        The learning curve.
    floor, factor, exponent : float
        The power law that is fitted to the curve: error = floor + factor × n^-exponent.
    doubling, gain : Gain
        The gain from twice as many images, and the gain from the number of additional images that the caller asked for.
    forecasts : tuple of Forecast
        The accuracy with the present images, and with ``gain.more`` more images per class.
    """

    score: float
    low: float
    high: float
    count: float
    flatness: float
    images: int
    classes: int
    per_class: float
    smallest_class: int
    curve: tuple[CurvePoint, ...]
    floor: float
    factor: float
    exponent: float
    doubling: Gain
    gain: Gain
    forecasts: tuple[Forecast, ...]


def measure_size(
    rows: TrainingRows, blocks: Sequence[int], head: str, Cs: Sequence[float], more: int | None, random_state: int
) -> DatasetSize:
    """Measure the size of a data set by its images per class and by the learning curve of a head.

    ``more`` is the number of additional images per class for which the gain is forecast. By default, it is the present
    number of images per class. `featx.inspection.advice.learning_curve.learning_curve` describes the other parameters.

    Raises
    ------
    DataError
        If every class has so few images that the curve has only one point.
    """
    counts = np.unique(rows.y[rows.plain], return_counts=True)[1]
    per_class = float(counts.mean())
    curve = learning_curve(rows, blocks, head, Cs, random_state)
    if len({point.per_class for point in curve}) == 1 or len(curve[0].scores) == 1:
        raise DataError(
            f"advise needs a class with at least 3 different {rows.unit}s for a learning curve, but the largest class "
            f"has {largest_class(rows)}; add images"
        )
    errors = 1 - np.array([point.scores for point in curve]).T
    fit = fit_power_law([point.per_class for point in curve], errors, int(counts.sum()), random_state)

    def gain(images: int) -> Gain:
        return Gain(images, *fit.gain(per_class, images))

    def forecast(images: float) -> Forecast:
        error, low, high = fit.error(images)
        return Forecast(images, 1 - error, 1 - high, 1 - low)

    doubling, wanted = gain(round(per_class)), gain(more or round(per_class))
    count = per_class / (per_class + IMAGES)
    # A larger gain means a less flat curve. So the upper end of the gain gives the lower end of the flatness.
    flatness, low, high = (
        GAIN / (GAIN + max(value, 0.0)) for value in (doubling.accuracy, doubling.high, doubling.low)
    )
    return DatasetSize(
        min(count, flatness), min(count, low), min(count, high), count, flatness, int(counts.sum()), len(counts),
        per_class, int(counts.min()), curve, float(fit.law.floor), float(fit.law.factor), float(fit.law.exponent),
        doubling, wanted, (forecast(per_class), forecast(per_class + wanted.more)),
    )  # fmt: skip
