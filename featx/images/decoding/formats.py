"""The image formats that this Pillow can open, and their file suffixes."""

from functools import cache

from PIL import Image

NOT_IMAGES = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats that Pillow knows but that featx does not open: pages and drawings that need another program, videos, and
containers that have no pixels themselves."""


def image_formats() -> list[str]:
    """List the names of the formats in the order in which they are tried.

    The order is always the same, whatever was imported before. Formats without a signature come last, because they
    accept almost any bytes. The list includes plugins that a program has registered, for example for HEIF.
    """
    Image.init()
    return sorted(Image.OPEN.keys() - NOT_IMAGES, key=lambda name: (Image.OPEN[name][1] is None, name))


@cache
def image_suffixes() -> frozenset[str]:
    """Collect the file suffixes of all formats in `image_formats`, in lower case and with their dot."""
    # Pillow cannot open MPO directly. An MPO file begins with a JPEG, and Pillow opens it as a JPEG.
    openable = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in openable)


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case and with its dot; ``""`` if the name has no suffix."""
    # pathlib is not used: for millions of files it would take most of the time of a listing.
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""
