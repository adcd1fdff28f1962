"""Open HDF5 files from untrusted sources. Reading such a file must not read other files, run code or exhaust memory.

HDF5 itself follows links to other files, reads datasets from files with any name, loads filters from a folder of
plugins, and decompresses a chunk of any size. So the structure of a file is checked before any data is read.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import h5py
from h5py import h5d, h5l, h5z

from featx.errors import FeatxError
from featx.files.hdf5_heaps import check_layout_heap
from featx.files.limits import CHUNK, DATASET
from featx.files.read_errors import READ_ERRORS, disk_has_no_locks, unreadable_error

FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
"""The allowed filters. They are part of HDF5, and the size of their output can be limited."""
CHUNK_OVERHEAD = 1 << 12
"""Number of bytes by which a chunk may grow if it cannot be compressed. They hold a checksum and headers of deflate."""
SPARE_FILES = 256
"""Number of files that a process may open in addition to those of a virtual store."""
MAX_EXPANSION = 32
"""Largest size of a dataset, divided by the size of its file. A dataset may always have the size of the limit
``dataset``."""


def open_untrusted(path: Path | IO[bytes], error: type[FeatxError], name: str | None = None) -> h5py.File:
    """Open an HDF5 file for reading, after checking that reading it is safe.

    Parameters
    ----------
    path : Path or binary file
    error : type of FeatxError
        The error to raise if the file is not safe.
    name : str, optional
        The name of the file in error messages, by default its path.

    Returns
    -------
    h5py.File

    Raises
    ------
    FeatxError
        ``error``, if the file is not safe. A file is not safe if it has one of these:

        - an external link, a soft link or external storage,
        - a virtual dataset that refers to a file outside the folder of ``path``,
        - a filter other than gzip, shuffle and fletcher32,
        - data of variable length,
        - a dataset or a chunk that is far larger than its stored bytes.

        If ``error`` is the class of stores or weights, `featx.errors.FileUnreadable` is raised as a subclass of it if
        the file, or a file that it refers to, cannot be read now.
    FileNotFoundError
        If the file does not exist.
    OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError
        If the file is damaged (`featx.files.READ_ERRORS`).
    """
    checker = _Checker(error, Path(path).resolve().parent if isinstance(path, Path) else None)
    try:
        return checker.open(path, name or str(path))
    except (FeatxError, FileNotFoundError):
        raise
    except READ_ERRORS as problem:
        if unreadable := unreadable_error(name or str(path), problem, error):
            raise unreadable from problem
        raise


def oversize_reason(claimed: int, stored: int) -> str:
    """Return the end of an error message if data claims far more bytes than are stored, else ``""``."""
    if claimed <= max(DATASET.bytes, MAX_EXPANSION * stored):
        return ""
    return (
        f"claims {claimed:,} bytes but is stored in {stored:,}, more than {MAX_EXPANSION} times as many; do not use "
        f"it, or, if you trust its author, {DATASET.remedy}"
    )


def _raise_open_file_limit(files: int) -> None:
    """Raise the limit of open files so that a virtual store with this many files can be read, if the system allows it.

    The limit is often 1,024. If HDF5 cannot open a source file of a virtual dataset, it reports no error, but treats
    the rows of this file as missing.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + SPARE_FILES if hard == resource.RLIM_INFINITY else min(files + SPARE_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Checker:
    """Check a file, and check each source file of its virtual datasets once."""

    def __init__(self, error: type[FeatxError], folder: Path | None) -> None:
        self._error, self._folder = error, folder
        self._sizes: dict[str, int] = {}

    def open(self, path: Path | IO[bytes], name: str) -> h5py.File:
        """Open a file and check it."""
        # HDF5 looks for source files in the folder of the path that it opens. Resolve the path first, because
        # `_check_source` looks in the folder of the resolved path.
        file = _open(path.resolve() if isinstance(path, Path) else path)
        try:
            with path.open("rb") if isinstance(path, Path) else nullcontext(cast(BinaryIO, path)) as raw:
                self._check(file, raw, name)
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, file: h5py.File, raw: BinaryIO, whose: str) -> None:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise ValueError("its addresses do not have eight bytes")
        addresses, size = dict[bytes, int](), raw.seek(0, os.SEEK_END)

        def collect(name: bytes, link: Any) -> str | None:
            addresses[name] = link.u
            # HDF5 stops at the first result that is not None. An exception would be lost, so none is raised here.
            return None if link.type == h5l.TYPE_HARD else "a soft" if link.type == h5l.TYPE_SOFT else "an external"

        if kind := file.id.links.visit(collect, info=True):
            raise self._error(
                f"{whose} must hold its data itself, but {_text(list(addresses)[-1])} is {kind} link; do not use it"
            )
        for name, address in addresses.items():
            check_layout_heap(file, raw, address)
            try:
                dataset = h5d.open(file.id, name)
            except (TypeError, ValueError, KeyError):
                continue  # This is a group, which holds no data.
            self._check_dataset(dataset, f"{_text(name)} of {whose}", size)

    def _check_dataset(self, dataset: Any, name: str, size: int) -> None:
        """Check how a dataset is stored, and then its shape. Reading the shape may open the source files."""
        stored = dataset.get_create_plist()
        if stored.get_external_count():
            raise self._error(f"{name} must be in the file itself, but its data is in another; do not use it")
        if stored.get_layout() == h5d.VIRTUAL:
            size += sum(self._check_source(source, name) for source in _virtual_sources(stored))
            _raise_open_file_limit(len(self._sizes))
        filters = [stored.get_filter(number)[0] for number in range(stored.get_nfilters())]
        if unknown := sorted(set(filters) - FILTERS.keys()):
            raise self._error(
                f"{name} must be stored with no filter but {', '.join(FILTERS.values())}, got number {unknown[0]}, "
                "which may load code; write it without that filter"
            )
        if len(filters) > len(set(filters)):
            repeated = FILTERS[max(filters, key=filters.count)]
            raise self._error(f"{name} must be stored with each filter once, got {repeated} repeatedly; do not use it")
        if dataset.dtype.hasobject:
            raise self._error(f"{name} must have a type of fixed length, got {dataset.dtype}")
        claimed = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        if reason := oversize_reason(claimed, size):
            raise self._error(f"{name} {reason}")
        if h5z.FILTER_DEFLATE in filters:
            self._check_chunks(dataset, stored, name)

    def _check_chunks(self, dataset: Any, stored: Any, name: str) -> None:
        chunk = math.prod(stored.get_chunk()) * dataset.dtype.itemsize
        if chunk > max(CHUNK.bytes, dataset.dtype.itemsize):
            raise self._error(
                f"{name} must have compressed chunks of at most {CHUNK.bytes:,} bytes, got {chunk:,}; {CHUNK.remedy}"
            )

        # HDF5 decompresses a stored chunk completely, even if the result is larger than a chunk of the dataset.
        most = chunk + chunk // 100 + CHUNK_OVERHEAD
        if larger := dataset.chunk_iter(lambda info: info.size if info.size > most else None):
            raise self._error(
                f"{name} must have chunks that are no larger compressed than the {chunk:,} bytes of their data, "
                f"got {larger:,} bytes; do not use it"
            )

    def _check_source(self, source: str, name: str) -> int:
        """Check a source file of a virtual dataset and return its size in bytes."""
        if source == ".":
            return 0
        if source in self._sizes:
            return self._sizes[source]
        if self._folder is None or "%" in source or os.path.isabs(source):  # noqa: PTH117
            raise self._error(f"{name} must be made of files in its own folder, got {source!r}; do not use it")
        path = (self._folder / source).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise self._error(
                f"{name} must be made of files in its own folder, got {source!r}, which is not one; "
                "copy the folder with all its files"
            )
        # A source file must not refer to further source files, because HDF5 would look for them in another folder
        # than this check.
        try:
            _Checker(self._error, None).open(path, str(path)).close()
        except READ_ERRORS as problem:
            # Name this file in the message, and not the store that refers to it.
            if unreadable := unreadable_error(path, problem, self._error):
                raise unreadable from problem
            raise
        self._sizes[source] = path.stat().st_size
        return self._sizes[source]


def _open(path: Path | IO[bytes]) -> h5py.File:
    """Open a file for reading; if its disk has no locks, open it without one."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not disk_has_no_locks(error):
            raise
    return h5py.File(path, "r", locking=False)


def _virtual_sources(stored: Any) -> Iterator[str]:
    """Iterate over the names of a virtual dataset's source files, each name once."""
    yield from dict.fromkeys(stored.get_virtual_filename(number) for number in range(stored.get_virtual_count()))


def _text(name: bytes) -> str:
    return ascii(name.decode("utf-8", "replace"))[1:-1]
