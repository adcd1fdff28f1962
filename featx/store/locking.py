"""Who may write a store's parts: one process alone, or shards of one run side by side."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from featx.errors import StoreLocked

ALONE = "lock"
"""The file whose lock is held for the length of a run, or by a shard for the instant in which it begins."""
INSTANT = 20.0
"""Seconds that a shard waits for others to begin; a run that has the lock does not give it back so soon."""

POLL = 0.5
"""Seconds after which one that waits looks again."""


class FolderLock:
    """The lock of a folder of parts.

    A run holds ``lock``. A shard holds a lock of its own, ``shard-3-of-16.lock``, which it takes while it has
    ``lock`` for an instant; so a run that has ``lock`` finds every shard's taken, and none can begin.

    Raises
    ------
    StoreLocked
        On entering, if another process is at work and ``wait`` is not set.
    """

    def __init__(self, folder: Path, store: Path, shard: str = "", *, wait: bool = False) -> None:
        self._folder, self._store, self._shard, self._wait = folder, store, shard, wait
        self._alone = filelock.FileLock(folder / ALONE)
        name = re.sub(r"\W+", "-of-", shard)
        self._own = filelock.FileLock(folder / f"shard-{name}.lock") if shard else None

    def acquire(self) -> None:
        """Take it; an ``OSError`` if the folder cannot be written."""
        while True:
            try:
                return self._attempt()
            except StoreLocked:
                if not self._wait:
                    raise
            # Without any lock meanwhile: the shard that is waited for needs one to begin.
            time.sleep(POLL)

    def _attempt(self) -> None:
        try:
            self._alone.acquire(timeout=INSTANT if self._own else 0)
        except filelock.Timeout:
            raise self._locked("") from None
        try:
            self._others() if self._own is None else self._acquire(self._own, self._shard)
        except BaseException:
            self._alone.release()
            raise
        if self._own:
            self._alone.release()

    def release(self) -> None:
        """Give it back."""
        (self._own or self._alone).release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within, no other shard begins."""
        try:
            self._alone.acquire(timeout=INSTANT)
        except filelock.Timeout:
            raise self._locked("") from None
        try:
            yield
        finally:
            self._alone.release()

    def _others(self) -> None:
        """No shard is at work; those that end leave their files."""
        for path in sorted(self._folder.glob("shard-*.lock")):
            lock = filelock.FileLock(path)
            self._acquire(lock, path.stem.removeprefix("shard-").replace("-of-", "/"))
            lock.release()
            with suppress(OSError):
                path.unlink()

    def _acquire(self, lock: filelock.BaseFileLock, shard: str) -> None:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise self._locked(f" (shard {shard})") from None

    def _locked(self, shard: str) -> StoreLocked:
        return StoreLocked(
            f"{self._store} is being written by another featx{shard}; wait until it is done, or give another --output"
        )
