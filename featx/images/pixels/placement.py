"""Rotate, scale, shift, crop and mirror an image with one affine map, and fill the area outside the image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.pixels.preprocessing import FILTERS, Box, center_square, mean_color, resize
from featx.spec import ExtractSpec

OVERSAMPLING = 1.4
"""Number of pixels of the shrunk image for each pixel of the copy, along each axis. With a smaller number the bilinear
warp blurs; with a larger number it aliases. With this number the result was nearest to a warp at full resolution."""
MARGIN = 2
"""Width of the border around the visible area that interpolation also reads, in pixels."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
DIRECTIONS = ("left to right", "top to bottom")
Frame = tuple[float, float, float, float]
"""Left, top, width and height of the area that the plain copy shows, in pixels of the image."""


@dataclass(frozen=True)
class Placement:
    """The geometric changes in one augmented copy, relative to the frame.

    The frame is the area that the plain copy shows.

    Attributes
    ----------
    mirror : (bool, bool)
        Whether the image is mirrored left to right, and top to bottom.
    degrees : float
        Rotation of the image, counterclockwise.
    zoom : float
        Factor of the image's size. A factor above 1 enlarges the image.
    crop : (float, float, float, float)
        Left, top, width and height of the part that the copy shows, as fractions of the frame's sides.
    shift : (float, float)
        Shift of the image to the right and down, as fractions of the frame's sides.
    """

    mirror: tuple[bool, bool] = (False, False)
    degrees: float = 0.0
    zoom: float = 1.0
    crop: tuple[float, float, float, float] = WHOLE
    shift: tuple[float, float] = (0.0, 0.0)

    def changes(self) -> Iterator[str]:
        """Describe each change in words."""
        if any(self.mirror):
            yield f"mirrored {' and '.join(way for way, done in zip(DIRECTIONS, self.mirror, strict=True) if done)}"
        if self.crop != WHOLE:
            left, top, width, height = self.crop
            yield f"cropped to {width:.2f} × {height:.2f} at {left:.2f}, {top:.2f}"
        if self.zoom != 1:
            yield f"zoomed {self.zoom:.3g} times"
        if self.degrees:
            yield f"rotated {self.degrees:.3g}°"
        if any(self.shift):
            yield "shifted {:.2f}, {:.2f}".format(*self.shift)


PLAIN = Placement()


@dataclass(frozen=True)
class _Affine:
    """A map from a point of the copy to a point of the image, in pixels: ``matrix @ point + offset``.

    ``matrix`` has the shape (2, 2), and ``offset`` the shape (2,).
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def bounds(self, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the smallest and the largest coordinates of the area of the image that a copy shows.

        ``size`` is the side of the copy in pixels.
        """
        corners = self.matrix @ np.array([[0, size, 0, size], [0, 0, size, size]]) + self.offset[:, None]
        return corners.min(axis=1), corners.max(axis=1)


