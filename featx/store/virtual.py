"""Create virtual stores, which refer to part files instead of copying their features.

The folder ``photos.h5.rows/`` with the part files is beside ``photos.h5``. Each ``/features/<name>`` of the store is an
HDF5 virtual dataset, which refers to the part files. Their paths are relative to the store, so that the store and the
folder can be moved together. Parts are hard-linked into the folder. They are not moved, because a resumed run needs
them in its own folder until the store exists.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import h5py
import numpy as np

from featx.errors import StoreError, StoreUnreadable
from featx.files import READ_ERRORS, atomic_write, check_readable, open_untrusted, wrap_os_error
from featx.store.datasets import contiguous_runs
from featx.store.schema import open_source

SUFFIX = ".rows"
MISSING = np.float32(np.nan)
"""If HDF5 cannot open the part file of a row, it returns this value."""


def linked_parts_folder(store: Path) -> Path:
    """Return the folder of the part files that a virtual store refers to."""
    return store.with_name(store.name + SUFFIX)


def source_files(file: h5py.File) -> set[str]:
    """Return the paths of the files that hold a virtual store's features; empty for other stores.

    Paths are relative to the folder of the store.
    """
    features = [dataset for dataset in file.get("features", {}).values() if dataset.is_virtual]
    return {source.file_name for dataset in features for source in dataset.virtual_sources()}


def link_parts(store: Path, sources: Iterable[Path]) -> list[Path]:
    """Hard-link part files into the folder beside a store, or copy them if the disk has no hard links.

    Parameters
    ----------
    store : Path
        The virtual store that is about to be written.
    sources : iterable of Path
        Part files and stores. A store whose own file holds its features is linked in the same way as a part.
        For a virtual store, the part files that it refers to are linked.

    Returns
    -------
    list of Path
        The linked files in the folder beside the store.
    """
    folder = linked_parts_folder(store)
    parts = list[Path]()
    with wrap_os_error(folder, StoreError):
        folder.mkdir(exist_ok=True)
        for source in sources:
            with open_source(source) as file:
                names = source_files(file)
            files = [source.parent / name for name in sorted(names)] or [source]
            parts += [part if part.parent == folder else _link(folder, part) for part in files]
    return parts


def _link(folder: Path, part: Path) -> Path:
    # An existing store may refer to another part with the same name. Keep that part, because --overwrite replaces the
    # store only at the end.
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
    group: h5py.Group, name: str, shape: tuple[int, int], sources: Sequence[tuple[str, int, np.ndarray, np.ndarray]]
) -> None:
    """Create a float32 virtual dataset whose rows are in other files.

    Parameters
    ----------
    group : h5py.Group
        Where to create the dataset.
    name : str
        Name of the feature.
    shape : (rows, width)
    sources : sequence of (file, rows, from_rows, to_rows)
        ``file`` is the path of a file, relative to the store's folder, and ``rows`` is its number of rows. Row
        ``from_rows[i]`` of the file is row ``to_rows[i]`` of the new dataset; both are int64 (n,).
    """
    virtual = h5py.VirtualLayout(shape, "f4")
    for file, length, from_rows, to_rows in sources:
        source = h5py.VirtualSource(file, f"features/{name}", (length, shape[1]), "f4")
        for first, last in contiguous_runs(from_rows, to_rows):
            read, written, size = int(from_rows[first]), int(to_rows[first]), last - first
            virtual[written : written + size] = source[read : read + size]
    group.create_virtual_dataset(name, virtual, fillvalue=MISSING)


def check_parts(whose: str, parts: Iterable[Path]) -> None:
    """Raise ``StoreUnreadable`` for the first part file that cannot be opened now.

    HDF5 itself names only the store in its errors, or reports no error at all. ``whose`` says in the message what the
    part holds.
    """
    for part in parts:
        try:
            open_untrusted(part, StoreError).close()
        except StoreUnreadable as error:
            raise type(error)(f"{whose} has rows in a file that cannot be opened: {error}") from error
        except READ_ERRORS:
            continue


def check_not_missing(rows: np.ndarray, whose: str, parts: Iterable[Path]) -> None:
    """Raise ``StoreError`` if any row of features (n, width) is missing, because HDF5 itself reports no error."""
    if np.isnan(rows).all(axis=1).any():
        check_parts(whose, parts)
        raise StoreError(
            f"{whose} has rows whose part file cannot be opened; keep all part files beside the store, and raise the "
            "limit of open files with ulimit -n"
        )


def remove_unused_parts(store: Path) -> None:
    """Remove linked part files that no store in the folder of ``store`` refers to."""
    folder = linked_parts_folder(store)
    if not folder.is_dir():
        return
    # A file that cannot be removed only takes space. If a file cannot be read, keep all parts, because it may be a
    # store that needs them.
    with suppress(*READ_ERRORS):
        used = set[str]()
        for path in store.parent.iterdir():
            if not path.is_file():
                continue
            check_readable(path, StoreError)
            if h5py.is_hdf5(path):
                with open_untrusted(path, StoreError) as file:
                    used |= source_files(file)
        for path in folder.glob("*.h5"):
            if f"{folder.name}/{path.name}" not in used:
                path.unlink()
        folder.rmdir()  # This fails if the folder is not empty.
