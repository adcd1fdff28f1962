"""Small copies of image files, for a person to look at."""

from pathlib import Path

from PIL import Image

from featx.images.decoding import decode
from featx.images.sources.listing import list_images

SIDE = 144
"""Pixels of a thumbnail's longer side."""


def thumbnail(root: Path, path: str) -> Image.Image:
    """A small copy of an image file below a root, upright; ``ImageError`` or ``OSError`` if it cannot be read."""
    # Twice the side, so that a JPEG's coarse scales do not show.
    picture = decode(list_images([path], root).read(0), side=2 * SIDE).image
    picture.thumbnail((SIDE, SIDE))
    return picture
