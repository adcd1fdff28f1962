"""Where a view looks at its picture, and the pixels that it sees there: one affine map, and what lies beyond."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.pixels.preprocessing import FILTERS, center_square, mean_color, resize
from featx.spec import ExtractSpec

DENSITY = 1.4
"""Pixels of the shrunk picture to one of the view, along each axis. The warp is bilinear and so a low-pass filter of
its own: with fewer it blurs, with more it aliases. Of 1 to 2, this came nearest to a warp at full resolution."""
MARGIN = 2
"""Pixels around what a view sees that its interpolation reads."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
WAYS = ("left to right", "top to bottom")


@dataclass(frozen=True)
class Placement:
    """Where a view looks, relative to the frame that the plain picture shows.

    ``mirror`` is left to right and top to bottom; ``degrees`` turn the picture counterclockwise; ``zoom`` above 1
    enlarges it; ``crop`` is left, top, width and height of the part that is looked at, and ``shift`` how far the
    picture moves to the right and down, as shares of the frame's sides.
    """

    mirror: tuple[bool, bool] = (False, False)
    degrees: float = 0.0
    zoom: float = 1.0
    crop: tuple[float, float, float, float] = WHOLE
    shift: tuple[float, float] = (0.0, 0.0)

    def changes(self) -> Iterator[str]:
        """What it changes, in words."""
        if any(self.mirror):
            yield f"mirrored {' and '.join(way for way, done in zip(WAYS, self.mirror, strict=True) if done)}"
        if self.crop != WHOLE:
            yield "cropped to {:.2f}, {:.2f} with sides {:.2f}, {:.2f}".format(*self.crop)
        if self.zoom != 1:
            yield f"zoomed {self.zoom:.3g} times"
        if self.degrees:
            yield f"turned {self.degrees:.3g}°"
        if any(self.shift):
            yield "shifted {:.2f}, {:.2f}".format(*self.shift)


PLAIN = Placement()
"""Where the plain view looks."""


@dataclass(frozen=True)
class _Affine:
    """A point of the view, in pixels, to one of the picture: ``matrix`` (2, 2) @ point + ``offset`` (2,)."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def bounds(self, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest coordinates that a view of ``size`` pixels sees."""
        corners = self.matrix @ np.array([[0, size, 0, size], [0, 0, size, size]]) + self.offset[:, None]
        return corners.min(axis=1), corners.max(axis=1)


