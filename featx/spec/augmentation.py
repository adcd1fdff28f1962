"""Augmentation by name: which changes a view of an image goes through, and how far each may go.

``flip,rotate=30,scale=0.8:1.2`` names its parts; a part without a value has the default of `PARTS`. The order of the
names does not matter: a view is cropped, scaled, turned, shifted and mirrored, in this order, and then recolored.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FILLS = ("reflect", "symmetric", "edge", "constant")
"""What a view shows where it looks beyond its picture: the picture mirrored about the middle of its outermost pixels
(``reflect``) or about their edge (``symmetric``), those pixels repeated (``edge``), or the mean color of the backbone's
preprocessing (``constant``)."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One kind of change: its default range and its limits. ``centered`` means that one number d stands for -d:d."""

    default: Range = (1, 1)
    limits: Range = (1, 1)
    centered: bool = False
    what: str = ""


_FACTOR = Part((0.8, 1.2), (0, 10), what="factors of 0 to 10, such as 0.8:1.2")
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "flip": Part(),
        "vflip": Part(),
        "rotate": Part((-30, 30), (-180, 180), True, "degrees of -180 to 180, such as 30 or -10:30"),
        "scale": Part((0.8, 1.2), (0.1, 10), what="factors of 0.1 to 10, above 1 to zoom in, such as 0.8:1.2"),
        "crop": Part((0.5, 1), (0.01, 1), what="shares of the area of 0.01 to 1, such as 0.5:1"),
        "translate": Part((-0.1, 0.1), (-1, 1), True, "shares of the sides of -1 to 1, such as 0.1"),
        "brightness": _FACTOR,
        "contrast": _FACTOR,
        "saturation": _FACTOR,
        "hue": Part((-0.02, 0.02), (-0.5, 0.5), True, "turns of the color circle of -0.5 to 0.5, such as 0.02"),
    }
)
"""Every part by name. ``flip`` and ``vflip`` mirror left to right and top to bottom, and take no value."""
FLIPS = ("flip", "vflip")
COLORS = ("brightness", "contrast", "saturation", "hue")
COLOR = "color"
"""Short for the four `COLORS`; ``color=0.3`` is brightness, contrast and saturation of 0.7:1.3 and a hue of 0.03."""
_COLOR_DEFAULT = 0.2

DEFAULT = "flip,rotate=30,scale=0.8:1.2,crop,translate=0.1"
"""For training, where nothing else is asked for."""

DEFAULT_TTA = "flip"
"""For prediction, where nothing else is asked for."""

Augment = Mapping[str, Range]
"""The parts of an augmentation with their ranges, in the order of `PARTS`."""


def parse_augment(text: str) -> Augment:
    """The parts of ``"flip,rotate=30,scale=0.8:1.2"``; ``ValueError`` says what is wrong with it."""
    found: dict[str, Range] = {}
    for entry in text.split(",") if text.strip() else ():
        name, equals, value = (piece.strip() for piece in entry.partition("="))
        if name != COLOR and name not in PARTS:
            raise ValueError(f"must name parts among {', '.join([*PARTS, COLOR])}, got {name!r}")
        if equals and name in FLIPS:
            raise ValueError(f"takes no value for {name}, got {entry.strip()!r}; leave it out, or give the name alone")
        parts = _color(value if equals else None) if name == COLOR else {name: _range(name, value if equals else None)}
        if twice := [part for part in parts if part in found]:
            raise ValueError(f"has {twice[0]} twice; give each part once")
        found |= parts
    return MappingProxyType({name: found[name] for name in PARTS if name in found})


def format_augment(augment: Augment) -> str:
    """The one way to write an augmentation, with all values: equal augmentations give equal text."""
    return ",".join(name if name in FLIPS else f"{name}={_format(PARTS[name], *augment[name])}" for name in augment)


def warn_of_copies(text: str, views: int) -> None:
    """Warn if an augmentation has not so many different views: mirroring alone has two, or four both ways."""
    names = parse_augment(text).keys()
    if views > (kinds := 2 ** len(names)) and names <= set(FLIPS):
        warnings.warn(
            f"{views} views by {text} are {kinds} and copies of them: take {kinds}, or more parts", stacklevel=3
        )


def _range(name: str, value: str | None) -> Range:
    part = PARTS[name]
    if value is None:
        return part.default
    low, colon, high = value.partition(":")
    try:
        ends = (float(low), float(high)) if colon else (-float(low), float(low))
    except ValueError:
        raise ValueError(f"must have numbers for {name}, {part.what}, got {value!r}") from None
    if not (colon or part.centered):
        raise ValueError(f"must have a range low:high for {name}, {part.what}, got {value!r}")
    if not part.limits[0] <= ends[0] <= ends[1] <= part.limits[1]:
        raise ValueError(f"must have for {name} {part.what}, got {value!r}")
    return ends[0] + 0.0, ends[1] + 0.0  # No negative zero: equal values, equal text.


def _color(value: str | None) -> dict[str, Range]:
    try:
        amount = _COLOR_DEFAULT if value is None else float(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= 1:
        raise ValueError(f"must have for {COLOR} one number of 0 to 1, such as {_COLOR_DEFAULT}, got {value!r}")
    factors, hue = (round(1 - amount, 9), round(1 + amount, 9)), round(amount / 10, 9)
    return {name: (-hue, hue) if name == "hue" else factors for name in COLORS}


def _format(part: Part, low: float, high: float) -> str:
    return _number(high) if part.centered and low == -high else f"{_number(low)}:{_number(high)}"


def _number(value: float) -> str:
    """The shortest text that reads as this number, without a needless ``.0``."""
    return repr(float(value)).removesuffix(".0")
