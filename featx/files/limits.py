"""Limits on the bytes that an untrusted file can make featx read; users can change them.

A limit is looked up in an environment variable at each use, so that it also holds in the threads and processes of a
run; ``featx --limit NAME=SIZE`` and `override_limits` set the variable. Limits on pixels are in `featx.images`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from featx.errors import SpecError

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(I?))?B?")


@dataclass(frozen=True)
class Limit:
    """A maximum number of bytes: its name on the command line, and the default."""

    name: str
    default: int

    @property
    def variable(self) -> str:
        """Name of the environment variable that changes the limit."""
        return f"FEATX_LIMIT_{self.name.replace('-', '_').upper()}"

    @property
    def bytes(self) -> int:
        """The current limit; ``SpecError`` if the variable is not a valid size."""
        text = os.environ.get(self.variable)
        return parse_size(text, self.variable) if text else self.default

    @property
    def remedy(self) -> str:
        """The end of an error message: how to raise the limit."""
        return f"raise the limit by featx --limit {self.name}=SIZE before the command, or by {self.variable}"


WEIGHTS = Limit("weights", 3 << 30)
"""A weights file, or an archive member with weights. A complete VGG16 with optimizer state has 1.6 GB."""
CHUNK = Limit("chunk", 1 << 20)
"""A compressed chunk of an HDF5 file. Deflate expands it at most 1,032 times, so to about 1 GB."""
DATASET = Limit("dataset", 1 << 28)
"""A dataset of an HDF5 file that is far larger than its stored bytes, as columns of padded strings can be."""
ROW_GROUP = Limit("row-group", 1 << 31)
"""A row group of a Parquet file."""
URL_IMAGE = Limit("url-image", 1_431_655_760)
"""An image behind a URL that does not tell its size: as many bytes as ``--max-pixels`` allows a file by default."""
SIDECAR = Limit("sidecar", 1 << 20)
"""A ``.cls`` or ``.json`` file beside an image in a tar."""
DECODE_TIMEOUT = "FEATX_DECODE_TIMEOUT"
"""Environment variable with the seconds after which the decoding of an image is stopped (``--decode-timeout``)."""
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header. It cannot be changed, because safetensors itself accepts no more."""
LIMITS = {limit.name: limit for limit in (WEIGHTS, CHUNK, DATASET, ROW_GROUP, URL_IMAGE, SIDECAR)}


def parse_size(text: str, whose: str) -> int:
    """Parse a size such as ``6GiB``, ``500 MB`` or ``1000000`` into bytes; ``whose`` names it in the ``SpecError``."""
    match = _SIZE.fullmatch(text.strip().upper())
    size = 0
    if match:
        number, prefix, binary = match.groups()
        size = int(Fraction(number) * (1024 if binary else 1000) ** (" KMGT".index(prefix or " ")))
    if not 1 <= size < 1 << 63:
        raise SpecError(
            f"{whose} must be a number of bytes from 1 to {(1 << 63) - 1:,}, such as 6GiB, 500MB or 1000000, "
            f"got {text!r}"
        )
    return size


@contextmanager
def override_limits(sizes: Mapping[str, int | str]) -> Iterator[None]:
    """Change limits within a ``with`` block, for the whole process and the processes that it starts.

    The environment belongs to the process, so different threads cannot have different limits.

    Parameters
    ----------
    sizes : mapping of str to int or str
        Bytes by limit name: ``{"weights": "6GiB"}``. The names are the keys of `LIMITS`.

    Raises
    ------
    SpecError
        If a name is unknown, or a size is invalid, here or in the environment.
    """
    if unknown := sorted(set(sizes) - set(LIMITS)):
        raise SpecError(f"a limit must be one of {', '.join(LIMITS)}, got {unknown[0]!r}")
    chosen = {LIMITS[name].variable: str(parse_size(str(size), f"limit {name}")) for name, size in sizes.items()}
    before = {variable: os.environ.get(variable, "") for variable in chosen}
    os.environ.update(chosen)
    try:
        check_limits()
        yield
    finally:
        os.environ.update(before)


def check_limits() -> None:
    """Raise ``SpecError`` if a limit's environment variable is not a valid size.

    Call this before reading files: an error while a file is read would be blamed on the file.
    """
    for limit in LIMITS.values():
        _ = limit.bytes


def limit_variables() -> dict[str, str]:
    """Return the environment variables of all limits, to pass them to another machine; ``""`` means the default."""
    names = [DECODE_TIMEOUT, *(limit.variable for limit in LIMITS.values())]
    return {name: os.environ.get(name, "") for name in names}
