"""Pictures side by side, for a person to look at, and the file that they are written to."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.atomic import replacing
from featx.errors import ImageError, SpecError

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


def save_picture(picture: Image.Image, path: str | Path, option: str) -> None:
    """Write a picture, whole or not at all, in the format that the name ends in.

    Parameters
    ----------
    picture : PIL.Image.Image
    path : path
    option : str
        What gave the path, for the message: ``--output of views``.

    Raises
    ------
    SpecError
        If Pillow writes no such format.
    ImageError
        If it cannot be written.
    """
    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise SpecError(f"{option} must end in a picture's suffix, such as .png, got {path.name!r}")
    try:
        with replacing(path) as temporary:
            picture.save(temporary, form)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from error
