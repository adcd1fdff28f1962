"""Where files lie: in a folder of this machine, or behind a URL that fsspec knows."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from featx.errors import ImageError, ListingError
from featx.files import URL_IMAGE
from featx.images.formats import picture_suffixes, suffix_of
from featx.images.walk import Found, walk
from featx.runtime import import_optional, missing_extras

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[a-z]+::")

ABSENT = "does not exist"
"""Why a file is missing of which there is nothing."""


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

    def walk(self) -> Found:
        """The image files, and those that hold many images; ``OSError`` if a service does not say."""


def check_below(root: str | Path, path: str) -> None:
    """Raise ``ImageError`` if a path leads out of its root: a store's may be a stranger's. Links are followed."""
    if is_url(root):
        out = ".." in path.split("/")
    else:
        top = Path(os.path.abspath(root))  # noqa: PTH100 - not resolved: links in a person's own folder are followed
        out = not Path(os.path.abspath(top / path)).is_relative_to(top)  # noqa: PTH100
    if out:
        raise ImageError("leads out of the root")


class LocalFiles:
    """Files below a folder of this machine; an absolute path stands for itself."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str) -> BinaryIO:
        """As `Files.open`."""
        return (self.root / path).open("rb")

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """As `Files.read`."""
        with self.open(path) as file:
            file.seek(start)
            return file.read(-1 if size is None else size)

    def size(self, path: str) -> int:
        """As `Files.size`."""
        return os.stat(os.path.join(self.root, path)).st_size  # noqa: PTH116, PTH118 - as in `missing`

    def missing(self, path: str) -> str:
        """As `Files.missing`."""
        full = os.path.join(self.root, path)  # noqa: PTH118 - a million Path objects take seconds
        if os.path.isfile(full):  # noqa: PTH113
            return ""
        return "is no regular file" if os.path.lexists(full) else ABSENT

    def walk(self) -> Found:
        """As `Files.walk`."""
        return walk(self.root)


class RemoteFiles:
    """Files below a URL: those of a bucket, a hub or an archive, by fsspec."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._folder = system, root.rstrip("/")
        self.root: str = system.unstrip_protocol(root).rstrip("/")

    def open(self, path: str) -> BinaryIO:
        """As `Files.open`."""
        with _asking():
            return cast(BinaryIO, self._system.open(f"{self._folder}/{path}", "rb"))

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """As `Files.read`; of a whole file no more than the limit, whatever a service sends."""
        largest = URL_IMAGE.bytes
        stop = start + (largest + 1 if size is None else size)
        with _asking():
            data = cast(bytes, self._system.cat_file(f"{self._folder}/{path}", start=start or None, end=stop))
        if size is None and len(data) > largest:
            raise ImageError(f"more than the {largest:,} bytes that are read from a URL: raise --max-pixels, and "
                             f"{URL_IMAGE.remedy}")  # fmt: skip
        return data

    def size(self, path: str) -> int:
        """As `Files.size`; a question more an image would cost as much as reading it."""
        return 0

    def missing(self, path: str) -> str:
        """As `Files.missing`; a question more an image would cost as much as reading it."""
        return ""

    def walk(self) -> Found:
        """As `Files.walk`."""
        found, suffixes = Found(), picture_suffixes()
        start = len(self._folder) + 1
        with _asking():
            names = sorted(self._system.find(self._folder))
        for path in (full[start:] for full in names):
            if any(name.startswith(".") for name in path.split("/")):
                continue
            if suffix_of(path.rpartition("/")[2]) in suffixes:
                found.paths.append(path)
            else:
                found.pass_over(path)
        return found


@contextmanager
def _asking() -> Iterator[None]:
    """What a service raises as an ``OSError``: each has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def full_name(root: Path | str, path: str) -> str:
    """What a person finds a file below a root by."""
    return str(root / path) if isinstance(root, Path) else f"{root}/{path}"


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL, and no path of this machine."""
    return isinstance(source, str) and bool(_URL.match(source))


def no_root(root: object, source: object) -> None:
    """Raise ``ListingError`` if a root is given for a source that has no paths relative to one."""
    if root is not None:
        raise ListingError(f"--root must be left out for {source}: it is what the paths of a manifest or of a sequence "
                           "are relative to")  # fmt: skip


def files_below(root: str | Path) -> Files:
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
    return RemoteFiles(*_connect(str(root)))


def locate(source: str | Path) -> tuple[Files, str]:
    """The files among which a source is, and its name there, ``""`` for a folder; errors as `files_below`."""
    if not is_url(source):
        place = Path(source)
        return (LocalFiles(place), "") if place.is_dir() else (LocalFiles(place.parent), place.name)
    system, path = _connect(str(source))
    try:
        with _asking():
            is_folder, is_there = system.isdir(path), system.exists(path)
    except OSError as error:
        raise ListingError(f"{source} cannot be reached: {error}") from error
    if not is_there:
        raise ListingError(f"{source} must be a folder or a file, but there is nothing")
    folder, _, name = path.rstrip("/").rpartition("/")
    return (RemoteFiles(system, path), "") if is_folder else (RemoteFiles(system, folder), name)


def _connect(url: str) -> tuple[Any, str]:
    fsspec = import_optional("fsspec", "remote", url)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise missing_extras("remote", url, error) from error
    except ValueError as error:
        raise ListingError(f"{url} must be a folder, a file or a URL that fsspec knows: {error}") from error
    return system, path
