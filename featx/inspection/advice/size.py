"""How much data there is: images, images a class, and what more of them would bring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from featx.errors import DataError
from featx.inspection.advice.learning_curve import Point, learning_curve
from featx.inspection.advice.power_law import LEVEL, fit_power_law
from featx.inspection.advice.thresholds import GAIN, IMAGES
from featx.models import TrainingRows

NORMAL = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""Standard deviations on either side that hold ``LEVEL`` of a normal distribution."""


@dataclass(frozen=True)
class Forecast:
    """The accuracy to expect at a number of training images a class, with its interval (95 %)."""

    per_class: float
    accuracy: float
    low: float
    high: float

    def measured_on(self, images: int) -> tuple[float, float]:
        """Where the accuracy on so many test images will lie (95 %): the interval, and what they vary by themselves."""
        error = NORMAL * math.sqrt(self.accuracy * (1 - self.accuracy) / images)
        low, high = (math.hypot(end - self.accuracy, error) for end in (self.low, self.high))
        return max(self.accuracy - low, 0.0), min(self.accuracy + high, 1.0)


@dataclass(frozen=True)
class Gain:
    """What ``more`` images a class would bring in accuracy, with its interval (95 %)."""

    more: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Size:
    """The score, from 0 (small) to 1 (large), is the lesser of two: large is what has many images and a flat curve.

    ``count`` is n / (n + ``IMAGES``) for n images a class, ``flatness`` ``GAIN`` / (``GAIN`` + what as many images
    again would bring); ``low`` and ``high`` are the score at the ends of that gain's interval. ``images``,
    ``per_class`` (their mean) and ``smallest`` count the training images. ``curve`` is fitted by
    error = ``floor`` + ``factor`` × n^-``exponent``; ``forecasts`` are for today's images and with ``gain.more`` of
    them a class in addition.
    """

    score: float
    low: float
    high: float
    count: float
    flatness: float
    images: int
    classes: int
    per_class: float
    smallest: int
    curve: tuple[Point, ...]
    floor: float
    factor: float
    exponent: float
    doubling: Gain
    gain: Gain
    forecasts: tuple[Forecast, ...]


def measure_size(
    rows: TrainingRows, blocks: Sequence[int], head: str, Cs: Sequence[float], more: int | None, seed: int
) -> Size:
    """Size of the training rows; ``more`` images a class are forecast, by default as many again."""
    counts = np.unique(rows.y[rows.plain], return_counts=True)[1]
    per_class = float(counts.mean())
    curve = learning_curve(rows, blocks, head, Cs, seed)
    if len({point.per_class for point in curve}) == 1:
        raise DataError(
            f"advise needs a class of 3 or more different images to see a learning curve, the largest has "
            f"{counts.max()}; add images"
        )
    errors = 1 - np.array([point.scores for point in curve]).T
    fit = fit_power_law([point.per_class for point in curve], errors, int(counts.sum()), seed)

    def gain(images: int) -> Gain:
        return Gain(images, *fit.gain(per_class, images))

    def forecast(images: float) -> Forecast:
        error, low, high = fit.error(images)
        return Forecast(images, 1 - error, 1 - high, 1 - low)

    doubling, wanted = gain(round(per_class)), gain(more or round(per_class))
    count = per_class / (per_class + IMAGES)
    flatness, low, high = (
        GAIN / (GAIN + max(value, 0.0)) for value in (doubling.accuracy, doubling.high, doubling.low)
    )
    return Size(
        min(count, flatness), min(count, low), min(count, high), count, flatness, int(counts.sum()), len(counts),
        per_class, int(counts.min()), curve, float(fit.law.floor), float(fit.law.factor), float(fit.law.exponent),
        doubling, wanted, (forecast(per_class), forecast(per_class + wanted.more)),
    )  # fmt: skip
