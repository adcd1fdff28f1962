"""Part files: the only unit of writing while images are extracted.

Beside ``photos.h5`` lies ``photos.h5.parts/`` until the run is done: ``run.h5`` says what is extracted, each
``<name>.part.h5`` holds some rows. A part is written under a temporary name, fsynced and renamed. Its name is a
digest of its rows' paths, so that the same rows always make the same file.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from featx.errors import SpecError, StoreCorrupt, StoreError
from featx.files import atomic_write, open_untrusted, wrap_os_error
from featx.spec import ExtractSpec
from featx.store import layout
from featx.store.hdf5_heap_check import check_heaps
from featx.store.locking import ALONE, FolderLock
from featx.store.writing import writing
from featx.table import encode_text

SUFFIX = ".part.h5"
RUN = "run.h5"
JOB = "job.json"
READ_BYTES = 1 << 24


@dataclass
class Part:
    """Rows of one group of images: features (rows, width) by name, and the images that failed.

    The views of an image are rows one after the other; ``views`` numbers them, and may be left empty for plain ones.
    """

    paths: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    exif_rotated: list[bool] = field(default_factory=list)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    view_index: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name: a digest of all paths, failed ones too."""
        paths = sorted([*self.paths, *(path for path, _ in self.failures)])
        return hashlib.sha256(encode_text("\0".join(paths))).hexdigest()[:16] + SUFFIX


def parts_folder(store: Path) -> Path:
    """The folder of a store's parts, there or not."""
    return store.with_name(f"{store.name}.parts")


