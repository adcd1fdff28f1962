"""Find and read the files below a URL that fsspec supports, such as that of a bucket, a hub or an archive."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from featx.errors import ImageError, ListingError
from featx.files import URL_IMAGE
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.found_files import THUMBNAIL, FoundFiles, is_system_folder
from featx.runtime import import_optional, missing_extras


class RemoteFiles:
    """Files below a URL (see `featx.images.sources.files.Files`).

    Sizes and missing files are not looked up, because the request for an image would take as long as reading it.
    """

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._folder = system, root.rstrip("/")
        self.root: str = system.unstrip_protocol(root).rstrip("/")

    def relative(self, url: str) -> str | None:
        """Return the path, relative to the root, of a URL below the root; None for another URL."""
        path, folder = str(self._system._strip_protocol(url)), self._folder + "/"
        return path[len(folder) :] if path.startswith(folder) else None

    def open(self, path: str) -> BinaryIO:
        """Open a file."""
        with service_errors():
            return cast(BinaryIO, self._system.open(f"{self._folder}/{path}", "rb"))

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Read a file, or a part of it; raise ``ImageError`` if a whole file is larger than the limit."""
        limit = URL_IMAGE.bytes
        # A service may send more bytes than it announced, so ask for at most one byte more than the limit.
        stop = start + (limit + 1 if size is None else size)
        with service_errors():
            data = cast(bytes, self._system.cat_file(f"{self._folder}/{path}", start=start or None, end=stop))
        if size is None and len(data) > limit:
            raise ImageError(
                f"more than the {limit:,} bytes that are read from a URL: raise --max-pixels, and {URL_IMAGE.remedy}"
            )
        return data

    def size(self, path: str) -> int:
        """Return 0, because the size is unknown."""
        return 0

    def missing_reason(self, path: str) -> str:
        """Return ``""``, because it is unknown whether the file is missing."""
        return ""

    def find_images(self) -> FoundFiles:
        """Find the image files."""
        found, suffixes = FoundFiles(), image_suffixes()
        start = len(self._folder) + 1
        with service_errors():
            names = sorted(self._system.find(self._folder))
        for path in (name[start:] for name in names):
            *folders, name = path.split("/")
            suffix = suffix_of(name)
            if hidden := [part for part in (*folders, name) if part.startswith(".")]:
                found.hide(hidden[0])
            elif system := [part for part in folders if is_system_folder(part)]:
                found.system[system[0]] += 1
            elif suffix not in suffixes:
                found.skip(path, name, suffix)
            elif name.startswith(THUMBNAIL):
                found.system[THUMBNAIL + "*"] += 1
            else:
                found.paths.append(path)
        # Looking into a file would need a request, so files without a suffix are only counted.
        found.take_unnamed({})
        return found


def connect(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path of the URL in this file system.

    Raises
    ------
    EngineError
        If the package for the URL is not installed.
    ListingError
        If fsspec does not support the URL.
    """
    fsspec = import_optional("fsspec", "remote", url)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise missing_extras("remote", url, error) from error
    except ValueError as error:
        raise ListingError(f"{url} must be a folder, a file or a URL that fsspec supports: {error}") from error
    return system, path


@contextmanager
def service_errors() -> Iterator[None]:
    """Raise ``OSError`` instead of any other error of a service, because each service has its own error classes."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
