"""Describe augmentation as text: which transforms an augmented copy goes through, and how strong they are.

``flip,rotate=30,scale=0.8:1.2`` names three transforms. A transform without a value has the default range of
`TRANSFORMS`. The order of the names does not matter. An image is always cropped, scaled, rotated, translated and
mirrored, in this order. Its colors are changed last.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FILLS = ("reflect", "symmetric", "edge", "constant")
"""Fill modes: what an augmented copy shows outside the image. ``reflect`` mirrors the image about the centers of its
outermost pixels, and ``symmetric`` mirrors it about their outer edges. ``edge`` repeats the outermost pixels.
``constant`` is the mean color of the backbone's preprocessing."""

Range = tuple[float, float]


@dataclass(frozen=True)
class TransformKind:
    """A kind of transform: the default range of its value, and the limits of that range.

    If ``centered`` is true, a single number d means the range -d:d. ``values`` describes the values in messages.
    """

    default: Range = (1, 1)
    limits: Range = (1, 1)
    centered: bool = False
    values: str = ""


_FACTOR = TransformKind((0.8, 1.2), (0, 10), values="factors of 0 to 10, such as 0.8:1.2")
TRANSFORMS: Mapping[str, TransformKind] = MappingProxyType(
    {
        "flip": TransformKind(),
        "vflip": TransformKind(),
        "rotate": TransformKind((-30, 30), (-180, 180), True, "degrees of -180 to 180, such as 30 or -10:30"),
        "scale": TransformKind(
            (0.8, 1.2), (0.1, 10), values="factors of 0.1 to 10 (above 1 zooms in), such as 0.8:1.2"
        ),
        "crop": TransformKind((0.5, 1), (0.01, 1), values="fractions of the area of 0.01 to 1, such as 0.5:1"),
        "translate": TransformKind((-0.1, 0.1), (-1, 1), True, "fractions of the side of -1 to 1, such as 0.1"),
        "brightness": _FACTOR,
        "contrast": _FACTOR,
        "saturation": _FACTOR,
        "hue": TransformKind(
            (-0.02, 0.02), (-0.5, 0.5), True, "turns of the color circle of -0.5 to 0.5, such as 0.02"
        ),
    }
)
"""Every transform by name. ``flip`` mirrors left to right, and ``vflip`` top to bottom. Both take no value."""
FLIPS = ("flip", "vflip")
COLORS = ("brightness", "contrast", "saturation", "hue")
COLOR = "color"
"""Short name for the four `COLORS`: ``color=0.3`` is brightness, contrast and saturation of 0.7:1.3, and a hue of
0.03."""
_COLOR_DEFAULT = 0.2

DEFAULT_AUGMENT = "flip,rotate=30,scale=0.8:1.2,crop,translate=0.1"
"""The default augmentation for training."""

DEFAULT_PREDICT_AUGMENT = "flip"
"""The default augmentation for prediction."""

TransformRanges = Mapping[str, Range]
"""The ranges of an augmentation by transform, in the order of `TRANSFORMS`."""


def parse_augment(text: str) -> TransformRanges:
    """Read an augmentation such as ``"flip,rotate=30,scale=0.8:1.2"``.

    Raises
    ------
    ValueError
        If the text is wrong. The message has no subject, so that the caller can put the name of the option in front.
    """
    ranges: dict[str, Range] = {}
    for entry in text.split(",") if text.strip() else ():
        name, equals, value = (piece.strip() for piece in entry.partition("="))
        if name != COLOR and name not in TRANSFORMS:
            raise ValueError(f"must name transforms among {', '.join([*TRANSFORMS, COLOR])}, got {name!r}")
        if equals and name in FLIPS:
            raise ValueError(f"takes no value for {name}, got {entry.strip()!r}; give the name alone, or leave it out")
        given = value if equals else None
        added = _parse_color(given) if name == COLOR else {name: _parse_range(name, given)}
        if repeated := [transform for transform in added if transform in ranges]:
            raise ValueError(f"has {repeated[0]} twice; give each transform once")
        ranges |= added
    return MappingProxyType({name: ranges[name] for name in TRANSFORMS if name in ranges})


def format_augment(augment: TransformRanges) -> str:
    """Write an augmentation as text, with all values. Equal augmentations give equal texts."""
    return ",".join(
        name if name in FLIPS else f"{name}={_format_range(TRANSFORMS[name], *augment[name])}" for name in augment
    )


def warn_identical_copies(text: str, n_views: int) -> None:
    """Warn if an augmentation has fewer than ``n_views`` different results. One flip has two, both flips have four."""
    names = parse_augment(text).keys()
    if n_views > (different := 2 ** len(names)) and names <= set(FLIPS):
        warnings.warn(
            f"{n_views} views by {text} include identical copies, because only {different} are different: "
            f"take {different} views, or more transforms",
            stacklevel=3,
        )


def _parse_range(name: str, value: str | None) -> Range:
    kind = TRANSFORMS[name]
    if value is None:
        return kind.default
    low, colon, high = value.partition(":")
    try:
        ends = (float(low), float(high)) if colon else (-float(low), float(low))
    except ValueError:
        raise ValueError(f"must have numbers for {name}, {kind.values}, got {value!r}") from None
    if not (colon or kind.centered):
        raise ValueError(f"must have a range low:high for {name}, {kind.values}, got {value!r}")
    if not kind.limits[0] <= ends[0] <= ends[1] <= kind.limits[1]:
        raise ValueError(f"must have for {name} {kind.values}, got {value!r}")
    return ends[0] + 0.0, ends[1] + 0.0  # adding 0 turns -0 into 0, so that equal values give equal texts


def _parse_color(value: str | None) -> dict[str, Range]:
    try:
        amount = _COLOR_DEFAULT if value is None else float(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= 1:
        raise ValueError(f"must have for {COLOR} one number of 0 to 1, such as {_COLOR_DEFAULT}, got {value!r}")
    factors, hue = (round(1 - amount, 9), round(1 + amount, 9)), round(amount / 10, 9)
    return {name: (-hue, hue) if name == "hue" else factors for name in COLORS}


def _format_range(kind: TransformKind, low: float, high: float) -> str:
    if kind.centered and low == -high:
        return _format_number(high)
    return f"{_format_number(low)}:{_format_number(high)}"


def _format_number(value: float) -> str:
    """Write a number as the shortest text that reads as the same number, without a trailing ``.0``."""
    return repr(float(value)).removesuffix(".0")
