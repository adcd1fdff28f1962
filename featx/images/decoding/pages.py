"""Find out whether an image file has several pages or frames. featx decodes only the first one."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from PIL import Image

ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "HEIF", "FLI", "DCX")
"""Formats other than TIFF whose further frames count as images. The further frames of MPO and PSD do not count."""
SUBFILE_TYPE, OLD_SUBFILE_TYPE = 254, 255
REDUCED, MASK = 1, 4
"""Bits of `SUBFILE_TYPE`. They mean a smaller version of another image, and a mask."""
OLD_REDUCED = 2
"""Value of `OLD_SUBFILE_TYPE` for a smaller version of another image."""
MOST_DIRECTORIES = 64
"""Number of further directories of a TIFF that are looked at. A pyramid of smaller versions has fewer."""


def has_several_pages(image: Image.Image) -> bool:
    """Return whether a file that Pillow has opened has several pages, or frames of an animation.

    Smaller versions of an image and masks in the same TIFF do not count.
    """
    if image.format == "TIFF":
        file = getattr(image, "fp", None)
        if file is None or not getattr(image, "is_animated", False):
            return False
        position = file.tell()
        try:
            return any(_is_page(tags) for tags in _further_directories(file))
        except (OSError, ValueError, struct.error):
            return False
        finally:
            file.seek(position)
    with suppress(Exception):  # A damaged second frame may raise an error of any class.
        return image.format in ANIMATED and bool(getattr(image, "is_animated", False))
    return False


def _is_page(tags: dict[int, int]) -> bool:
    if tags.get(OLD_SUBFILE_TYPE) == OLD_REDUCED:
        return False
    return not tags.get(SUBFILE_TYPE, 0) & (REDUCED | MASK)


def _further_directories(file: BinaryIO) -> Iterator[dict[int, int]]:
    """Yield the two tags of each directory of a TIFF file after the first one."""
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", header, 2) == (43,)
    count, offset, size, value = ("Q", "Q", 20, 12) if is_big else ("H", "I", 12, 8)
    place = struct.unpack_from(order + offset, header, 8 if is_big else 4)[0]
    seen = set[int]()
    while place and place not in seen and len(seen) <= MOST_DIRECTORIES:
        seen.add(place)
        file.seek(place)
        entries = struct.unpack(order + count, file.read(struct.calcsize(count)))[0]
        data = file.read(entries * size + struct.calcsize(offset))
        tags = dict[int, int]()
        for at in range(0, entries * size, size):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in (SUBFILE_TYPE, OLD_SUBFILE_TYPE):
                tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + value)[0]
        if len(seen) > 1:
            yield tags
        place = struct.unpack_from(order + offset, data, entries * size)[0]
