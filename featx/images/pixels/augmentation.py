"""Views: augmented copies of a picture, each the same whenever and wherever it is made.

What a view does follows from the seed, the digest of the image's file and the view's number alone: neither the worker,
nor the order, nor any random state has a say in it. Transform 0 is the plain picture.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.pixels.colors import adjust_colors, to_rgb
from featx.images.pixels.placement import PLAIN, WHOLE, Placement, place
from featx.images.pixels.preprocessing import preprocess
from featx.spec import COLORS, FLIPS, Augment, ExtractSpec, Range, parse_augment

MAX_STRETCH = 4 / 3
"""How many times as wide as high a crop may be, relative to its frame, or as high as wide."""
_DRAWN = ("rotate", "scale", "area", "stretch", "left", "top", "right", "down",
          "brightness", "contrast", "saturation", "hue")  # fmt: skip
"""One number is drawn for each, whatever the augmentation, so that a part changes no other part's draw."""


PLAIN_COLORS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@dataclass(frozen=True)
class Transform:
    """What one view does to its picture: where it looks, and the factors and the turn of its colors."""

    placement: Placement = PLAIN
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def __str__(self) -> str:
        """What it does, in words; ``plain`` if nothing."""
        colors = [f"{name} {getattr(self, name):.3g}" for name in COLORS if getattr(self, name) != PLAIN_COLORS[name]]
        return ", ".join([*self.placement.changes(), *colors]) or "plain"


def draw_transform(augment: Augment, seed: int, digest: str, index: int) -> Transform:
    """What view ``index`` of the image with this digest does; 0 does nothing.

    Ranges are drawn from evenly, scales and stretches by their logarithm. Mirroring is not drawn: with ``flip`` every
    second view is mirrored, and with ``vflip`` too the four ways take turns, so that few views still have them all.
    """
    if index == 0:
        return Transform()
    drawn = dict(zip(_DRAWN, _numbers(f"{seed}:{digest}:{index}"), strict=True))

    def value(name: str, plain: float) -> float:
        return _between(augment[name], drawn[name]) if name in augment else plain

    flips = [name for name in FLIPS if name in augment]
    mirrored = {name: bool(index >> bit & 1) for bit, name in enumerate(flips)}
    scale = augment.get("scale", (1.0, 1.0))
    shift = augment.get("translate", (0.0, 0.0))
    placement = Placement(
        mirror=(mirrored.get("flip", False), mirrored.get("vflip", False)),
        degrees=value("rotate", 0.0),
        zoom=_between_logs(scale, drawn["scale"]),
        crop=_crop(augment["crop"], drawn) if "crop" in augment else WHOLE,
        shift=(_between(shift, drawn["right"]), _between(shift, drawn["down"])),
    )
    return Transform(placement, **{name: value(name, PLAIN_COLORS[name]) for name in COLORS})


def augmented_copies(image: Image.Image, spec: ExtractSpec, digest: str) -> Iterator[NDArray[np.uint8]]:
    """The views of a picture as the backbone sees them, the plain one first.

    Parameters
    ----------
    image : PIL.Image.Image
        The decoded picture.
    spec : ExtractSpec
        Its ``views``, ``augment``, ``fill`` and ``view_seed``, and all that `preprocess` takes of it.
    digest : str
        sha256 of the image's file, as hex.

    Yields
    ------
    numpy.ndarray
        uint8 of shape (size, size, 3), ``spec.n_views`` times.

    Raises
    ------
    ImageError
        If the image has no pixels.
    """
    rgb = to_rgb(image)
    plain = preprocess(rgb, spec)
    yield plain
    augment = parse_augment(spec.augment)
    for index in range(1, spec.n_views):
        view = draw_transform(augment, spec.view_seed, digest, index)
        placed = place(rgb, view.placement, spec, plain)
        yield adjust_colors(placed, view.brightness, view.contrast, view.saturation, view.hue)


def _numbers(key: str) -> list[float]:
    """Numbers of 0 to 1, evenly distributed, from a hash of the key: the same on every machine and for ever."""
    data = hashlib.shake_256(key.encode()).digest(8 * len(_DRAWN))
    return [int.from_bytes(data[at : at + 8]) / 2**64 for at in range(0, len(data), 8)]


def _between(ends: Range, number: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * number


def _between_logs(ends: Range, number: float) -> float:
    return ends[0] * math.exp(math.log(ends[1] / ends[0]) * number)


def _crop(shares: Range, drawn: dict[str, float]) -> tuple[float, float, float, float]:
    """Left, top, width and height of a random part of the frame, as shares of its sides.

    Of less than its share of the area where it would be wider or higher than the frame.
    """
    area = _between(shares, drawn["area"])
    stretch = _between_logs((1 / MAX_STRETCH, MAX_STRETCH), drawn["stretch"])
    width, height = min(1.0, math.sqrt(area * stretch)), min(1.0, math.sqrt(area / stretch))
    return drawn["left"] * (1 - width), drawn["top"] * (1 - height), width, height
