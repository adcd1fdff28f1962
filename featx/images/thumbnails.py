"""Small copies of image files, for a person to look at."""

from pathlib import Path

from PIL import Image

from featx.images.decoding import decode

SIDE = 144
"""Pixels of a thumbnail's longer side."""


def thumbnail(path: Path) -> Image.Image:
    """A small copy of an image file, upright; ``ImageError`` or ``OSError`` if it cannot be read."""
    # Twice the side, so that a JPEG's coarse scales do not show.
    picture = decode(path.read_bytes(), side=2 * SIDE).image
    picture.thumbnail((SIDE, SIDE))
    return picture
