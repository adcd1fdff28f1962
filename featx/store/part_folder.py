"""Manage the folder of part files that an extraction writes before the store is assembled.

Until the extraction is done, the folder ``photos.h5.parts/`` is beside ``photos.h5``. The file ``run.h5`` in this
folder records what is extracted, and each ``<name>.part.h5`` holds some rows. A part is written under a temporary name,
synced and renamed. So a killed process loses at most the part that it was writing.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from featx.errors import FeatxWarning, SpecError, StoreCorrupt, StoreError, StoreUnreadable
from featx.files import (
    HELD,
    READ_ERRORS,
    atomic_write,
    check_attribute_heaps,
    check_bytes,
    check_writable,
    create_hdf5,
    open_untrusted,
    unreadable_error,
    wrap_os_error,
    wrap_read_errors,
)
from featx.runtime import pluralize
from featx.spec import ExtractSpec
from featx.store.disk_checks import check_target
from featx.store.locking import RUN_LOCK, FolderLock
from featx.store.part_file import SUFFIX, Part, check_part, write_part
from featx.store.schema import read_identity, write_identity

RUN = "run.h5"
JOB = "job.json"
DAMAGED, ORPHANED = ".damaged", ".orphaned"
"""Suffixes of parts that are not used: damaged parts, and parts of an unknown run. They are kept until the store has
been written."""


def parts_folder(store: Path) -> Path:
    """Return the path of the folder of a store's part files. The folder need not exist."""
    return store.with_name(f"{store.name}.parts")


