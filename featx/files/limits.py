"""Limit how many bytes an untrusted file can make featx read. Users can change these limits.

Each time a limit is needed, it is read from an environment variable. So it also applies to the threads and processes of
a run. ``featx --limit NAME=SIZE`` and `override_limits` set the variable. Limits on pixels are in `featx.images`.
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
    """A maximum number of bytes, which users can change.

    ``name`` is the name of the limit on the command line, and ``default`` is the number of bytes by default.
    """

    name: str
    default: int

    @property
    def variable(self) -> str:
        """The name of the environment variable that changes the limit."""
        return f"FEATX_LIMIT_{self.name.replace('-', '_').upper()}"

    @property
    def bytes(self) -> int:
        """The current limit; ``SpecError`` is raised if the environment variable is not a valid size."""
        text = os.environ.get(self.variable)
        return parse_size(text, self.variable) if text else self.default

    @property
    def remedy(self) -> str:
        """The end of an error message, which says how to raise the limit."""
        return f"raise the limit by featx --limit {self.name}=SIZE before the command, or by {self.variable}"


WEIGHTS = Limit("weights", 3 << 30)
"""Limit on a weights file, or on an archive member with weights. A complete VGG16 with optimizer state has 1.6 GB."""
CHUNK = Limit("chunk", 1 << 20)
"""Limit on a compressed chunk of an HDF5 file. Deflate expands it by at most a factor of 1,032, to about 1 GB."""
DATASET = Limit("dataset", 1 << 28)
"""Limit on an HDF5 dataset that is far larger than its stored bytes, as columns of padded strings can be."""
ROW_GROUP = Limit("row-group", 1 << 31)
"""Limit on a row group of a Parquet file."""
URL_IMAGE = Limit("url-image", 1_431_655_760)
"""Limit on an image from a URL. Its size is not known before it is read. The default is the same number of
bytes that the default of ``--max-pixels`` allows for a file."""
SIDECAR = Limit("sidecar", 1 << 20)
"""Limit on a ``.cls`` or ``.json`` file that belongs to an image in a tar file."""
DECODE_TIMEOUT = "FEATX_DECODE_TIMEOUT"
"""The environment variable for ``--decode-timeout``: the seconds after which the decoding of an image is stopped."""
MAX_HEADER = 100_000_000
"""Limit on the header of a safetensors file, in bytes. Users cannot change it: safetensors itself has this limit."""
LIMITS = {limit.name: limit for limit in (WEIGHTS, CHUNK, DATASET, ROW_GROUP, URL_IMAGE, SIDECAR)}


def parse_size(text: str, whose: str) -> int:
    """Convert a size such as ``6GiB``, ``500 MB`` or ``1000000`` to a number of bytes.

    If the size is not valid, ``SpecError`` is raised. ``whose`` is what the error message calls the size.
    """
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
    """Change limits until the ``with`` block ends, for the whole process and the processes that it starts.

    The limits are set in environment variables, which belong to the process. So all threads have the same limits.

    Parameters
    ----------
    sizes : mapping of str to int or str
        The number of bytes for each limit: ``{"weights": "6GiB"}``. The names are the keys of `LIMITS`.

    Raises
    ------
    SpecError
        If a name is unknown, or a size in ``sizes`` or in an environment variable is not valid.
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

    Call this before reading files. Otherwise the error would be raised while a file is read, as if the file were wrong.
    """
    for limit in LIMITS.values():
        _ = limit.bytes


def limit_variables() -> dict[str, str]:
    """Return the environment variables of all limits, so that they can be passed to another machine.

    The value ``""`` stands for the default.
    """
    names = [DECODE_TIMEOUT, *(limit.variable for limit in LIMITS.values())]
    return {name: os.environ.get(name, "") for name in names}
