"""Writing a file whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from featx.errors import FeatxError


@contextmanager
def atomic_write(path: Path, error: type[FeatxError] | None = None, *, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary name; move what is there to ``path``, durably, once the block ends well.

    The temporary file lies in the folder ``scratch``, by default beside ``path``; both must be on one file system.
    If the block or the move fails, nothing is left but what was there before; if only the folder's own fsync fails,
    that is an error too, although ``path`` is whole. A killed process can leave the temporary file,
    ``.<name>.<random>.tmp``, and never a half-written ``path``. An ``OSError`` that is none of featx's own is raised as
    an ``error``, if that is given, which says what cannot be written and why.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    with wrap_os_error(path, error) if error else nullcontext():
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # that of any new file: safetensors writes what its owner alone may read
            _sync(temporary)
            temporary.replace(path)
            if os.name == "posix":  # Windows cannot open a folder; there the rename itself is durable.
                _sync(path.parent)
        except BaseException:
            # A disk that does not even remove is not what went wrong first.
            with suppress(OSError):
                temporary.unlink()
            raise


def check_folder(path: Path, error: type[FeatxError]) -> None:
    """Raise an ``error`` if there is no folder for a file, so that it is told before the work that it would take."""
    if not path.parent.is_dir():
        raise error(f"{path} cannot be written: there is no folder {path.parent}; make it first")


@contextmanager
def wrap_os_error(path: Path, error: type[FeatxError]) -> Iterator[None]:
    """Raise an ``OSError`` that is none of featx's own as an ``error``: what cannot be written, and why."""
    try:
        yield
    except OSError as problem:
        if isinstance(problem, FeatxError):
            raise
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem


def _sync(path: Path) -> None:
    # Windows syncs only what may be written; a folder cannot be opened so.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks sync files and know nothing of folders.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)
