"""Stores that refer to part files instead of holding their features a second time.

Beside ``photos.h5`` lies ``photos.h5.rows/`` with the part files, and ``/features/<name>`` of the store are HDF5
virtual datasets of them, by paths relative to the store, so that store and folder can be moved together. Parts are
linked there, not moved: until the store is there, those of the run stay where a resumed run looks for them.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import h5py
import numpy as np

from featx.errors import StoreError
from featx.files import atomic_write, open_untrusted, wrap_os_error
from featx.store.layout import runs_of

SUFFIX = ".rows"
MISSING = np.float32(np.nan)
"""What HDF5 gives for rows of a part that is no longer there."""


def rows_folder(store: Path) -> Path:
    """The folder of the parts that a virtual store refers to."""
    return store.with_name(store.name + SUFFIX)


def is_virtual(file: h5py.File) -> bool:
    """Whether a store's features are in other files."""
    return any(dataset.is_virtual for dataset in file.get("features", {}).values())


def referred(file: h5py.File) -> set[str]:
    """The files that a store's features are in, relative to its folder; empty for one that holds them itself."""
    features = [dataset for dataset in file.get("features", {}).values() if dataset.is_virtual]
    return {source.file_name for dataset in features for source in dataset.virtual_sources()}


def adopt(store: Path, sources: Iterable[Path]) -> list[Path]:
    """Link parts into the store's folder of rows, copy them where the disk has no links; give their new paths.

    A store is a part like another, if it holds its features; of a virtual one its parts are there.
    """
    folder = rows_folder(store)
    parts = list[Path]()
    with wrap_os_error(folder, StoreError):
        folder.mkdir(exist_ok=True)
        for source in sources:
            with open_untrusted(source, StoreError) as file:
                names = referred(file)
            of = [source.parent / name for name in sorted(names)] or [source]
            parts += [part if part.parent == folder else _adopt(folder, part) for part in of]
    return parts


def _adopt(folder: Path, part: Path) -> Path:
    # A store that is there may refer to another part of this name, from before --overwrite.
    for number in count():
        target = folder / (f"{number}-{part.name}" if number else part.name)
        if not target.exists():
            break
        if target.samefile(part):
            return target
    try:
        os.link(part, target)
    except OSError:
        with atomic_write(target, StoreError) as temporary:
            shutil.copyfile(part, temporary)
    return target


def create_virtual(
    group: h5py.Group, name: str, shape: tuple[int, int], runs: Sequence[tuple[str, int, np.ndarray, np.ndarray]]
) -> None:
    """A float32 (rows, width) dataset whose rows are in other files.

    Each of ``runs`` is a file, relative to the store's folder, its number of rows, and which of these are which of the
    dataset's.
    """
    virtual = h5py.VirtualLayout(shape, "f4")
    for file, length, from_rows, to_rows in runs:
        source = h5py.VirtualSource(file, f"features/{name}", (length, shape[1]), "f4")
        for first, last in runs_of(from_rows, to_rows):
            begin, end, size = int(from_rows[first]), int(to_rows[first]), last - first
            virtual[end : end + size] = source[begin : begin + size]
    group.create_virtual_dataset(name, virtual, fillvalue=MISSING)


def check_read(rows: np.ndarray, whose: str) -> None:
    """Raise ``StoreError`` if rows (n, width) that were read are among the `MISSING`: HDF5 says nothing of them."""
    if np.isnan(rows).all(axis=1).any():
        raise StoreError(
            f"{whose} lacks rows whose part file cannot be opened: all parts must be beside the store, and as many "
            "files may be open; raise that with ulimit -n"
        )


def tidy(store: Path) -> None:
    """Remove the parts beside a store that no store there refers to, neither this one nor another, such as a copy."""
    folder = rows_folder(store)
    if not folder.is_dir():
        return
    # What cannot be removed is only in the way of the disk; what cannot be read may refer to them.
    with suppress(OSError, RuntimeError, TypeError, ValueError):
        used = set[str]()
        for path in store.parent.iterdir():
            if path.is_file() and h5py.is_hdf5(path):
                with open_untrusted(path, StoreError) as file:
                    used |= referred(file)
        for path in folder.glob("*.h5"):
            if f"{folder.name}/{path.name}" not in used:
                path.unlink()
        folder.rmdir()  # if it is empty
