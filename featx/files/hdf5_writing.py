"""Create an HDF5 file completely or not at all, also on a disk that fails."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from featx.files.atomic import atomic_write
from featx.runtime import defer_signals

LIBVER = ("v110", "v110")
"""The HDF5 file format: the oldest one with checksums on its metadata."""


class _GuardedFile(io.FileIO):
    """A file that records the first write error and reports every later write as successful.

    HDF5 crashes the process when a file is closed after a failed write, so it must never see one. An exception inside a
    callback, such as ``KeyboardInterrupt``, crashes it too: `create_hdf5` therefore defers signals.
    """

    error: OSError | None = None

    def write(self, data: object, /) -> int:
        """Write all of ``data``."""
        view = memoryview(data)  # type: ignore[arg-type]
        done = 0
        try:
            while done < len(view) and not self.error:
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def create_hdf5(path: Path, scratch: Path | None = None) -> Iterator[h5py.File]:
    """Create an HDF5 file that appears at ``path`` when the ``with`` block succeeds.

    Ctrl-C and SIGTERM take effect after the block.

    Parameters
    ----------
    path : Path
        The file to create; an existing file is replaced.
    scratch : Path, optional
        Folder of the temporary file; see `atomic_write`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with defer_signals(), atomic_write(path, scratch=scratch) as temporary, _GuardedFile(temporary, "w+") as raw:
        with h5py.File(raw, "w", libver=LIBVER) as file:
            yield file
        if raw.error:
            raise raw.error
