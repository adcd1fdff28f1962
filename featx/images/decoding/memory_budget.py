"""Limit the memory and time of decoding, for each image and for all images that are decoded at the same time.

A file of a few hundred bytes can claim to be an image of gigabytes. So the cost of an image is estimated from its
header before anything is decoded. The unit of cost is a "plain pixel": the cost of one pixel of an 8-bit image.
"""

import re
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from PIL import Image, ImageFile

from featx.errors import ImageError

MAX_PIXELS = 178_956_970
"""Default limit on the pixels of an image. Pillow has the same limit."""
FILE_BYTES_PER_PIXEL = 8
"""Largest number of bytes per pixel in an uncompressed file: 16-bit RGB with transparency has this many."""
COST_PYTHON_DECODER = 16
"""Cost of a pixel, in plain pixels, if Pillow's decoder is written in Python. Such a decoder takes a second per million
pixels."""
COST_JPEG2000 = 8
"""Cost of a pixel of a JPEG 2000, in plain pixels. The decoder takes 30 bytes per pixel."""
COST_WIDE_MODE = 4
"""Cost of a pixel of the `WIDE_MODES`, in plain pixels. Such pixels are converted to numbers of up to 8 bytes."""
WIDE_MODES = frozenset({"F", "I"})
FREE_JPEG_SCANS = 16
"""Number of scans that a JPEG may have at no extra cost. Encoders write about ten scans. Each scan may need a pass over
all pixels."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker of a JPEG, except the markers that restart the decoder within a scan."""
SOI, EOI, SOS, TEM = 0xD8, 0xD9, 0xDA, 0x01


def check_file_size(size: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ``ImageError`` if a file has more bytes than any image of ``max_pixels`` needs."""
    if size > (limit := FILE_BYTES_PER_PIXEL * max_pixels):
        raise ImageError(
            f"{size:,} bytes, more than the {limit:,} that a file with the allowed pixels can have (--max-pixels)"
        )


def check_decoding_cost(image: ImageFile.ImageFile, data: bytes, max_pixels: int, canvas: int = 0) -> int:
    """Estimate the cost of decoding an image, in plain pixels. Refuse an image that costs too much.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
        The opened image, not yet decoded.
    data : bytes
        The whole file.
    max_pixels : int
        Limit on the cost of decoding.
    canvas : int
        Pixels of the largest intermediate image of preprocessing.

    Returns
    -------
    int
        The cost of decoding plus the pixels of ``canvas``.

    Raises
    ------
    ImageError
        If decoding costs more than ``max_pixels``, or if ``canvas`` is above both ``max_pixels`` and `MAX_PIXELS`.
    """
    pixels, (factor, why) = image.width * image.height, _cost_per_pixel(image, data)
    if pixels * factor > max_pixels:
        heavy = f", each as costly as {factor} ({why})," if factor > 1 else ""
        size = f"{image.width} × {image.height} pixels"
        raise ImageError(f"{size}{heavy or ','} more than the {max_pixels} allowed (--max-pixels)")
    # Users set a small limit for the images. The canvas may be larger than an image, so its limit is at least the
    # default.
    if canvas > (limit := max(max_pixels, MAX_PIXELS)):
        raise ImageError(
            f"{image.width} × {image.height} pixels, resized on a canvas of {canvas}, more than the {limit} allowed "
            "(--max-pixels)"
        )
    return pixels * factor + canvas


def _cost_per_pixel(image: ImageFile.ImageFile, data: bytes) -> tuple[int, str]:
    """Return how many plain pixels each pixel costs, and why."""
    name = str(image.format)
    # Image.DECODERS holds only the decoders that are written in Python.
    if any(tile[0] in Image.DECODERS for tile in image.tile):
        return COST_PYTHON_DECODER, f"this kind of {name} is decoded slowly"
    if name == "JPEG2000":
        return COST_JPEG2000, f"{name} takes much memory"
    if name in ("JPEG", "MPO") and (scans := count_scans(data)) > FREE_JPEG_SCANS:
        return -(-scans // FREE_JPEG_SCANS), f"in {scans} scans"
    return (COST_WIDE_MODE, f"of mode {image.mode}") if image.mode in WIDE_MODES else (1, "")


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG, up to the end of its image.

    Thumbnails, and data that programs put behind the end of the image, may also contain the bytes of a scan's marker.
    If there are at most `FREE_JPEG_SCANS` such bytes in the file, all of them are counted, which is faster.
    """
    if (most := data.count(b"\xff\xda")) <= FREE_JPEG_SCANS:
        return most
    scans, position = 0, 0
    while (found := _MARKER.search(data, position)) and (marker := data[found.end() - 1]) != EOI:
        position = found.end()
        if marker in (SOI, TEM):
            continue
        if len(data) < position + 2:
            break
        scans += marker == SOS
        position += max(2, struct.unpack_from(">H", data, position)[0])
    return scans


class Budget(Protocol):
    """A limit on the images that are decoded at the same time."""

    def acquire(self, pixels: int) -> AbstractContextManager[None]:
        """Wait until ``pixels`` plain pixels are free, and take them until the ``with`` block ends."""


class PixelBudget:
    """A limit on the plain pixels that the threads of this process decode at the same time.

    An image that costs more than the whole budget is decoded alone.
    """

    def __init__(self, pixels: int) -> None:
        self._total, self._free = pixels, pixels
        self._changed = threading.Condition()

    @contextmanager
    def acquire(self, pixels: int) -> Iterator[None]:
        """Wait until ``pixels`` plain pixels are free, and take them until the ``with`` block ends."""
        taken = min(pixels, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


pixel_budget = PixelBudget(MAX_PIXELS)
"""The budget of this process."""