def apply_placement(
    rgb: Image.Image, placement: Placement, spec: ExtractSpec, plain: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Make one copy of an image, as a placement describes it.

    If the placement only mirrors, the plain copy is mirrored. If the placement only crops and mirrors, the cropped part
    of the image is resized with antialiasing. Otherwise the image is first resized with antialiasing to about the scale
    of the copy. Then one bilinear warp makes all changes.

    Parameters
    ----------
    rgb : PIL.Image.Image
        The whole image, of mode RGB.
    placement : Placement
        The changes.
    spec : ExtractSpec
        The fields ``size``, ``resize``, ``interpolation``, ``fill`` and ``preprocessing`` are used.
    plain : numpy.ndarray
        The plain copy of the image, uint8 (size, size, 3).

    Returns
    -------
    numpy.ndarray
        uint8 of shape (size, size, 3), C-contiguous.
    """
    across, down = (-1 if mirrored else 1 for mirrored in placement.mirror)
    if placement == Placement(placement.mirror):
        return np.ascontiguousarray(plain[::down, ::across])
    image, frame = _framed(rgb, spec)
    if placement == Placement(placement.mirror, crop=placement.crop):
        left, top, width, height = placement.crop
        start = frame[0] + left * frame[2], frame[1] + top * frame[3]
        box = (*start, start[0] + width * frame[2], start[1] + height * frame[3])
        resized = resize(image, (spec.size, spec.size), FILTERS[spec.interpolation], _clipped(box, image))
        return np.ascontiguousarray(np.asarray(resized)[::down, ::across])
    return _warp(image, _affine(placement, frame, spec.size), spec)


def canvas_pixels(spec: ExtractSpec, long_side: int) -> int:
    """Count the pixels of the largest intermediate image that preprocessing can make.

    ``long_side`` is the long side of the image.
    """
    # With padding, the largest intermediate image is the padded square. Otherwise it is the result of resizing across,
    # which is done first: as wide as the copy, and as high as the image.
    return long_side**2 if spec.resize == "pad" and spec.n_views > 1 else spec.size * long_side


def _framed(rgb: Image.Image, spec: ExtractSpec) -> tuple[Image.Image, Frame]:
    """Return the image and its frame; the image is padded to a square if the spec says so."""
    if spec.resize == "crop":
        left, top, right, bottom = center_square(rgb)
        return rgb, (left, top, right - left, bottom - top)
    if spec.resize == "pad" and rgb.width != rgb.height:
        side = max(rgb.size)
        canvas = Image.new("RGB", (side, side), mean_color(spec))
        canvas.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
        rgb = canvas
    return rgb, (0.0, 0.0, float(rgb.width), float(rgb.height))


def _clipped(box: Box, image: Image.Image) -> Box:
    """Clip a box to the image, because rounding may have moved an edge of the box outside."""
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(right, image.width), min(bottom, image.height)


def _affine(placement: Placement, frame: Frame, size: int) -> _Affine:
    """Compute the map from the copy to the image, which is the inverse of the placement."""
    # Rotate in pixels of the image, because the sides of the copy may have other proportions.
    sides = np.array(frame[2:])
    left, top, *shares = placement.crop
    angle = math.radians(placement.degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / placement.zoom
    linear = np.diag(shares) @ turn @ np.diag(sides)
    mirror = np.diag([-1.0 if mirrored else 1.0 for mirrored in placement.mirror])
    middle = np.array(frame[:2]) + sides * (np.array([left, top]) + np.array(shares) / 2)
    matrix = linear @ mirror / size
    return _Affine(matrix, middle - linear @ np.array(placement.shift) - matrix @ np.full(2, size / 2))


def _warp(image: Image.Image, affine: _Affine, spec: ExtractSpec) -> NDArray[np.uint8]:
    """Resize the image to about the scale of the copy, fill the area outside the image, and warp."""
    scaled, affine = _to_scale(image, affine, spec)
    low, high = affine.bounds(spec.size)
    before = np.maximum(0, np.ceil(MARGIN - low)).astype(int)
    after = np.maximum(0, np.ceil(high + MARGIN - scaled.size)).astype(int)
    if before.any() or after.any():
        scaled = _filled(scaled, before, after, spec)
    (a, b), (c, d) = affine.matrix.tolist()
    x, y = (affine.offset + before).tolist()
    resample = Image.Resampling.NEAREST if spec.interpolation == "nearest" else Image.Resampling.BILINEAR
    return np.array(scaled.transform((spec.size, spec.size), Image.Transform.AFFINE, (a, b, x, c, d, y), resample))


def _to_scale(image: Image.Image, affine: _Affine, spec: ExtractSpec) -> tuple[Image.Image, _Affine]:
    """Shrink the part of the image that the copy needs, and adapt the map to the result.

    The result has `OVERSAMPLING` pixels for each pixel of the copy along each axis.
    """
    low, high = affine.bounds(spec.size)
    sides = np.array(image.size)
    pitch = np.maximum(1, np.linalg.norm(affine.matrix, axis=1) / OVERSAMPLING)
    inside = (low >= MARGIN * pitch) & (high <= sides - MARGIN * pitch)
    # If the copy shows area outside the image along an axis, keep the whole side, because filling may mirror it.
    start = np.where(inside, np.floor(low - MARGIN * pitch), 0)
    stop = np.where(inside, np.ceil(high + MARGIN * pitch), sides)
    columns, rows = np.maximum(1, np.round((stop - start) / pitch)).astype(int).tolist()
    box = (*start.tolist(), *stop.tolist())
    scaled = resize(image, (columns, rows), FILTERS[spec.interpolation], box)
    factor = np.array([columns, rows]) / (stop - start)
    return scaled, _Affine(affine.matrix * factor[:, None], (affine.offset - start) * factor)


def _filled(image: Image.Image, before: NDArray[np.int_], after: NDArray[np.int_], spec: ExtractSpec) -> Image.Image:
    """Fill the area around the image by the fill mode of the spec.

    ``before`` has the number of columns to add at the left, and the number of rows to add at the top. ``after`` has the
    numbers for the right and the bottom.
    """
    if spec.fill == "constant":
        width, height = (before + image.size + after).tolist()
        canvas = Image.new("RGB", (width, height), mean_color(spec))
        canvas.paste(image, tuple(before.tolist()))
        return canvas
    widths = [(before[1], after[1]), (before[0], after[0]), (0, 0)]
    return Image.fromarray(
        np.pad(np.asarray(image), widths, mode=cast(Literal["reflect", "symmetric", "edge"], spec.fill))
    )
