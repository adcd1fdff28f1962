"""Write a file completely or not at all, and raise featx's own errors instead of those of the operating system."""

import errno
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from featx.errors import FeatxError

CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What ``fsync`` returns on a disk that has no such function."""


@contextmanager
def atomic_write(path: Path, error: type[FeatxError] | None = None, *, scratch: Path | None = None) -> Iterator[Path]:
    """Write a file under a temporary name and rename it to ``path`` when the ``with`` block succeeds.

    The file and its folder are synced to disk. If the block or the rename fails, ``path`` is unchanged and the
    temporary file is removed. A killed process can leave the temporary file ``.<name>.<random>.tmp``, but it never
    leaves ``path`` half-written.

    Parameters
    ----------
    path : Path
        The file to write.
    error : type of FeatxError, optional
        The error to raise instead of an ``OSError``. Its message says which file cannot be written, and why.
    scratch : Path, optional
        Folder of the temporary file, by default the folder of ``path``. It must be on the same file system as ``path``.

    Yields
    ------
    Path
        The temporary file, which exists and is empty.

    Raises
    ------
    FeatxError
        ``error``, if the file cannot be written. It is also raised if only syncing the folder fails; then ``path`` is
        complete.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    with wrap_os_error(path, error) if error else nullcontext():
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            # safetensors creates files that only their owner may read. Some network disks refuse to set a mode.
            with suppress(OSError):
                temporary.chmod(mode)
            sync(temporary)
            temporary.replace(path)
            if os.name == "posix":  # Windows cannot open a folder, and needs no sync of it after a rename.
                sync(path.parent)
        except BaseException:
            # If removing the file fails too, still raise the first error.
            with suppress(OSError):
                temporary.unlink()
            raise


def check_folder(path: Path, error: type[FeatxError]) -> None:
    """Raise ``error`` if a file cannot be written, because of its folder or because it is a folder.

    Commands call this before a long computation, so that they fail early.
    """
    with wrap_os_error(path, error):
        if not path.parent.is_dir():
            raise error(f"{path} cannot be written: its folder {path.parent} does not exist; create it first")
        if path.is_dir():
            raise error(f"{path} cannot be written: it is a folder; choose the name of a file")
        # A device such as /dev/null can be written although its folder cannot.
        if (path.is_file() or not path.exists()) and not os.access(path.parent, os.W_OK | os.X_OK):
            raise error(f"{path} cannot be written: this user may not write to its folder; choose another one")


@contextmanager
def wrap_os_error(path: Path, error: type[FeatxError]) -> Iterator[None]:
    """Raise ``error`` instead of an ``OSError``; its message has the path and the reason.

    An ``OSError`` that is also a ``FeatxError`` is not changed.
    """
    try:
        yield
    except OSError as problem:
        if isinstance(problem, FeatxError):
            raise
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem


def sync(path: Path) -> None:
    """Write a file or a folder from memory to its disk.

    It is no error if the disk cannot do so. Some network disks can sync files but not folders.
    """
    is_folder = path.is_dir()
    try:
        # Windows syncs a file only if it is open for writing. A folder cannot be opened for writing.
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except PermissionError:
        if is_folder:  # A folder may be writable and not readable.
            return
        raise
    try:
        sync_descriptor(descriptor, CANNOT_SYNC | {errno.EPERM, errno.EACCES} if is_folder else CANNOT_SYNC)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int, ignored: Collection[int] = CANNOT_SYNC) -> None:
    """Write an open file from memory to its disk; errors whose numbers are in ``ignored`` are no errors."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in ignored:
            raise
