"""Check before a long computation that a store can be written: its disk, its folder, and the file that it replaces."""

import os
import sys
from pathlib import Path

from featx.errors import StoreError, StoreLocked
from featx.files import MAX_EXPANSION, free_bytes, unreadable_error, wrap_os_error
from featx.spec import ExtractSpec
from featx.store.datasets import feature_bytes

LOCKING = "HDF5_USE_FILE_LOCKING"
"""The environment variable with which users tell HDF5 to ignore locks. Then featx ignores locks too."""


def store_bytes(spec: ExtractSpec, rows: int, dtype: str | None = None) -> int:
    """Return the smallest number of bytes that the features of a store or of parts can have on disk.

    ``dtype`` is ``float32``, ``float16`` or None, which stands for ``float32``.
    """
    return feature_bytes(spec.widths, rows, 2 if dtype == "float16" else 4, 1 / MAX_EXPANSION)


def check_disk_space(target: Path, needed: int, what: str = "", remedy: str = "") -> None:
    """Raise ``StoreError`` if the disk of ``target`` has fewer than ``needed`` bytes free.

    If the disk does not report the number of free bytes, nothing is checked. In the message, ``what`` names the thing
    that needs the bytes, and ``remedy`` is the last part.
    """
    free = free_bytes(target.parent)
    if free is not None and free < needed:
        raise StoreError(
            f"{target} needs at least {needed / 1e6:,.2f} MB{what}, but its disk has only {free / 1e6:,.2f} MB free"
            f"{remedy}"
        )


def check_target(target: Path) -> None:
    """Check that a store can be written to ``target``, which may exist.

    Raises
    ------
    StoreLocked
        If another program has locked the file, because the program is writing it.
    StoreError
        If ``target`` is a folder, or its folder cannot be written.
    """
    with wrap_os_error(target, StoreError):
        if target.is_dir():
            raise StoreError(f"{target} cannot be written: it is a folder; choose the name of a file")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise StoreError(
                f"{target} cannot be written: this user must not write to its folder; choose another folder"
            )
        if target.is_file() and os.environ.get(LOCKING, "").upper() not in ("FALSE", "0"):
            _check_unlocked(target)


def _check_unlocked(path: Path) -> None:
    """Raise ``StoreLocked`` if another program writes a file. Programs that only read the file do not matter.

    A file that cannot be opened is not an error, because it may be replaced without being read.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise unreadable_error(path, error, StoreError) or StoreLocked(str(error)) from error
    except OSError:
        return  # The disk has no locks.
    finally:
        os.close(descriptor)
