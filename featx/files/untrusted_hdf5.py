"""Open HDF5 files from untrusted sources: reading one must not read other files, run code or exhaust memory.

HDF5 follows links to other files, reads datasets from files of any name, loads filters from a folder of plugins, and
inflates a chunk to whatever size it has. All of this is checked in the file's structure, before any data is read.
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

FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
"""Allowed filters: they are part of HDF5, and the size of what they return can be bounded."""
CHUNK_OVERHEAD = 1 << 12
"""Bytes by which an incompressible chunk may grow: a checksum and the headers of deflate."""
SPARE_FILES = 256
"""Files that a process may open besides those of a virtual store."""
MAX_EXPANSION = 32
"""A dataset may be this many times larger than its file, or as large as the limit ``dataset``."""


def open_untrusted(path: Path | IO[bytes], error: type[FeatxError], name: str | None = None) -> h5py.File:
    """Open an HDF5 file for reading, after checking that reading it is safe.

    Parameters
    ----------
    path : Path or binary file
    error : type of FeatxError
        Raised if the file refers to other files or claims more data than it can hold.
    name : str, optional
        The file's name in error messages; by default its path.

    Returns
    -------
    h5py.File

    Raises
    ------
    FeatxError
        ``error``, if the file has an external or a soft link, external storage, a virtual dataset of a file that is not
        in the same folder or below it, a filter other than gzip, shuffle and fletcher32, data of variable length, or a
        dataset or chunk far larger than its stored bytes.
    OSError, RuntimeError, TypeError, ValueError
        If the file cannot be opened or is damaged.
    """
    checker = _Checker(error, Path(path).resolve().parent if isinstance(path, Path) else None)
    return checker.open(path, name or str(path))


def oversize_reason(claimed: int, stored: int) -> str:
    """Return the end of an error message if ``claimed`` bytes are too many for ``stored`` bytes, else ``""``."""
    if claimed <= max(DATASET.bytes, MAX_EXPANSION * stored):
        return ""
    return (
        f"claims {claimed:,} bytes but is stored in {stored:,}, more than {MAX_EXPANSION} times as many; do not use "
        f"it, or, if you trust its author, {DATASET.remedy}"
    )


def _raise_open_file_limit(files: int) -> None:
    """Raise the limit of open files, often 1,024, as far as the system lets this process.

    If HDF5 cannot open a source of a virtual dataset, it reports no error but treats its rows as missing.
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
    """Checks a file and, once each, the source files of its virtual datasets."""

    def __init__(self, error: type[FeatxError], folder: Path | None) -> None:
        self._error, self._folder = error, folder
        self._sizes: dict[str, int] = {}

    def open(self, path: Path | IO[bytes], name: str) -> h5py.File:
        """Open a file and check it."""
        # HDF5 looks for source files beside the name that it is given, the check looks beside the file itself.
        file = h5py.File(path.resolve() if isinstance(path, Path) else path, "r")
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
            # HDF5 stops at the first result that is not None. It does not pass on exceptions.
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
                continue  # a group, which holds no data
            self._check_dataset(dataset, f"{_text(name)} of {whose}", size)

    def _check_dataset(self, dataset: Any, name: str, size: int) -> None:
        """Check how a dataset is stored, and only then its shape: asking for that may open its source files."""
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

        # HDF5 inflates all of a stored chunk, even if it is more than the chunk should hold.
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
        # A source must not have sources of its own: HDF5 would look for them in this file's folder, which is not the
        # one that would be checked.
        _Checker(self._error, None).open(path, str(path)).close()
        self._sizes[source] = path.stat().st_size
        return self._sizes[source]


def _virtual_sources(stored: Any) -> Iterator[str]:
    """Iterate over the distinct file names of a virtual dataset."""
    yield from dict.fromkeys(stored.get_virtual_filename(number) for number in range(stored.get_virtual_count()))


def _text(name: bytes) -> str:
    return ascii(name.decode("utf-8", "replace"))[1:-1]
