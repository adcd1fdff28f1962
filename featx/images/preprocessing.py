"""From an RGB picture to the size × size pixels that a trunk sees."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.colors import to_rgb
from featx.spec import PREPROCESSINGS, ExtractSpec

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepare(image: Image.Image, spec: ExtractSpec) -> NDArray[np.uint8]:
    """Resize an image as the spec says; filters are antialiased when they shrink.

    ``squash`` resizes both sides, whatever the proportions; ``crop`` makes the short side fit and keeps the
    center; ``pad`` makes the long side fit and fills the rest with the preprocessing's mean color, which the
    trunk sees as zero.

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
    if spec.resize == "crop":
        resized = rgb.resize((size, size), resample, box=center_square(rgb))
    elif spec.resize == "pad":
        resized = _padded(rgb, spec)
    else:
        resized = rgb.resize((size, size), resample)
    return np.array(resized)


def center_square(image: Image.Image) -> tuple[float, float, float, float]:
    """The largest centered square, as left, top, right and bottom in pixels."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def mean_color(spec: ExtractSpec) -> tuple[int, int, int]:
    """The color that the trunk sees as zero, or as near as whole numbers are."""
    red, green, blue = (round(value) for value in PREPROCESSINGS[spec.preprocessing].mean)
    return red, green, blue


def _padded(image: Image.Image, spec: ExtractSpec) -> Image.Image:
    scale = spec.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (spec.size, spec.size), mean_color(spec))
    inner = image.resize((width, height), FILTERS[spec.interpolation])
    canvas.paste(inner, ((spec.size - width) // 2, (spec.size - height) // 2))
    return canvas
