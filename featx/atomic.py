"""Writing a file whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary name; move what is there to ``path``, durably, once the block ends well.

    The temporary file lies in the folder ``scratch``, by default beside ``path``; both must be on one file system.
    If the block or the move fails, nothing is left but what was there before. A killed process can leave the
    temporary file, ``.<name>.<random>.tmp``, and never a half-written ``path``.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # Windows cannot open a folder; there the rename itself is durable.
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
