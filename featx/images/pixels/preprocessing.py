"""Resize an RGB image to the square that a backbone takes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.backbones import PREPROCESSINGS
from featx.images.pixels.colors import to_rgb
from featx.spec import ExtractSpec

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle, in pixels of the image."""


def preprocess(image: Image.Image, spec: ExtractSpec, antialias: bool = True) -> NDArray[np.uint8]:
    """Resize an image as ``spec.resize`` and ``spec.interpolation`` say.

    ``squash`` resizes both sides to ``spec.size`` and ignores the proportions. ``crop`` resizes the short side to
    ``spec.size`` and keeps the center. ``pad`` resizes the long side to ``spec.size`` and fills the rest with the mean
    color of the preprocessing, which the backbone sees as zero.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of any mode.
    spec : ExtractSpec
        The fields ``size``, ``resize``, ``interpolation``, ``range`` and ``preprocessing`` are used.
    antialias : bool
        Average over the source pixels when an image shrinks. If False, ``spec.interpolation`` is ignored: values are
        interpolated between four neighbors, as OpenCV and torch do by default. `featx.audit` compares both.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (size, size, 3), C-contiguous and writable.

    Raises
    ------
    ImageError
        If the image has no pixels, or if it is unknown which of its values are black and white.
    """
    rgb, size, resample = to_rgb(image, spec.value_range), spec.size, FILTERS[spec.interpolation]
    change = resize if antialias else resize_without_antialiasing
    if spec.resize == "crop":
        resized = change(rgb, (size, size), resample, center_square(rgb))
    elif spec.resize == "pad":
        resized = _padded(rgb, spec, change)
    else:
        resized = change(rgb, (size, size), resample)
    return np.array(resized)


def resize(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling, box: Box | None = None
) -> Image.Image:
    """Resize a box of an image, by default the whole image, to ``size``, which is (width, height).

    The image is resized first across, then down. These are two calls, because in one call Pillow would choose the order
    of the two steps. Values are rounded between the steps, and Pillow 13 chooses another order than earlier versions.
    So features would depend on the version of Pillow.
    """
    width, height = size
    left, top, right, bottom = box or (0, 0, *image.size)
    across = image.resize((width, image.height), resample, box=(left, 0, right, image.height))
    return across.resize((width, height), resample, box=(0, top, width, bottom))


def resize_without_antialiasing(
    image: Image.Image, size: tuple[int, int], _resample: Image.Resampling, box: Box | None = None
) -> Image.Image:
    """Resize like `resize`, but always bilinearly and without antialiasing, so that fine patterns are aliased."""
    return image.transform(size, Image.Transform.EXTENT, box or (0, 0, *image.size), Image.Resampling.BILINEAR)


def center_square(image: Image.Image) -> Box:
    """Compute the largest centered square of an image."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def mean_color(spec: ExtractSpec) -> tuple[int, int, int]:
    """Return the color that the backbone sees as zero, rounded to integers."""
    red, green, blue = (round(value) for value in PREPROCESSINGS[spec.preprocessing].mean)
    return red, green, blue


def _padded(image: Image.Image, spec: ExtractSpec, change: Callable[..., Image.Image]) -> Image.Image:
    scale = spec.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (spec.size, spec.size), mean_color(spec))
    inner = change(image, (width, height), FILTERS[spec.interpolation])
    canvas.paste(inner, ((spec.size - width) // 2, (spec.size - height) // 2))
    return canvas
