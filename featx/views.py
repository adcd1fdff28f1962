"""Views: a contact sheet of what an augmentation makes of one image, so that a person can see it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featx.atomic import replacing
from featx.augment import parse_augment
from featx.errors import ImageError, SpecError
from featx.images import MAX_PIXELS
from featx.images.loading import load_image
from featx.images.views import View, draw_view
from featx.spec import ExtractSpec

GAP = 4
"""White pixels around each view."""


@dataclass(frozen=True)
class Sheet:
    """The views of an image side by side, row by row in their order, and what each of them does."""

    picture: Image.Image
    views: tuple[View, ...]

    def save(self, path: str | Path) -> None:
        """Write the picture, whole or not at all, in the format that the name ends in.

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
            raise SpecError(f"--output of views must end in a picture's suffix, such as .png, got {path.name!r}")
        try:
            with replacing(path) as temporary:
                self.picture.save(temporary, form)
        except OSError as error:
            raise ImageError(f"{path} cannot be written: {error.strerror or error}") from error


def draw_sheet(path: str | Path, spec: ExtractSpec, max_pixels: int = MAX_PIXELS) -> Sheet:
    """Draw the views that `featx.extract.extract` would make of an image file, view 0 first, which is the plain one.

    Parameters
    ----------
    path : path
        The image's file.
    spec : ExtractSpec
        How pictures are prepared, and which views are made.
    max_pixels : int
        The most pixels that the image may have.

    Raises
    ------
    ImageError
        If the image cannot be read.
    """
    path = Path(path)
    loaded = load_image(path.name, path.parent, spec, max_pixels)
    if loaded.pixels is None:
        raise ImageError(f"{path}: {loaded.reason}")
    augment = parse_augment(spec.augment)
    views = tuple(draw_view(augment, spec.view_seed, loaded.digest, index) for index in range(spec.views))
    return Sheet(_arrange(loaded.views), views)


def _arrange(views: Sequence[np.ndarray]) -> Image.Image:
    columns = math.ceil(math.sqrt(len(views)))
    step = views[0].shape[0] + GAP
    size = columns * step + GAP, math.ceil(len(views) / columns) * step + GAP
    sheet = Image.new("RGB", size, (255, 255, 255))
    for index, pixels in enumerate(views):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(pixels), (GAP + column * step, GAP + row * step))
    return sheet
