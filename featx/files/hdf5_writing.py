"""Create an HDF5 file completely or not at all, even if the disk fails."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from featx.files.atomic import atomic_write
from featx.runtime import defer_signals

LIBVER = ("v110", "v110")
"""The version of the HDF5 file format. It is the oldest one that has checksums on its metadata."""


class _GuardedFile(io.FileIO):
    """A file that records the first write error and reports every write as successful.

    If a write fails, HDF5 crashes the process when the file is closed, so HDF5 must never see a failed write. It also
    crashes if a callback raises an exception such as ``KeyboardInterrupt``. Therefore `create_hdf5` defers signals.
    """

    error: OSError | None = None

    def write(self, data: object, /) -> int:
        """Write ``data`` completely, or record the error; return the number of bytes in ``data``."""
        view = memoryview(data)  # type: ignore[arg-type]
        done = 0
        try:
            while done < len(view) and not self.error:
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file, or record the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def create_hdf5(path: Path, scratch: Path | None = None) -> Iterator[h5py.File]:
    """Create an HDF5 file in a ``with`` block; it appears at ``path`` if the block succeeds.

    Ctrl-C and SIGTERM take effect only after the block.

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
