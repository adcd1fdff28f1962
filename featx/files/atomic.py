"""Write a file completely or not at all, and report operating system errors as featx's own."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from featx.errors import FeatxError


@contextmanager
def atomic_write(path: Path, error: type[FeatxError] | None = None, *, scratch: Path | None = None) -> Iterator[Path]:
    """Write a file under a temporary name and rename it to ``path`` when the ``with`` block succeeds.

    The file and its folder are synced to disk. If the block or the rename fails, ``path`` is unchanged and the
    temporary file is removed. A killed process can leave the temporary file, ``.<name>.<random>.tmp``, but never a
    half-written ``path``.

    Parameters
    ----------
    path : Path
        The file to write.
    error : type of FeatxError, optional
        Raised instead of an ``OSError``; it says what cannot be written, and why.
    scratch : Path, optional
        Folder of the temporary file, on the same file system as ``path``; by default the folder of ``path``.

    Yields
    ------
    Path
        The temporary file, which exists and is empty.

    Raises
    ------
    FeatxError
        ``error``, if the file cannot be written. If only syncing the folder fails, ``path`` is complete nevertheless.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    with wrap_os_error(path, error) if error else nullcontext():
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors creates files that only their owner may read
            _sync(temporary)
            temporary.replace(path)
            if os.name == "posix":  # Windows cannot open a folder; there, the rename itself is durable.
                _sync(path.parent)
        except BaseException:
            # A disk that also refuses to remove the file must not hide the first error.
            with suppress(OSError):
                temporary.unlink()
            raise


def check_folder(path: Path, error: type[FeatxError]) -> None:
    """Raise ``error`` if the folder of a file does not exist, so that a command fails before a long computation."""
    if not path.parent.is_dir():
        raise error(f"{path} cannot be written: its folder {path.parent} does not exist; create it first")


@contextmanager
def wrap_os_error(path: Path, error: type[FeatxError]) -> Iterator[None]:
    """Raise ``error``, with the path and the reason, instead of an ``OSError`` that is not featx's own."""
    try:
        yield
    except OSError as problem:
        if isinstance(problem, FeatxError):
            raise
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem


def _sync(path: Path) -> None:
    # Windows syncs only files that are open for writing; a folder cannot be opened for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks can sync files but not folders.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)
