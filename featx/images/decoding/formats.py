"""The image formats that this Pillow can open, and their file suffixes."""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from PIL import Image

NOT_IMAGES = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats of Pillow that featx does not open: pages and drawings that need another program, videos, and containers
without pixels of their own."""
SIGNATURE_BYTES = 16
"""Number of bytes at the start of a file that Pillow needs to recognize its format."""
HEIF_PACKAGE = "pillow_heif"
Plugin = dict[str, Any]
"""A format that another package has registered, as values that JSON can hold: its name, suffixes, and the modules and
names of its two functions."""


def image_formats() -> list[str]:
    """List the names of the formats in the order in which they are tried.

    The order is always the same, whatever was imported before. Formats without a signature come last, because they
    accept almost any bytes. The list includes plugins that a program has registered, and pillow-heif if it is
    installed.
    """
    _load_plugins()
    return sorted(Image.OPEN.keys() - NOT_IMAGES, key=lambda name: (Image.OPEN[name][1] is None, name))


def image_suffixes() -> frozenset[str]:
    """Collect the file suffixes of all formats in `image_formats`, in lower case and with their dot.

    A program may register plugins at any time, so do not keep the result for longer than one listing.
    """
    formats = image_formats()
    return _openable_suffixes(tuple(formats), tuple(Image.registered_extensions().items()))


@lru_cache(4)
def _openable_suffixes(formats: tuple[str, ...], extensions: tuple[tuple[str, str], ...]) -> frozenset[str]:
    # Pillow cannot open MPO directly. An MPO file begins with a JPEG, and Pillow opens it as a JPEG.
    openable = {*formats, "MPO"}
    return frozenset(suffix.lower() for suffix, name in extensions if name in openable)


@cache
def _load_plugins() -> None:
    """Load Pillow's own formats, and register pillow-heif if it is installed."""
    Image.init()
    with suppress(ImportError):
        import_module(HEIF_PACKAGE).register_heif_opener()


def accepts(name: str, data: bytes) -> bool | str:
    """Return whether a file has the signature of a format, or a string that says why this Pillow cannot open the
    format.

    Formats without a signature accept any file.
    """
    accept = Image.OPEN[name][1]
    try:
        return accept is None or accept(data[:SIGNATURE_BYTES])
    except (IndexError, struct.error):
        # The file is shorter than the signature.
        return False


def has_image_signature(data: bytes) -> bool:
    """Return whether a file is an image by its first `SIGNATURE_BYTES` bytes."""
    return any(Image.OPEN[name][1] and accepts(name, data) is True for name in image_formats())


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case and with its dot; ``""`` if the name has no suffix."""
    # pathlib is not used, because it would take most of the time of listing millions of files.
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def registered_plugins() -> list[Plugin]:
    """Describe the formats that other packages have registered, so that another process can register them too."""
    plugins = []
    for name in image_formats():
        factory, accept = Image.OPEN[name]
        if not _address(factory)[0].startswith("PIL."):
            suffixes = [suffix for suffix, other in Image.EXTENSION.items() if other == name]
            functions = {"factory": _address(factory), "accept": accept and _address(accept)}
            plugins.append({"format": name, "suffixes": suffixes, **functions})
    return plugins


def register_plugins(plugins: Iterable[Plugin]) -> list[str]:
    """Register the formats that `registered_plugins` described in another process.

    Returns
    -------
    list of str
        The formats that could not be registered, because their modules cannot be imported here.
    """
    _load_plugins()
    missing = []
    for plugin in plugins:
        name, factory = plugin["format"], tuple(plugin["factory"])
        try:
            # Most plugins register themselves when they are imported.
            import_module(factory[0])
            if name not in Image.OPEN or _address(Image.OPEN[name][0]) != factory:
                Image.register_open(name, _find(factory), plugin["accept"] and _find(plugin["accept"]))
                Image.register_extensions(name, plugin["suffixes"])
        except (ImportError, AttributeError, ValueError):
            missing.append(name)
    return missing


def _address(function: Any) -> tuple[str, str]:
    """Return the module and the name by which another process can find a function or class."""
    return str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", ""))


def _find(address: Sequence[str]) -> Any:
    found: Any = import_module(address[0])
    for name in address[1].split("."):
        found = getattr(found, name)
    return found
