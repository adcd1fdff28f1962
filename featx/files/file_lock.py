"""Lock a file between processes, also on network disks that have no locks."""

import logging
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import filelock

from featx.files.read_errors import NO_LOCKS

logger = logging.getLogger(__name__)

HELD = ".held"
"""Suffix of the file that stands for a lock on a disk without locks. The file exists while the lock is held."""


class FileLock:
    """A lock that one process holds at a time, also on a disk without locks.

    Usually the system locks ``path``, and releases the lock when the process ends. If the disk has no locks, the file
    ``path`` + ``.held`` is created instead, and removed when the lock is released. It names its process and machine. A
    killed process leaves it, and then the next process on the same machine removes it.

    Parameters
    ----------
    path : Path
        The lock file. Its folder must exist when the lock is acquired.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: filelock.BaseFileLock | None = None

    @property
    def remedy(self) -> str:
        """What to do if the lock is left by a process that does not run any more; ``""`` if that cannot happen."""
        if not isinstance(self._lock, filelock.SoftFileLock):
            return ""
        return f"; if no such process runs any more, on any machine, remove {self._path}{HELD}"

    def acquire(self, timeout: float = -1) -> None:
        """Acquire the lock.

        Parameters
        ----------
        timeout : float
            The seconds to wait for it; -1 waits without limit.

        Raises
        ------
        filelock.Timeout
            If another process has the lock.
        OSError
            If the lock file cannot be written.
        """
        if self._lock is None:
            self._lock = self._make_lock()
        self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Release the lock."""
        if self._lock:
            self._lock.release()

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _make_lock(self) -> filelock.BaseFileLock:
        if _has_locks(self._path.parent):
            return filelock.FileLock(self._path)
        logger.info("the disk of %s has no locks: a file %s is used instead", self._path, HELD)
        return filelock.SoftFileLock(f"{self._path}{HELD}")


def _has_locks(folder: Path) -> bool:
    """Return whether files in a folder can be locked, by locking a new file."""
    if sys.platform == "win32":
        return True
    import fcntl

    probe = folder / f".lock.{secrets.token_hex(4)}.tmp"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    finally:
        os.close(descriptor)
        with suppress(OSError):
            probe.unlink()
    return True