class PartFolder:
    """The folder of a run that is not finished yet; entering it takes the store's lock.

    With ``shard`` (``3/16``) others of the run may be in it too; ``alone`` is then a context within which none begins.

    Raises
    ------
    StoreLocked
        If another process has the lock.
    StoreError
        If the folder cannot be made or written.
    """

    def __init__(self, store: Path, *, wait: bool = False, shard: str = "") -> None:
        self.store = store
        self.path = parts_folder(store)
        self._shard, self._lock = shard, FolderLock(self.path, store, shard, wait=wait)
        self.exclusive = self._lock.exclusive
        self._discarded = False
        self._sound: set[Path] = set()

    def __enter__(self) -> "PartFolder":
        with wrap_os_error(self.path, StoreError):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            # The lock is ours alone, so nobody is at work on what a killed process left half-written.
            for temporary in () if self._shard else self.path.glob(".*.tmp"):
                temporary.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is left to resume keeps the folder; a run that failed before its first part leaves nothing. Before the
        # lock is given back, and once: after that it is the folder of another process that waited.
        if not (self._shard or self._discarded) and self._has_nothing():
            self.discard()
        self._lock.release()
        if self._discarded and os.name == "nt":  # Windows removes no file that is open, such as the lock.
            self.discard()

    def _has_nothing(self) -> bool:
        return self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {ALONE, RUN}

    def load_run(self, spec: ExtractSpec, *, overwrite: bool = False) -> dict[str, np.ndarray] | None:
        """Check that parts left here are of this spec; give their golden features, or None if there are none.

        Parts of another spec are a ``SpecMismatch``; with ``overwrite`` they are removed.
        """
        identity = self._identity()
        if identity is None:
            return None
        found, golden = identity
        anew = f"remove {self.path}" if self._shard else "give --overwrite"
        if found != spec and overwrite:
            self._clear()
            return None
        found.check_same(
            spec,
            this=f"the unfinished run in {self.path}",
            that="this one",
            remedy=f"go on with the same options, or {anew} to start anew",
        )
        return golden

    @property
    def spec(self) -> ExtractSpec | None:
        """The spec of parts that were left here; None if there are none."""
        identity = self._identity()
        return identity[0] if identity else None

    def _identity(self) -> tuple[ExtractSpec, dict[str, np.ndarray]] | None:
        try:
            with open_untrusted(self.path / RUN, StoreError) as file:
                check_heaps(file, self.path / RUN)
                return layout.read_identity(file)
        except FileNotFoundError:
            return None
        except SpecError:
            raise
        except layout.DAMAGE as error:
            raise StoreCorrupt(f"{self.path / RUN} is damaged ({error}); remove {self.path} to start anew") from error

    def create_run(self, spec: ExtractSpec, golden: Mapping[str, np.ndarray]) -> None:
        """Write down what this run extracts; parts that are there before are of no run that anyone knows."""
        for path in self._parts():
            path.unlink()
        self._write(RUN, lambda file: layout.write_identity(file, spec, golden))

    def save_job(self, job: Mapping[str, Any]) -> None:
        """Keep for the assembling of shards what they were started with; JSON."""
        with atomic_write(self.path / JOB, StoreError) as temporary:
            temporary.write_text(json.dumps(job))

    @property
    def job(self) -> dict[str, Any] | None:
        """What `note` kept; None if nothing."""
        try:
            job: dict[str, Any] = json.loads((self.path / JOB).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreCorrupt(f"{self.path / JOB} is damaged ({error}); run any shard again to mend it") from error
        return job

    def write(self, part: Part) -> None:
        """Write a part, whole; ``StoreError`` if the disk does not take it."""
        self._write(part.name, lambda file: _fill_part(file, part))

    def part_files(self) -> list[Path]:
        """The finished parts; a damaged one is removed with a warning, so that its rows are extracted again.

        A shard looks at no features, so that the parts of a thousand are not read a thousand times: that is for the
        assembling. ``StoreError`` if one cannot be read, which is no damage. Parts of no known run are not there.
        """
        if self._identity() is None:
            return []
        paths = self._parts()
        self._sound.update(path for path in paths if path not in self._sound and self._is_sound(path))
        return [path for path in paths if path in self._sound]

    def discard(self) -> None:
        """Remove the folder and all in it."""
        self._discarded = True
        with suppress(OSError):  # What cannot be removed is still of the run that is written down.
            self._clear()
            shutil.rmtree(self.path, ignore_errors=True)

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def _clear(self) -> None:
        # What they are of goes last, so that parts are never there without it.
        for path in (*self._parts(), self.path / RUN):
            path.unlink(missing_ok=True)

    def _is_sound(self, path: Path, *, again: bool = True) -> bool:
        try:
            _check_part(path, whole=not self._shard)
        except FileNotFoundError:
            return False  # another shard found it damaged
        except layout.DAMAGE as error:
            _read_through(path)
            if again:  # A disk that failed once may do so no more.
                return self._is_sound(path, again=False)
            warnings.warn(f"{path} is damaged ({error}): removed, its images are extracted again", stacklevel=3)
            path.unlink(missing_ok=True)
            return False
        return True

    def _write(self, name: str, fill: Callable[[h5py.File], None]) -> None:
        with wrap_os_error(self.path / name, StoreError), writing(self.path / name) as file:
            fill(file)


def _fill_part(file: h5py.File, part: Part) -> None:
    if part.features:
        layout.write_values(file.create_group("features"), part.features)
    rows = file.create_group("rows")
    layout.write_strings(rows, "path", part.paths)
    layout.write_strings(rows, "digest", part.digests)
    layout.write_column(rows, "turned", np.array(part.exif_rotated, dtype=bool))
    layout.write_column(rows, "view", np.array(part.view_index or [0] * len(part.paths), "i4"))
    layout.write_failures(file, part.failures)


def _check_part(path: Path, *, whole: bool) -> None:
    """Raise one of ``layout.DAMAGE`` if a part is not as it was written, all of it or all but its features."""

    def read(name: str, item: h5py.Dataset | h5py.Group) -> None:
        # What is not None would end the visit.
        if isinstance(item, h5py.Dataset) and (whole or not name.startswith("features/")):
            item[()]

    with open_untrusted(path, StoreError) as file:
        file.visititems(read)
        layout.check_columns(file, optional=("label", "view"))


def _read_through(path: Path) -> None:
    """Read a file's bytes: where even they are not to be had, it is the disk or the right to read and no damage."""
    try:
        with path.open("rb") as file:
            while file.read(READ_BYTES):
                pass
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror or error}): mend that and run the same command again"
        ) from error
