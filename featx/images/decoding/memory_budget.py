"""What decoding one picture may cost, and how many large ones are decoded at a time.

A header says how large a picture claims to be, whatever the file holds, so it is weighed before anything is decoded:
a few hundred bytes can claim what takes gigabytes, or minutes.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from PIL import Image, ImageFile

from featx.errors import ImageError

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that is decoded unless told otherwise; Pillow's own limit."""
FILE_BYTES = 8
"""Bytes a pixel of the largest file: 16-bit RGB with transparency, not compressed."""
TIMES_SLOW, TIMES_JPEG2000, TIMES_WIDE = 16, 8, 4
"""What Pillow decodes in Python takes a second for a million pixels; JPEG 2000 takes 30 bytes for one."""
WIDE = frozenset({"F", "I"})
"""Modes whose values are rescaled, as numbers of up to 8 bytes."""
USUAL_SCANS = 16
"""Scans of a JPEG that cost no more than its pixels: an encoder writes ten. Each may cost a pass over all pixels."""


def check_file_size(size: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ``ImageError`` if a file of ``size`` bytes is larger than any picture of so many pixels."""
    if size > (limit := FILE_BYTES * max_pixels):
        raise ImageError(f"{size:,} bytes, more than the {limit:,} of a file of the pixels allowed (--max-pixels)")


def check_decoding_cost(image: ImageFile.ImageFile, data: bytes, max_pixels: int, canvas: int = 0) -> int:
    """How many plain pixels a picture costs as much as, with a canvas of so many that it is resized on.

    ``ImageError`` if decoding it costs more than ``max_pixels``, or its canvas more than that and than usual.
    """
    pixels, (times, why) = image.width * image.height, _weight(image, data)
    if pixels * times > max_pixels:
        heavy = f", each as costly as {times} ({why})," if times > 1 else ""
        size = f"{image.width} × {image.height} pixels"
        raise ImageError(f"{size}{heavy or ','} more than the {max_pixels} allowed (--max-pixels)")
    # A user who allows small pictures alone does not mean the canvas, which may be larger than they are.
    if canvas > (most := max(max_pixels, MAX_PIXELS)):
        raise ImageError(f"{image.width} × {image.height} pixels, resized on a canvas of {canvas}, more than the "
                         f"{most} allowed (--max-pixels)")  # fmt: skip
    return pixels * times + canvas


def _weight(image: ImageFile.ImageFile, data: bytes) -> tuple[int, str]:
    """As how many plain pixels one of these counts, and why."""
    name = str(image.format)
    # The decoders that Pillow keeps here are those written in Python.
    if any(tile[0] in Image.DECODERS for tile in image.tile):
        return TIMES_SLOW, f"this kind of {name} is decoded slowly"
    if name == "JPEG2000":
        return TIMES_JPEG2000, f"{name} takes much memory"
    if name in ("JPEG", "MPO") and (scans := data.count(b"\xff\xda")) > USUAL_SCANS:
        return -(-scans // USUAL_SCANS), f"in {scans} scans"
    return (TIMES_WIDE, f"of mode {image.mode}") if image.mode in WIDE else (1, "")


class Budget(Protocol):
    """What decoding asks before a picture takes its memory."""

    def acquire(self, pixels: int) -> AbstractContextManager[None]:
        """Wait for room for a picture, and keep it within the block."""


class PixelBudget:
    """Pictures that are decoded at a time have together so many pixels at most; a larger one is alone."""

    def __init__(self, pixels: int) -> None:
        self._most, self._free = pixels, pixels
        self._changed = threading.Condition()

    @contextmanager
    def acquire(self, pixels: int) -> Iterator[None]:
        """Wait for room for a picture, and keep it within the block."""
        taken = min(pixels, self._most)
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
"""That of this process."""
