"""Put images side by side on a contact sheet, and write it to a file."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError, SpecError
from featx.files import atomic_write

GAP = 4
"""White pixels between two images of a sheet, and at its edges."""


def arrange_images(images: Sequence[NDArray[np.uint8]], columns: int | None = None) -> Image.Image:
    """Arrange images of one shape in rows on a white sheet.

    Parameters
    ----------
    images : sequence of uint8 arrays (height, width, 3)
    columns : int, optional
        Number of images per row. By default there are about as many columns as rows.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    height, width = (side + GAP for side in images[0].shape[:2])
    size = columns * width + GAP, math.ceil(len(images) / columns) * height + GAP
    sheet = Image.new("RGB", size, (255, 255, 255))
    for index, pixels in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(pixels), (GAP + column * width, GAP + row * height))
    return sheet


def image_format(path: str | Path, option: str) -> str:
    """Find the image format for the suffix of a path, and return Pillow's name of this format.

    Call this before a long computation, so that a wrong suffix raises its error early.

    Parameters
    ----------
    path : path
    option : str
        The option that the path comes from, such as ``--output of preview``. The error message names it.

    Raises
    ------
    SpecError
        If Pillow cannot write a format of that suffix.
    """
    name = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    if name not in Image.SAVE:
        raise SpecError(f"{option} must end in the suffix of an image format, such as .png, got {Path(path).name!r}")
    return name


def save_image(image: Image.Image, path: str | Path, option: str) -> None:
    """Write an image file, completely or not at all.

    Parameters are those of `image_format`.

    Raises
    ------
    SpecError
        If Pillow cannot write a format of that suffix.
    ImageError
        If the file cannot be written.
    """
    name = image_format(path, option)
    with atomic_write(Path(path), ImageError) as temporary:
        image.save(temporary, name)
