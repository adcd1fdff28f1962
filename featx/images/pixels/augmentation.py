"""Make augmented copies of an image. They are the same in every run and on every machine.

The changes in a copy depend only on the seed, the digest of the image file and the index of the copy. They never depend
on the worker, the order of the images or a random state. The copy with index 0 is not augmented: it is the plain copy.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.pixels.colors import adjust_colors, to_rgb
from featx.images.pixels.placement import PLAIN, WHOLE, Placement, apply_placement
from featx.images.pixels.preprocessing import preprocess
from featx.spec import COLORS, FLIPS, ExtractSpec, Range, TransformRanges, parse_augment

MAX_STRETCH = 4 / 3
"""Largest aspect ratio of a crop, relative to the frame. The smallest ratio is the inverse, so ratios are from 3:4 to
4:3."""
_DRAWN = ("rotate", "scale", "area", "stretch", "left", "top", "right", "down",
          "brightness", "contrast", "saturation", "hue")  # fmt: skip
"""Names of the random numbers. All numbers are always drawn, so that adding one kind of change does not affect the
others."""
NEUTRAL_COLORS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@dataclass(frozen=True)
class Transform:
    """The changes in one augmented copy: its placement, three color factors, and a rotation of the hue.

    ``hue`` is in turns of the circle.
    """

    placement: Placement = PLAIN
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def __str__(self) -> str:
        """Describe the changes in words; ``plain`` if nothing changes."""
        colors = [f"{name} {getattr(self, name):.3g}" for name in COLORS if getattr(self, name) != NEUTRAL_COLORS[name]]
        return ", ".join([*self.placement.changes(), *colors]) or "plain"


def draw_transform(augment: TransformRanges, seed: int, digest: str, index: int) -> Transform:
    """Draw the changes in one copy of an image; the copy with index 0 has no changes.

    Values are drawn uniformly from their ranges. For scales and aspect ratios, the logarithm is drawn uniformly.
    Mirroring is not random but alternates. ``flip`` alone mirrors every second copy. ``flip`` and ``vflip`` together
    cycle through all four combinations, so four copies in a row contain each combination once.

    Parameters
    ----------
    augment : mapping of str to (float, float)
        The range of each kind of change, by its name, as returned by `featx.spec.parse_augment`.
    seed : int
        ``view_seed`` of the spec.
    digest : str
        sha256 of the image file, as hex.
    index : int
        Index of the copy.
    """
    if index == 0:
        return Transform()
    drawn = dict(zip(_DRAWN, _uniform_numbers(f"{seed}:{digest}:{index}"), strict=True))

    def value(name: str, neutral: float) -> float:
        return _interpolate(augment[name], drawn[name]) if name in augment else neutral

    flips = [name for name in FLIPS if name in augment]
    mirrored = {name: bool(index >> bit & 1) for bit, name in enumerate(flips)}
    scale = augment.get("scale", (1.0, 1.0))
    shift = augment.get("translate", (0.0, 0.0))
    placement = Placement(
        mirror=(mirrored.get("flip", False), mirrored.get("vflip", False)),
        degrees=value("rotate", 0.0),
        zoom=_interpolate_logarithms(scale, drawn["scale"]),
        crop=_random_crop(augment["crop"], drawn) if "crop" in augment else WHOLE,
        shift=(_interpolate(shift, drawn["right"]), _interpolate(shift, drawn["down"])),
    )
    return Transform(placement, **{name: value(name, NEUTRAL_COLORS[name]) for name in COLORS})


def augmented_copies(image: Image.Image, spec: ExtractSpec, digest: str) -> Iterator[NDArray[np.uint8]]:
    """Make the copies of an image that the backbone takes: first the plain copy, then the augmented copies.

    Parameters
    ----------
    image : PIL.Image.Image
        The decoded image.
    spec : ExtractSpec
        The fields ``n_views``, ``augment``, ``fill`` and ``view_seed`` are used, and the fields that `preprocess` uses.
    digest : str
        sha256 of the image file, as hex.

    Yields
    ------
    numpy.ndarray
        uint8 of shape (size, size, 3), ``spec.n_views`` times.

    Raises
    ------
    ImageError
        If the image has no pixels.
    """
    rgb = to_rgb(image, spec.value_range)
    plain = preprocess(rgb, spec)
    yield plain
    augment = parse_augment(spec.augment)
    for index in range(1, spec.n_views):
        transform = draw_transform(augment, spec.view_seed, digest, index)
        placed = apply_placement(rgb, transform.placement, spec, plain)
        yield adjust_colors(placed, transform.brightness, transform.contrast, transform.saturation, transform.hue)


def _uniform_numbers(key: str) -> list[float]:
    """Compute one number in [0, 1] for each name in `_DRAWN`, from a hash of ``key``."""
    data = hashlib.shake_256(key.encode()).digest(8 * len(_DRAWN))
    return [int.from_bytes(data[at : at + 8]) / 2**64 for at in range(0, len(data), 8)]


def _interpolate(ends: Range, number: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * number


def _interpolate_logarithms(ends: Range, number: float) -> float:
    return ends[0] * math.exp(math.log(ends[1] / ends[0]) * number)


def _random_crop(areas: Range, drawn: dict[str, float]) -> tuple[float, float, float, float]:
    """Choose left, top, width and height of a crop, as fractions of the frame's sides.

    A crop that would be wider or higher than the frame is cut at the frame, so its area is smaller than the drawn area.
    """
    area = _interpolate(areas, drawn["area"])
    stretch = _interpolate_logarithms((1 / MAX_STRETCH, MAX_STRETCH), drawn["stretch"])
    width, height = min(1.0, math.sqrt(area * stretch)), min(1.0, math.sqrt(area / stretch))
    return drawn["left"] * (1 - width), drawn["top"] * (1 - height), width, height
