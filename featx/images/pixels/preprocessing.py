"""From an RGB picture to the size × size pixels that a backbone sees."""

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


def preprocess(image: Image.Image, spec: ExtractSpec, antialias: bool = True) -> NDArray[np.uint8]:
    """Resize an image as the spec says; filters are antialiased when they shrink.

    ``squash`` resizes both sides, whatever the proportions; ``crop`` makes the short side fit and keeps the
    center; ``pad`` makes the long side fit and fills the rest with the preprocessing's mean color, which the
    backbone sees as zero. Without ``antialias`` pixels are looked up between four neighbors, whatever the filter, as
    OpenCV and torch do unless told otherwise: what `featx.audit` compares with.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (size, size, 3), C-contiguous and writable.

    Raises
    ------
    ImageError
        If the image has no pixels.
    """
    rgb, size, resample = to_rgb(image), spec.size, FILTERS[spec.interpolation]
    change = resize if antialias else resize_without_antialiasing
    if spec.resize == "crop":
        resized = change(rgb, (size, size), resample, center_square(rgb))
    elif spec.resize == "pad":
        resized = _padded(rgb, spec, change)
    else:
        resized = change(rgb, (size, size), resample)
    return np.array(resized)


Box = tuple[float, float, float, float]


def resize(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling, box: Box | None = None
) -> Image.Image:
    """Resize to (width, height) what lies in a box: left, top, right, bottom in pixels.

    Across first, then down. Pillow, left to itself, takes another order for tall pictures since version 13, and bytes
    are rounded in between: features would depend on its version.
    """
    width, height = size
    left, top, right, bottom = box or (0, 0, *image.size)
    across = image.resize((width, image.height), resample, box=(left, 0, right, image.height))
    return across.resize((width, height), resample, box=(0, top, width, bottom))


def resize_without_antialiasing(
    image: Image.Image, size: tuple[int, int], _resample: Image.Resampling, box: Box | None = None
) -> Image.Image:
    """As `resize`, but bilinear always and not antialiased: fine patterns of a shrinking picture become coarse."""
    return image.transform(size, Image.Transform.EXTENT, box or (0, 0, *image.size), Image.Resampling.BILINEAR)


def center_square(image: Image.Image) -> Box:
    """The largest centered square, as left, top, right and bottom in pixels."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def mean_color(spec: ExtractSpec) -> tuple[int, int, int]:
    """The color that the backbone sees as zero, or as near as whole numbers are."""
    red, green, blue = (round(value) for value in PREPROCESSINGS[spec.preprocessing].mean)
    return red, green, blue


def _padded(image: Image.Image, spec: ExtractSpec, change: Callable[..., Image.Image]) -> Image.Image:
    scale = spec.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (spec.size, spec.size), mean_color(spec))
    inner = change(image, (width, height), FILTERS[spec.interpolation])
    canvas.paste(inner, ((spec.size - width) // 2, (spec.size - height) // 2))
    return canvas
