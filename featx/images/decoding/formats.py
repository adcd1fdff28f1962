"""The image formats that this Pillow can open, and their file suffixes."""

from functools import cache

from PIL import Image

NOT_IMAGES = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats that Pillow knows but that are not opened: pages and drawings that need another program, videos, and
containers without pixels of their own."""


def image_formats() -> list[str]:
    """List the names of the formats in a fixed order, in which they are tried.

    The order does not depend on earlier imports. Formats without a signature come last, because they accept almost any
    bytes. Plugins that a program has registered, for example for HEIF, are included.
    """
    Image.init()
    return sorted(Image.OPEN.keys() - NOT_IMAGES, key=lambda name: (Image.OPEN[name][1] is None, name))


@cache
def image_suffixes() -> frozenset[str]:
    """Collect the file suffixes of these formats, in lower case and with their dot."""
    # Pillow has no opener for MPO: an MPO file begins with a JPEG and is opened as one.
    openable = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in openable)


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case and with its dot, or ``""``."""
    # pathlib would take most of the time of listing millions of files.
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""