class PartFolder:
    """The folder of an unfinished extraction. As a context manager, it locks the folder.

    The method ``exclusive`` returns a second context manager, which prevents other shards from starting.

    Parameters
    ----------
    store : Path
        The store that is being extracted. The folder of part files is beside it.
    wait : bool
        Wait for another process that holds the lock, instead of raising ``StoreLocked``.
    shard : str
        Number of the shard and of all shards: ``3/16`` is the third of sixteen. Other shards of the run may use the
        folder at the same time. ``""`` stands for a run without shards.

    Raises
    ------
    StoreLocked
        If another process holds the lock when the ``with`` block is entered, or another program has locked the store.
    StoreError
        If this folder or the folder of the store cannot be created or written when the ``with`` block is entered.
    """

    def __init__(self, store: Path, *, wait: bool = False, shard: str = "") -> None:
        self.store = store
        self.path = parts_folder(store)
        self._shard, self._lock = shard, FolderLock(self.path, store, shard, wait=wait)
        self.exclusive = self._lock.exclusive
        self._discarded, self._unreadable = False, False
        self._valid: set[Path] = set()

    def __enter__(self) -> "PartFolder":
        with wrap_os_error(self.path, StoreError):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            self._prepare()
        except BaseException:
            self._leave()
            raise
        return self

    def _prepare(self) -> None:
        """Remove temporary files, and check that the parts and the store can be written, before hours of work."""
        with wrap_os_error(self.path, StoreError):
            # A run without shards is alone in the folder, so it may remove temporary files of killed processes.
            for temporary in () if self._shard else self.path.glob(".*.tmp"):
                temporary.unlink(missing_ok=True)
        check_target(self.store)
        check_writable(self.path, StoreError)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        # Keep the folder if it has parts, so that the run can be resumed. Otherwise remove the folder before the lock
        # is released, because another process may then use it.
        if not (self._shard or self._discarded) and self._has_no_parts():
            self.discard()
        self._lock.release()
        if self._discarded and os.name == "nt":  # Windows cannot remove an open file, such as the lock.
            self.discard()

    def _has_no_parts(self) -> bool:
        # If the folder cannot be listed, or the file of the run cannot be read, there may be parts.
        if self._unreadable:
            return False
        with suppress(OSError):
            return {entry.name for entry in self.path.iterdir()} <= {RUN_LOCK, RUN_LOCK + HELD, RUN}
        return False

    @property
    def spec(self) -> ExtractSpec | None:
        """The spec of the unfinished run in this folder; None if there is no such run."""
        identity = self._identity()
        return identity[0] if identity else None

    def load_run(self, spec: ExtractSpec, *, overwrite: bool = False) -> dict[str, np.ndarray] | None:
        """Check that the unfinished run in this folder has the given spec.

        Parameters
        ----------
        spec : ExtractSpec
        overwrite : bool
            If the run has another spec, remove its parts instead of raising ``SpecMismatch``.

        Returns
        -------
        dict of str to float32 (3, width), or None
            The features that the run computed for the reference images; None if there is no run.

        Raises
        ------
        SpecMismatch
            If the run has another spec, and ``overwrite`` is False.
        """
        identity = self._identity()
        if identity is None:
            return None
        found, reference = identity
        if found != spec and overwrite:
            self._clear()
            return None
        how = f"remove {self.path}" if self._shard else "give --overwrite"
        found.check_same(
            spec,
            this=f"the unfinished run in {self.path}",
            that="this one",
            remedy=f"run again with the same options, or {how} to start again",
        )
        return reference

    def _identity(self) -> tuple[ExtractSpec, dict[str, np.ndarray]] | None:
        path = self.path / RUN
        try:
            with open_untrusted(path, StoreError) as file:
                with path.open("rb") as raw:
                    check_attribute_heaps(file, raw)
                return read_identity(file)
        except FileNotFoundError:
            return None
        except SpecError:
            raise
        except READ_ERRORS as error:
            if unreadable := unreadable_error(path, error, StoreError):
                self._unreadable = True
                raise unreadable from error
            raise StoreCorrupt(f"{path} is damaged ({error}); remove {self.path} to start again") from error

    def create_run(self, spec: ExtractSpec, reference: Mapping[str, np.ndarray]) -> None:
        """Record in ``run.h5`` what this run extracts.

        Parts that are already in the folder belong to an unknown run. They are renamed to ``….orphaned``, with a
        warning.

        Parameters
        ----------
        spec : ExtractSpec
        reference : mapping of str to float32 (3, width)
            Features of the reference images, by feature name.
        """
        orphans = self._parts()
        for path in orphans:
            self._set_aside(path, ORPHANED)
        if orphans:
            warnings.warn(
                f"{self.path} has parts but no {RUN}, which says how they were made: {pluralize(len(orphans), 'part')} "
                f"not used, and kept as …{ORPHANED} until the store is written",
                FeatxWarning,
                stacklevel=3,
            )
        self._write(RUN, lambda file: write_identity(file, spec, reference))

    def save_job(self, job: Mapping[str, Any]) -> None:
        """Save the options of the shards as JSON; `featx.extraction` needs them to assemble the store."""
        with atomic_write(self.path / JOB, StoreError) as temporary:
            temporary.write_text(json.dumps(job))

    @property
    def job(self) -> dict[str, Any] | None:
        """The options that `save_job` saved; None if nothing was saved."""
        with wrap_read_errors(self.path / JOB, StoreError, self._damaged_job):
            if not (self.path / JOB).exists():
                return None
            job: dict[str, Any] = json.loads((self.path / JOB).read_text())
        return job

    def _damaged_job(self, error: Exception) -> StoreCorrupt:
        return StoreCorrupt(f"{self.path / JOB} is damaged ({error}); run any shard again to repair it")

    def write(self, part: Part) -> None:
        """Write a part completely or not at all; raise ``StoreError`` if it cannot be written."""
        self._write(part.name, lambda file: write_part(file, part))

    def part_files(self) -> list[Path]:
        """Return the finished part files.

        A damaged part is renamed to ``….damaged``, with a warning, and its images are extracted again. A part that
        cannot be read now is not changed.

        Each part is read completely, but only once. A shard does not read the features, because otherwise each of a
        thousand shards would read the parts of all other shards. The features are checked when the store is assembled.
        Parts are ignored if ``run.h5`` is missing.

        Raises
        ------
        StoreUnreadable, StoreLocked
            If a part cannot be read now: another program locks it, access is denied, or its disk fails.
        """
        if self._identity() is None:
            return []
        paths = self._parts()
        self._valid.update(path for path in paths if path not in self._valid and self._is_valid(path))
        return [path for path in paths if path in self._valid]

    def discard(self) -> None:
        """Remove the folder and everything in it."""
        self._discarded = True
        with suppress(OSError):  # If a part cannot be removed, run.h5 stays, because it describes the part.
            self._clear()
            shutil.rmtree(self.path, ignore_errors=True)

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def _clear(self) -> None:
        # Remove run.h5 last, so that there are never parts without it.
        unused = (path for suffix in (DAMAGED, ORPHANED) for path in self.path.glob(f"*{suffix}"))
        for path in (*unused, *self._parts(), self.path / RUN):
            path.unlink(missing_ok=True)

    @staticmethod
    def _set_aside(path: Path, suffix: str) -> Path:
        """Rename a part, so that it is not used, and return its new path."""
        kept = path.with_name(path.name + suffix)
        with wrap_os_error(path, StoreError), suppress(FileNotFoundError):
            path.replace(kept)
        return kept

    def _is_valid(self, path: Path, *, retry: bool = True) -> bool:
        try:
            before = path.stat()
            check_part(path, features=not self._shard)
        except FileNotFoundError:
            return False  # Another shard has found the part damaged, and renamed it.
        except READ_ERRORS as error:
            if retry:  # The disk may have failed only for a moment.
                return self._is_valid(path, retry=False)
            if isinstance(error, StoreUnreadable):
                raise
            check_bytes(path, StoreError)
            if not _is_same_file(path, before):  # Another shard has written the part again.
                return self._is_valid(path)
            kept = self._set_aside(path, DAMAGED)
            warnings.warn(
                f"{path} is damaged ({error}): its images are extracted again; until the store is written, the part is "
                f"kept as {kept.name}",
                FeatxWarning,
                stacklevel=3,
            )
            return False
        return True

    def _write(self, name: str, fill: Callable[[h5py.File], None]) -> None:
        with wrap_os_error(self.path / name, StoreError), create_hdf5(self.path / name) as file:
            fill(file)


def _is_same_file(path: Path, before: os.stat_result) -> bool:
    """Return whether a file is still the one that had the status ``before``."""
    with suppress(FileNotFoundError):
        now = path.stat()
        return (now.st_ino, now.st_mtime_ns, now.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    return False