def place(rgb: Image.Image, placement: Placement, spec: ExtractSpec, plain: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A view's pixels, uint8 (size, size, 3), from a picture of mode RGB and its plain view.

    Mirrors alone turn the plain view. A part of the picture is one antialiased resize. All else is two steps: an
    antialiased resize to near the view's scale, and then one bilinear warp with all the rest.
    """
    across, down = (-1 if mirrored else 1 for mirrored in placement.mirror)
    if placement == Placement(placement.mirror):
        return np.ascontiguousarray(plain[::down, ::across])
    picture, frame = _framed(rgb, spec)
    if placement == Placement(placement.mirror, crop=placement.crop):
        left, top, width, height = placement.crop
        start = frame[0] + left * frame[2], frame[1] + top * frame[3]
        box = (*start, start[0] + width * frame[2], start[1] + height * frame[3])
        resized = resize(picture, (spec.size, spec.size), FILTERS[spec.interpolation], _within(box, picture))
        return np.ascontiguousarray(np.asarray(resized)[::down, ::across])
    return _warp(picture, _affine(placement, frame, spec.size), spec)


def canvas_pixels(spec: ExtractSpec, long: int) -> int:
    """Pixels of the largest picture that is made on the way to the views of one with a long side of so many pixels."""
    # Its padded square, or, as it is resized across first, one of the view's width and its own height.
    return long**2 if spec.resize == "pad" and spec.n_views > 1 else spec.size * long


def _framed(rgb: Image.Image, spec: ExtractSpec) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """The picture, and left, top, width and height of what its plain view shows."""
    if spec.resize == "crop":
        left, top, right, bottom = center_square(rgb)
        return rgb, (left, top, right - left, bottom - top)
    if spec.resize == "pad" and rgb.width != rgb.height:
        side = max(rgb.size)
        canvas = Image.new("RGB", (side, side), mean_color(spec))
        canvas.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
        rgb = canvas
    return rgb, (0.0, 0.0, float(rgb.width), float(rgb.height))


def _within(box: tuple[float, float, float, float], picture: Image.Image) -> tuple[float, float, float, float]:
    """The box without what rounding put outside."""
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(right, picture.width), min(bottom, picture.height)


def _affine(placement: Placement, frame: tuple[float, float, float, float], size: int) -> _Affine:
    """From the view back to the picture: mirrored, shifted, turned in the picture's own proportions, then cropped."""
    sides = np.array(frame[2:])
    left, top, *shares = placement.crop
    angle = math.radians(placement.degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / placement.zoom
    linear = np.diag(shares) @ turn @ np.diag(sides)
    mirror = np.diag([-1.0 if mirrored else 1.0 for mirrored in placement.mirror])
    middle = np.array(frame[:2]) + sides * (np.array([left, top]) + np.array(shares) / 2)
    matrix = linear @ mirror / size
    return _Affine(matrix, middle - linear @ np.array(placement.shift) - matrix @ np.full(2, size / 2))


def _warp(picture: Image.Image, affine: _Affine, spec: ExtractSpec) -> NDArray[np.uint8]:
    """The picture at the view's scale, filled where the view looks beyond it, then warped."""
    scaled, affine = _to_scale(picture, affine, spec)
    low, high = affine.bounds(spec.size)
    before = np.maximum(0, np.ceil(MARGIN - low)).astype(int)
    after = np.maximum(0, np.ceil(high + MARGIN - scaled.size)).astype(int)
    if before.any() or after.any():
        scaled = _filled(scaled, before, after, spec)
    (a, b), (c, d) = affine.matrix.tolist()
    x, y = (affine.offset + before).tolist()
    resample = Image.Resampling.NEAREST if spec.interpolation == "nearest" else Image.Resampling.BILINEAR
    return np.array(scaled.transform((spec.size, spec.size), Image.Transform.AFFINE, (a, b, x, c, d, y), resample))


def _to_scale(picture: Image.Image, affine: _Affine, spec: ExtractSpec) -> tuple[Image.Image, _Affine]:
    """The part of the picture that the view needs, shrunk to `DENSITY` pixels for one of the view."""
    low, high = affine.bounds(spec.size)
    sides = np.array(picture.size)
    pitch = np.maximum(1, np.linalg.norm(affine.matrix, axis=1) / DENSITY)
    inside = (low >= MARGIN * pitch) & (high <= sides - MARGIN * pitch)
    # A side beyond which the view looks is taken whole: any of it may be mirrored there.
    start = np.where(inside, np.floor(low - MARGIN * pitch), 0)
    stop = np.where(inside, np.ceil(high + MARGIN * pitch), sides)
    columns, rows = np.maximum(1, np.round((stop - start) / pitch)).astype(int).tolist()
    box = (*start.tolist(), *stop.tolist())
    scaled = resize(picture, (columns, rows), FILTERS[spec.interpolation], box)
    factor = np.array([columns, rows]) / (stop - start)
    return scaled, _Affine(affine.matrix * factor[:, None], (affine.offset - start) * factor)


def _filled(picture: Image.Image, before: NDArray[np.int_], after: NDArray[np.int_], spec: ExtractSpec) -> Image.Image:
    """The picture with so many columns and rows before and after it."""
    if spec.fill == "constant":
        width, height = (before + picture.size + after).tolist()
        canvas = Image.new("RGB", (width, height), mean_color(spec))
        canvas.paste(picture, tuple(before.tolist()))
        return canvas
    widths = [(before[1], after[1]), (before[0], after[0]), (0, 0)]
    return Image.fromarray(
        np.pad(np.asarray(picture), widths, mode=cast(Literal["reflect", "symmetric", "edge"], spec.fill))
    )
