"""Lock a folder of part files, for one process alone or for the shards of one run at the same time."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from featx.errors import StoreLocked
from featx.files import HELD, FileLock

RUN_LOCK = "lock"
"""Name of the lock file. A run holds this lock for its whole duration; a shard holds it only while the shard starts."""
START_TIMEOUT = 20.0
"""Seconds that a shard waits for `RUN_LOCK`. If another starting shard holds the lock, it releases the lock sooner. A
run does not."""
POLL_INTERVAL = 0.5
"""Seconds between two attempts of a waiting process to get the lock."""


class FolderLock:
    """The lock of a folder of part files.

    A run holds the lock file ``lock``. A shard holds its own lock file, for example ``shard-3-of-16.lock``. A shard
    takes ``lock`` only for the time in which it acquires its own lock. So a run that holds ``lock`` can see which
    shards are active, and no other shard can start.

    Parameters
    ----------
    folder : Path
        The folder of part files.
    store : Path
        The store that is being made. Messages name it.
    shard : str
        Number of the shard and of all shards: ``3/16`` is the third of sixteen. An empty string means a run.
    wait : bool
        Wait for other processes instead of raising ``StoreLocked``.
    """

    def __init__(self, folder: Path, store: Path, shard: str = "", *, wait: bool = False) -> None:
        self._folder, self._store, self._shard, self._wait = folder, store, shard, wait
        self._run_lock = FileLock(folder / RUN_LOCK)
        name = re.sub(r"\W+", "-of-", shard)
        self._shard_lock = FileLock(folder / f"shard-{name}.lock") if shard else None

    def acquire(self) -> None:
        """Acquire the lock.

        Raises
        ------
        StoreLocked
            If another process has the lock, and ``wait`` is False.
        OSError
            If the folder is not writable.
        """
        while True:
            try:
                return self._attempt()
            except StoreLocked:
                if not self._wait:
                    raise
            # Hold no lock while waiting, because another shard may need it to start.
            time.sleep(POLL_INTERVAL)

    def _attempt(self) -> None:
        try:
            self._run_lock.acquire(timeout=START_TIMEOUT if self._shard_lock else 0)
        except filelock.Timeout:
            raise self._locked(self._run_lock) from None
        try:
            if self._shard_lock is None:
                self._check_no_shards()
            else:
                self._acquire_shard(self._shard_lock, self._shard)
        except BaseException:
            self._run_lock.release()
            raise
        if self._shard_lock:
            self._run_lock.release()

    def release(self) -> None:
        """Release the lock."""
        (self._shard_lock or self._run_lock).release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Prevent other shards from starting until the ``with`` block ends."""
        try:
            self._run_lock.acquire(timeout=START_TIMEOUT)
        except filelock.Timeout:
            raise self._locked(self._run_lock) from None
        try:
            yield
        finally:
            self._run_lock.release()

    def _check_no_shards(self) -> None:
        """Raise ``StoreLocked`` if a shard is active, and remove the lock files of shards that have ended."""
        locks = {path.name.removesuffix(HELD) for path in self._folder.glob("shard-*.lock*")}
        for path in (self._folder / name for name in sorted(locks) if name.endswith(".lock")):
            lock = FileLock(path)
            self._acquire_shard(lock, path.stem.removeprefix("shard-").replace("-of-", "/"))
            lock.release()
            with suppress(OSError):
                path.unlink()

    def _acquire_shard(self, lock: FileLock, shard: str) -> None:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise self._locked(lock, f" (shard {shard})") from None

    def _locked(self, lock: FileLock, shard: str = "") -> StoreLocked:
        return StoreLocked(
            f"{self._store} is being written by another featx process{shard}; wait until it is done, or choose another "
            f"--output{lock.remedy}"
        )
