"""Which way of transfer learning fits: the plane of size and likeness, the learning curve and its forecast."""

import textwrap
from dataclasses import dataclass

import numpy as np

from featx.inspection.advice.advisor import Advice
from featx.inspection.advice.cases import CASES, Case
from featx.inspection.advice.size import Size
from featx.inspection.advice.thresholds import BORDER
from featx.inspection.html_report.plot import BELOW, LEFT, RIGHT, TOP, WIDTH, Plot, linear, logarithmic, points
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Figure, Section, percent, sentence

TITLE = "Which way to go"
PLANE_BOTTOM, CURVE_BOTTOM = 420, 320
LETTERS = 24
"""A line in a quarter of the plane."""
LINE = 19
"""From one line to the next."""
LAW_POINTS = 40


@dataclass(frozen=True)
class Quarter:
    """One of the four cases: where it lies on the plane, its name and way in lines, and where these begin."""

    name: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    text: float
    chosen: bool


@dataclass(frozen=True)
class Direction:
    """The advice; the plane with its quarters; the learning curve, its law up to today and beyond, and its forecast."""

    advice: Advice
    plane: Plot
    quarters: tuple[Quarter, ...]
    curve: Plot
    known: str
    beyond: str
    band: str


def make(run: Run) -> Section:
    """The advice, drawn."""
    advice = run.advice
    size, x = advice.size, linear("size: images a class, and how flat the curve is", [0, 1], LEFT, RIGHT, count=2)
    y = linear("likeness to photographs", [0, 1], PLANE_BOTTOM, TOP, count=2)
    plane = Plot(WIDTH, PLANE_BOTTOM + BELOW, x, y)
    curve = _curve(size)
    now, then = size.forecasts
    reached = size.curve[-1].per_class
    between = f"{percent(then.low)} to {percent(then.high)}"
    figure = Figure("Forecast", percent(then.accuracy), f"{between} with {size.gain.more:,} more images a class")
    amount, likeness = advice.case.replace("alike", "like").split(", ")
    lead = f"{sentence(advice.way)}: the data are {amount}, and {likeness} what the backbone was trained on."
    data = Direction(
        advice, plane, tuple(_quarter(plane, case, advice) for case in CASES), curve,
        _law(curve, size, size.curve[0].per_class, reached), _law(curve, size, reached, then.per_class),
        points(curve, [now.per_class, then.per_class, then.per_class, now.per_class],
               [now.low, then.low, then.high, now.high]),
    )  # fmt: skip
    return Section("advice", TITLE, lead, data, figure=figure)


def _curve(size: Size) -> Plot:
    images = [point.per_class for point in size.curve] + [forecast.per_class for forecast in size.forecasts]
    values = [point.mean + sign * point.standard_error for point in size.curve for sign in (-1, 1)]
    values += [end for forecast in size.forecasts for end in (forecast.low, forecast.high)]
    x = logarithmic("training images a class", images, LEFT, RIGHT)
    return Plot(WIDTH, CURVE_BOTTOM + BELOW, x, linear("accuracy", values, CURVE_BOTTOM, TOP, share=True))


def _law(plot: Plot, size: Size, low: float, high: float) -> str:
    images = np.geomspace(low, max(high, low), LAW_POINTS)
    return points(plot, images.tolist(), (1 - size.floor - size.factor * images**-size.exponent).tolist())


def _quarter(plane: Plot, case: Case, advice: Advice) -> Quarter:
    low, high = (BORDER, 1.0) if case.large else (0.0, BORDER)
    bottom, top = (BORDER, 1.0) if case.alike else (0.0, BORDER)
    left, up = plane.x(low), plane.y(top)
    width, height, chosen = plane.x(high) - left, plane.y(bottom) - up, case.name == advice.case
    lines = tuple(textwrap.wrap(case.way, LETTERS))
    score = advice.likeness.score
    # Above or below: where the dot is not.
    above = not chosen or score is None or score < (bottom + top) / 2
    text = up + LINE + 6 if above else up + height - LINE * len(lines) - 12
    return Quarter(case.name, left, up, width, height, lines, text, chosen)
