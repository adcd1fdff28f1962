"""Where files lie: in a folder of this machine, or behind a URL that fsspec knows."""

import os
import re
from pathlib import Path
from typing import BinaryIO, Protocol

from featx.errors import ImageError, ListingError
from featx.images.sources.local_files import FoundFiles, LocalFiles
from featx.images.sources.remote_files import RemoteFiles, asking, connect

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[a-z]+::")


class Files(Protocol):
    """Files below one root, by paths relative to it with ``/`` separators."""

    @property
    def root(self) -> Path | str:
        """A folder, or a URL."""

    def open(self, path: str) -> BinaryIO:
        """A file to read from, that can seek; ``OSError`` or ``ValueError`` if that fails."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """A file's bytes, or those from ``start`` on; ``OSError`` or ``ValueError`` if that fails."""

    def size(self, path: str) -> int:
        """A file's bytes, 0 if only reading it can tell; ``OSError`` or ``ValueError`` if that fails."""

    def missing(self, path: str) -> str:
        """Why there is no such file; ``""`` if there is, or if only reading it can tell."""

    def walk(self) -> FoundFiles:
        """The image files, and those that hold many images; ``OSError`` if a service does not say."""


def check_inside_root(root: str | Path, path: str) -> None:
    """Raise ``ImageError`` if a path leads out of its root: a store's may be a stranger's. Links are followed."""
    if is_url(root):
        out = ".." in path.split("/")
    else:
        top = Path(os.path.abspath(root))  # noqa: PTH100 - not resolved: links in a person's own folder are followed
        out = not Path(os.path.abspath(top / path)).is_relative_to(top)  # noqa: PTH100
    if out:
        raise ImageError("leads out of the root")


def full_path(root: Path | str, path: str) -> str:
    """What a person finds a file below a root by."""
    return str(root / path) if isinstance(root, Path) else f"{root}/{path}"


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL, and no path of this machine."""
    return isinstance(source, str) and bool(_URL.match(source))


def check_no_root(root: object, source: object) -> None:
    """Raise ``ListingError`` if a root is given for a source that has no paths relative to one."""
    if root is not None:
        raise ListingError(f"--root must be left out for {source}: it is what the paths of a manifest or of a sequence "
                           "are relative to")  # fmt: skip


def open_root(root: str | Path) -> Files:
    """The files below a folder or a URL.

    Raises
    ------
    EngineError
        If the package that knows the URL is not installed.
    ListingError
        If no package knows it.
    """
    if not is_url(root):
        return LocalFiles(Path(root))
    return RemoteFiles(*connect(str(root)))


def locate_source(source: str | Path) -> tuple[Files, str]:
    """The files among which a source is, and its name there, ``""`` for a folder; errors as `open_root`."""
    if not is_url(source):
        place = Path(source)
        return (LocalFiles(place), "") if place.is_dir() else (LocalFiles(place.parent), place.name)
    system, path = connect(str(source))
    try:
        with asking():
            is_folder, is_there = system.isdir(path), system.exists(path)
    except OSError as error:
        raise ListingError(f"{source} cannot be reached: {error}") from error
    if not is_there:
        raise ListingError(f"{source} must be a folder or a file, but there is nothing")
    folder, _, name = path.rstrip("/").rpartition("/")
    return (RemoteFiles(system, path), "") if is_folder else (RemoteFiles(system, folder), name)
