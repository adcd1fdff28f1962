"""How many bytes a file that anyone may have made can make featx read: limits that can be changed.

A limit is looked up in the environment whenever it is asked, so that it holds in the threads and the processes of a run
as well; ``featx --limit NAME=SIZE`` and `allowing` set it there. Those of pixels are in `featx.images`.
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
    """The most bytes that something may have."""

    name: str
    default: int

    @property
    def variable(self) -> str:
        """The environment variable that changes it."""
        return f"FEATX_LIMIT_{self.name.replace('-', '_').upper()}"

    @property
    def bytes(self) -> int:
        """The limit in force; ``SpecError`` if the variable is no size."""
        text = os.environ.get(self.variable)
        return parse_size(text, self.variable) if text else self.default

    @property
    def remedy(self) -> str:
        """What a message ends with: how to allow more."""
        return f"raise the limit by featx --limit {self.name}=SIZE before the command, or by {self.variable}"


WEIGHTS = Limit("weights", 3 << 30)
"""Of a weights file, or of the member of an archive that has them: a whole VGG16 with its optimizer has 1.6e9."""
CHUNK = Limit("chunk", 1 << 20)
"""Of a compressed chunk of an HDF5 file: deflate makes at most 1,032 bytes of one, so a gigabyte of this."""
DATASET = Limit("dataset", 1 << 28)
"""Of a dataset of an HDF5 file that is far larger than what it is stored in: columns of padded texts compress well."""
ROW_GROUP = Limit("row-group", 1 << 31)
"""Of a row group of a Parquet file."""
URL_IMAGE = Limit("url-image", 1_431_655_760)
"""Of an image behind a URL, whose size reading alone tells: what ``--max-pixels`` allows a file by default."""
SIDECAR = Limit("sidecar", 1 << 20)
"""Of a ``.cls`` or ``.json`` beside an image in a tar."""
DECODE_TIMEOUT = "FEATX_DECODE_TIMEOUT"
"""The environment variable that says after how many seconds an image is given up (``--decode-timeout``)."""
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header; safetensors itself takes no more, so this is no limit to change."""
LIMITS = {limit.name: limit for limit in (WEIGHTS, CHUNK, DATASET, ROW_GROUP, URL_IMAGE, SIDECAR)}


def parse_size(text: str, whose: str) -> int:
    """Bytes of ``6GiB``, ``500 MB`` or ``1000000``; ``SpecError``, which names ``whose`` it is, of anything else."""
    match = _SIZE.fullmatch(text.strip().upper())
    size = 0
    if match:
        number, prefix, binary = match.groups()
        size = int(Fraction(number) * (1024 if binary else 1000) ** (" KMGT".index(prefix or " ")))
    if not 1 <= size < 1 << 63:
        raise SpecError(f"{whose} must be a number of bytes, 1 to {(1 << 63) - 1:,}, such as 6GiB, 500MB or 1000000, "
                        f"got {text!r}")  # fmt: skip
    return size


@contextmanager
def allowing(sizes: Mapping[str, int | str]) -> Iterator[None]:
    """Change limits for a while, in all of this process and those that it starts: not in one of several threads.

    Parameters
    ----------
    sizes : mapping of str to int or str
        Bytes by the names in `LIMITS`: ``{"weights": "6GiB"}``.

    Raises
    ------
    SpecError
        If there is no such limit, or a size is none, here or in the environment.
    """
    if unknown := sorted(set(sizes) - set(LIMITS)):
        raise SpecError(f"a limit must be among {', '.join(LIMITS)}, got {unknown[0]!r}")
    chosen = {LIMITS[name].variable: str(parse_size(str(size), f"limit {name}")) for name, size in sizes.items()}
    before = {variable: os.environ.get(variable, "") for variable in chosen}
    os.environ.update(chosen)
    try:
        check_limits()
        yield
    finally:
        os.environ.update(before)


def check_limits() -> None:
    """Raise ``SpecError`` if the environment says of a limit what is no size.

    To be asked before a file is read: what goes wrong then is taken for a fault of the file.
    """
    for limit in LIMITS.values():
        _ = limit.bytes


def limits_in_force() -> dict[str, str]:
    """The environment variables of all limits, for a process that has another environment; ``""`` is the default."""
    names = [DECODE_TIMEOUT, *(limit.variable for limit in LIMITS.values())]
    return {name: os.environ.get(name, "") for name in names}
