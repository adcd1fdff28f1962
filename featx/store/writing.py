"""Writing an HDF5 file whole or not at all, on a disk that may fail."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from featx.files import atomic_write
from featx.runtime import defer_signals

LIBVER = ("v110", "v110")


class _GuardedFile(io.FileIO):
    """What HDF5 writes to: keeps the first error and takes all that follows as written.

    HDF5 does not survive a failed write: it crashes the process when its objects are closed. So it never sees one.
    Nor does it survive an exception in here, such as that of Ctrl-C: `writing` keeps signals waiting.
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
        """Set the file's length."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def writing(path: Path, scratch: Path | None = None) -> Iterator[h5py.File]:
    """An HDF5 file to fill, which appears at ``path`` once the block ends well; ``OSError`` if the disk fails.

    Ctrl-C and SIGTERM wait for its end.
    """
    with defer_signals(), atomic_write(path, scratch=scratch) as temporary, _GuardedFile(temporary, "w+") as raw:
        with h5py.File(raw, "w", libver=LIBVER) as file:
            yield file
        if raw.error:
            raise raw.error
