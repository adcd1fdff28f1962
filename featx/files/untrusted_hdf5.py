"""Opening HDF5 files that anyone may have made, so that reading them reads nothing else, and no more than they hold.

HDF5 follows links to other files, keeps data in files of any name, loads a filter's code from a folder of plugins, and
inflates a chunk to whatever is in it. All of that is looked for in a file's structure, before any of its data is read.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import h5py
from h5py import h5d, h5l, h5z

from featx.errors import FeatxError
from featx.files.limits import CHUNK, DATASET

FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
"""The filters that are part of HDF5 itself and give no more than a chunk's bytes, or are bounded by what follows."""
SLACK = 1 << 12
"""By how many bytes what does not compress may grow: a checksum, and deflate's headers."""
SPARE = 256
"""Open files that a process may have beside those of a store."""
EXPANSION = 32
"""A dataset may be so many times as large as its file, or as the limit says."""


def open_untrusted(path: Path | IO[bytes], error: type[FeatxError], name: str | None = None) -> h5py.File:
    """Open an HDF5 file to read once it is sure that reading it reads nothing else.

    Parameters
    ----------
    path : Path or binary file
    error : type of FeatxError
        What to raise of a file that refers to others, or that claims to hold what it cannot.
    name : str, optional
        What messages call the file; by default its path.

    Raises
    ------
    FeatxError
        ``error``, if there is an external or a soft link, external storage, a virtual dataset of a file that is not in
        the same folder or below it, a filter other than gzip, shuffle and fletcher32, data of variable length, or a
        dataset or chunk that is far larger than what it is stored in.
    OSError, RuntimeError, TypeError, ValueError
        If the file cannot be opened, or is damaged.
    """
    checked = _Checked(error, Path(path).resolve().parent if isinstance(path, Path) else None)
    return checked.open(path, name or str(path))


def too_large(claimed: int, stored: int) -> str:
    """Why so many bytes are not read from so many: the rest of a message; ``""`` if they are."""
    if claimed <= max(DATASET.bytes, EXPANSION * stored):
        return ""
    return (f"claims {claimed:,} bytes and is stored in {stored:,}, more than {EXPANSION} times as many; do not use "
            f"it, or, if you know who made it, {DATASET.remedy}")  # fmt: skip


def allow_open(files: int) -> None:
    """Raise the limit of open files, often 1,024, as far as the system lets this process.

    A source of a virtual dataset that cannot be opened is no error to HDF5, but rows that are missing.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + SPARE if hard == resource.RLIM_INFINITY else min(files + SPARE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Checked:
    """The files that were checked on the way to one: itself, and the sources of its virtual datasets."""

    def __init__(self, error: type[FeatxError], folder: Path | None) -> None:
        self._error, self._folder = error, folder
        self._sizes: dict[str, int] = {}

    def open(self, path: Path | IO[bytes], name: str) -> h5py.File:
        """Open a file, and check it."""
        # HDF5 looks for sources beside the name that it is given, the check beside the file itself.
        file = h5py.File(path.resolve() if isinstance(path, Path) else path, "r")
        try:
            self._check(file, name, _size(path))
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, file: h5py.File, whose: str, size: int) -> None:
        names = list[bytes]()

        def collect(name: bytes, link: Any) -> str | None:
            names.append(name)
            # HDF5 stops at what is not None. It passes no exception on.
            return None if link.type == h5l.TYPE_HARD else "a soft" if link.type == h5l.TYPE_SOFT else "an external"

        if kind := file.id.links.visit(collect, info=True):
            raise self._error(f"{whose} must hold its data itself, but {_text(names[-1])} is {kind} link; "
                              "do not use it")  # fmt: skip
        for name in names:
            try:
                dataset = h5d.open(file.id, name)
            except (TypeError, ValueError, KeyError):
                continue  # What is no dataset holds no data.
            self._check_dataset(dataset, f"{_text(name)} of {whose}", size)

    def _check_dataset(self, dataset: Any, name: str, size: int) -> None:
        """Ask how a dataset is stored first: asking its shape may open the files that it refers to."""
        stored = dataset.get_create_plist()
        if stored.get_external_count():
            raise self._error(f"{name} must be in the file itself, but its data are in another; do not use it")
        if stored.get_layout() == h5d.VIRTUAL:
            size += sum(self._source(source, name) for source in _virtual_sources(stored))
            allow_open(len(self._sizes))
        filters = [stored.get_filter(number)[0] for number in range(stored.get_nfilters())]
        if wrong := sorted(set(filters) - FILTERS.keys()):
            raise self._error(f"{name} must be stored with no filter but {', '.join(FILTERS.values())}, "
                              f"got number {wrong[0]}, which may load code; write it without")  # fmt: skip
        if len(filters) > len(set(filters)):
            twice = FILTERS[max(filters, key=filters.count)]
            raise self._error(f"{name} must be stored with each filter once, got {twice} several times; do not use it")
        if dataset.dtype.hasobject:
            raise self._error(f"{name} must have a type of fixed length, got {dataset.dtype}")
        whole = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        if why := too_large(whole, size):
            raise self._error(f"{name} {why}")
        if h5z.FILTER_DEFLATE in filters:
            self._check_chunks(dataset, stored, name)

    def _check_chunks(self, dataset: Any, stored: Any, name: str) -> None:
        chunk = math.prod(stored.get_chunk()) * dataset.dtype.itemsize
        if chunk > max(CHUNK.bytes, dataset.dtype.itemsize):
            raise self._error(f"{name} must have compressed chunks of at most {CHUNK.bytes:,} bytes, got {chunk:,}; "
                              f"{CHUNK.remedy}")  # fmt: skip

        # HDF5 inflates all that is there, whatever a chunk should hold.
        most = chunk + chunk // 100 + SLACK
        if larger := dataset.chunk_iter(lambda info: info.size if info.size > most else None):
            raise self._error(f"{name} has a chunk of {larger:,} bytes, compressed, for {chunk:,} bytes of data")

    def _source(self, source: str, name: str) -> int:
        """Check a file that a virtual dataset is made of, once, and say how many bytes it has."""
        if source == ".":
            return 0
        if source in self._sizes:
            return self._sizes[source]
        if self._folder is None or "%" in source or os.path.isabs(source):  # noqa: PTH117 - a text, not yet a path
            raise self._error(f"{name} must be made of files in its own folder, got {source!r}; do not use it")
        path = (self._folder / source).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise self._error(f"{name} must be made of files in its own folder, got {source!r}, "
                              "which is none; copy the folder whole")  # fmt: skip
        # It may have no sources itself: HDF5 would look for them in the folder of this one, and not in that checked.
        _Checked(self._error, None).open(path, str(path)).close()
        self._sizes[source] = path.stat().st_size
        return self._sizes[source]


def _virtual_sources(stored: Any) -> Iterator[str]:
    """The different names of the files that a virtual dataset is made of."""
    yield from dict.fromkeys(stored.get_virtual_filename(number) for number in range(stored.get_virtual_count()))


def _size(path: Path | IO[bytes]) -> int:
    return path.stat().st_size if isinstance(path, Path) else path.seek(0, os.SEEK_END)


def _text(name: bytes) -> str:
    return ascii(name.decode("utf-8", "replace"))[1:-1]
