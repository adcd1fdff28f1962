"""Plots as numbers: axes with round ticks, from values to the coordinates of an SVG that a template draws."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1, 2, 2.5, 5, 10)
"""What a power of ten is multiplied by to get a round step."""
WIDTH, LEFT, RIGHT, TOP, BELOW = 560, 62, 540, 40, 54
"""Of a plot, in the units of its SVG: where its axes begin and end, and the room for the labels below them."""
INTERVAL = 150
"""The width of an interval in a table."""


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis: calling it turns a value into a coordinate."""

    title: str
    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate of a value; what lies beyond the axis is put at its end."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, max(value, self._least)))
        share = min(1.0, max(0.0, (at - low) / (high - low)))
        return round(self.start + share * (self.stop - self.start), 1)

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf


@dataclass(frozen=True)
class Plot:
    """The frame of a plot, in the units of its SVG."""

    width: int
    height: int
    x: Axis
    y: Axis


def linear(
    title: str, values: Iterable[float], start: float, stop: float, *, share: bool = False, count: int = 5
) -> Axis:
    """An axis that holds all values between round ends; ``share`` shows percent, and stays within 0 and 100."""
    found = list(values)
    low, high = min(found), max(found)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    step = round_step((high - low) / count)
    low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if share:
        low, high = max(0.0, low), min(1.0, high)
    ticks = [low + index * step for index in range(1 + int((high - low) / step + 1e-9))]
    return Axis(title, low, high, start, stop, tuple((tick, _label(tick, step, share)) for tick in ticks))


def logarithmic(title: str, values: Iterable[float], start: float, stop: float) -> Axis:
    """An axis that holds all values, which are above 0, with a tick at 1, 2 and 5 times each power of ten."""
    found = list(values)
    low, high = min(found) / 1.15, max(found) * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [base * 10.0**power for power in powers for base in (1, 2, 5)]
    inside = tuple((tick, f"{tick:,.4g}") for tick in ticks if low <= tick <= high)
    return Axis(title, low, high, start, stop, inside, log=True)


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 or 10 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))


def _label(value: float, step: float, share: bool) -> str:
    if share:
        return f"{100 * value:.{0 if step >= 0.0099 and round(100 * step, 6).is_integer() else 1}f} %"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def points(plot: Plot, xs: Iterable[float], ys: Iterable[float]) -> str:
    """The points of a polyline."""
    return " ".join(f"{plot.x(x)},{plot.y(y)}" for x, y in zip(xs, ys, strict=True))
