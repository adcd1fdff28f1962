"""Load the colors of an image again from its file, to get the parts that Pillow drops."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.images.decoding.tiff import PLANES, SEPARATE, open_function
from featx.images.decoding.tiles import raw_mode, with_raw_mode

RELOADED = ("PNG", "TIFF")
"""Formats whose pixels can be loaded in another raw mode."""
PREMULTIPLIED, STRAIGHT = "RGBa", "RGBA"
GRAY_AND_ALPHA = "LA;16B"
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""For each byte order at the end of a raw mode (big-endian, little-endian, native), the opposite byte order."""


@dataclass(frozen=True)
class StoredColors:
    """How the colors of an image are stored in its file. Make it before Pillow loads the pixels.

    Attributes
    ----------
    format : str
        Pillow's name of the format; ``""`` if the pixels cannot be loaded in another raw mode.
    mode : str
        Pillow's raw mode of the pixels; ``""`` if the image has no colors, or is not from a file.
    file : BytesIO
        The file.
    """

    format: str = ""
    mode: str = ""
    file: BytesIO = field(default_factory=BytesIO)

    @classmethod
    def of(cls, image: Image.Image) -> "StoredColors":
        """Read how the colors of an opened image are stored."""
        tiles = getattr(image, "tile", ())
        if image.mode not in ("RGB", "RGBA") or not tiles:
            return cls()
        file, tags = getattr(image, "fp", None), getattr(image, "tag_v2", {})
        # If bands are stored separately and compressed, Pillow's decoder has its own raw modes.
        fixed = tiles[0][0] == "libtiff" and tags.get(PLANES) == SEPARATE
        if image.format not in RELOADED or not isinstance(file, BytesIO) or fixed:
            return cls(mode=raw_mode(tiles[0]))
        return cls(image.format, raw_mode(tiles[0]), file)

    @property
    def are_16_bit(self) -> bool:
        """Whether Pillow reduces the colors from 16 bits to 8 bits."""
        return ";16" in self.mode

    def without_zero_alpha(self, image: Image.Image) -> Image.Image:
        """Return the loaded image, with its own colors if alpha is 0 everywhere.

        If the colors of a file are multiplied by alpha, Pillow divides them by alpha, and makes them black where alpha
        is 0. If alpha is 0 everywhere, the file is loaded again, and Pillow is told that the colors are not multiplied.
        """
        if self.format and self.mode.startswith(PREMULTIPLIED) and image.getchannel("A").getextrema() == (0, 0):
            return self._reload(lambda mode: mode.replace(PREMULTIPLIED, STRAIGHT))
        return image

    def low_bytes(self, image: Image.Image) -> Sequence[NDArray[np.uint8]]:
        """Load the low bytes of 16-bit colors, as three arrays for red, green and blue, uint8 (height, width).

        Pillow keeps only the high bytes. So the file is loaded again, and Pillow is told that it has the opposite byte
        order. If this is not possible, the high bytes are returned instead, because a value is nearly 257 times its
        high byte.

        Parameters
        ----------
        image : PIL.Image.Image
            The loaded image.
        """
        if not self.format or self.mode.startswith(PREMULTIPLIED):
            return [np.asarray(image.getchannel(band)) for band in "RGB"]
        if self.mode == GRAY_AND_ALPHA:
            # The four bytes of a pixel are read as four bands: high and low byte of gray, high and low byte of
            # transparency.
            return [np.asarray(self._reload(lambda _: STRAIGHT).getchannel("G"))] * 3
        low = self._reload(lambda mode: mode[:-1] + OTHER_ORDER[mode[-1]])
        return [np.asarray(low.getchannel(band)) for band in "RGB"]

    def _reload(self, change: Callable[[str], str]) -> Image.Image:
        again = open_function(self.format)(BytesIO(self.file.getvalue()), "")
        again.tile = [with_raw_mode(tile, change(raw_mode(tile))) for tile in again.tile]
        again.load()
        return again
