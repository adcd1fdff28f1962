"""Pictures side by side, for a person to look at, and the file that they are written to."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError, SpecError
from featx.files import atomic_write

GAP = 4
"""White pixels around each picture."""


def arrange(pictures: Sequence[NDArray[np.uint8]], columns: int | None = None) -> Image.Image:
    """Pictures of one shape, uint8 (height, width, 3), row by row on white; by default as many rows as columns."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    down, across = (side + GAP for side in pictures[0].shape[:2])
    size = columns * across + GAP, math.ceil(len(pictures) / columns) * down + GAP
    sheet = Image.new("RGB", size, (255, 255, 255))
    for index, pixels in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(pixels), (GAP + column * across, GAP + row * down))
    return sheet


def picture_format(path: str | Path, option: str) -> str:
    """The format that a picture's name ends in, to be asked for before anything that takes long.

    Parameters
    ----------
    path : path
    option : str
        What gave the path, for the message: ``--output of views``.

    Raises
    ------
    SpecError
        If Pillow writes no such format.
    """
    form = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    if form not in Image.SAVE:
        raise SpecError(f"{option} must end in a picture's suffix, such as .png, got {Path(path).name!r}")
    return form


def save_picture(picture: Image.Image, path: str | Path, option: str) -> None:
    """Write a picture, whole or not at all; ``ImageError`` if that fails, other errors as `picture_format`."""
    form = picture_format(path, option)
    with atomic_write(Path(path), ImageError) as temporary:
        picture.save(temporary, form)
