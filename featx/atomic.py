"""Writing a file whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featx.errors import FeatxError


@contextmanager
def replacing(path: Path, error: type[FeatxError] | None = None, *, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary name; move what is there to ``path``, durably, once the block ends well.

    The temporary file lies in the folder ``scratch``, by default beside ``path``; both must be on one file system.
    If the block or the move fails, nothing is left but what was there before. A killed process can leave the
    temporary file, ``.<name>.<random>.tmp``, and never a half-written ``path``. An ``OSError`` that is none of featx's
    own is raised as an ``error``, if that is given, which says what cannot be written and why.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException as problem:
        temporary.unlink(missing_ok=True)
        if error is None or isinstance(problem, FeatxError) or not isinstance(problem, OSError):
            raise
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem
    if os.name == "posix":  # Windows cannot open a folder; there the rename itself is durable.
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
