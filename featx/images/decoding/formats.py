"""The image formats that Pillow opens here, and the file suffixes that name them."""

from functools import cache

from PIL import Image

NOT_IMAGES = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats that Pillow knows but that hold no raster picture of their own: pages and drawings that need another
program, videos, and containers that Pillow only names."""


def image_formats() -> list[str]:
    """Names of the formats in the order to try them, which does not depend on what was imported before.

    Formats without a signature come last, since they take almost anything. A plugin that a program registers
    later, for HEIF say, is among them.
    """
    Image.init()
    return sorted(Image.OPEN.keys() - NOT_IMAGES, key=lambda name: (Image.OPEN[name][1] is None, name))


@cache
def image_suffixes() -> frozenset[str]:
    """Lower-case file suffixes, dot included, of the formats that can be opened."""
    # An MPO file is opened as the JPEG that it begins with, so Pillow lists no opener for it.
    openable = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in openable)


def suffix_of(name: str) -> str:
    """The lower-case suffix of a file name, dot included, or ``""``."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""
