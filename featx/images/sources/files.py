"""Read files below a root; the root is a folder or a URL."""

import os
import re
from pathlib import Path
from typing import BinaryIO, Protocol

from featx.errors import ImageError, ListingError
from featx.images.sources.found_files import FoundFiles
from featx.images.sources.local_files import LocalFiles
from featx.images.sources.remote_files import RemoteFiles, connect, service_errors

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[a-z]+::")


class Files(Protocol):
    """The files below one root. Paths are relative to the root and have ``/`` separators.

    A method that cannot access a file raises ``OSError`` or ``ValueError``.
    """

    @property
    def root(self) -> Path | str:
        """The root, as a folder or a URL."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; the result supports ``seek``."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Read a file from byte ``start`` on: to its end, or at most ``size`` bytes."""

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; 0 if the number is not known without reading the file."""

    def missing_reason(self, path: str) -> str:
        """Explain why a file is missing; return ``""`` if it exists, or if this is not known without reading it."""

    def find_images(self) -> FoundFiles:
        """Find the image files, and the container files, which hold many images."""


def open_root(root: str | Path) -> Files:
    """Return an object that reads the files below a folder or a URL.

    Raises
    ------
    EngineError
        If the package for the URL is not installed.
    ListingError
        If fsspec does not support the URL.
    """
    if not is_url(root):
        return LocalFiles(Path(root))
    return RemoteFiles(*connect(str(root)))


def locate_source(source: str | Path) -> tuple[Files, str]:
    """Find the folder of a source, and the name of the source in this folder.

    If the source itself is a folder, it is returned with the name ``""``.

    Raises
    ------
    EngineError
        If the package for a URL is not installed.
    ListingError
        If fsspec does not support a URL, or nothing exists at the URL.
    """
    if not is_url(source):
        path = Path(source)
        return (LocalFiles(path), "") if path.is_dir() else (LocalFiles(path.parent), path.name)
    system, remote_path = connect(str(source))
    try:
        with service_errors():
            is_folder, exists = system.isdir(remote_path), system.exists(remote_path)
    except OSError as error:
        raise ListingError(f"{source} cannot be reached: {error}") from error
    if not exists:
        raise ListingError(f"{source} must be a folder or a file, but does not exist")
    folder, _, name = remote_path.rstrip("/").rpartition("/")
    return (RemoteFiles(system, remote_path), "") if is_folder else (RemoteFiles(system, folder), name)


def read_file(path: str | Path) -> bytes:
    """Read a file by its whole path or URL.

    Raises
    ------
    ImageError, OSError, ValueError
        If the file cannot be read.
    """
    if not is_url(path):
        return Path(path).read_bytes()
    try:
        system, remote_path = connect(str(path))
    except ListingError as error:
        raise ImageError(f"cannot be read: {error}") from error
    folder, _, name = remote_path.rpartition("/")
    return RemoteFiles(system, folder).read(name)


def is_url(source: str | Path) -> bool:
    """Return whether a source is a URL rather than a path of this machine."""
    return isinstance(source, str) and bool(_URL.match(source))


def full_path(root: Path | str, path: str) -> str:
    """Join a root and a path, to show them in a message."""
    return str(root / path) if isinstance(root, Path) else f"{root}/{path}"


def check_inside_root(root: str | Path, path: str) -> None:
    """Raise ``ImageError`` if a path leads out of its root; the path may come from a stranger's store."""
    if is_url(root):
        outside = ".." in path.split("/")
    else:
        # Symlinks are not resolved, because a symlink in the user's own folder may lead anywhere.
        top = Path(os.path.abspath(root))  # noqa: PTH100
        outside = not Path(os.path.abspath(top / path)).is_relative_to(top)  # noqa: PTH100
    if outside:
        raise ImageError("leads out of the root")


def check_no_root(root: object, source: object) -> None:
    """Raise ``ListingError`` if a root is given for a source that needs none."""
    if root is not None:
        raise ListingError(
            f"--root must be left out for {source}: it is only for the paths of a manifest or of a sequence"
        )
