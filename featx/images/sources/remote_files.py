"""Files behind a URL that fsspec knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from featx.errors import ImageError, ListingError
from featx.files import URL_IMAGE
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.local_files import FoundFiles
from featx.runtime import import_optional, missing_extras


class RemoteFiles:
    """Files below a URL: those of a bucket, a hub or an archive, by fsspec."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._folder = system, root.rstrip("/")
        self.root: str = system.unstrip_protocol(root).rstrip("/")

    def open(self, path: str) -> BinaryIO:
        """As `Files.open`."""
        with asking():
            return cast(BinaryIO, self._system.open(f"{self._folder}/{path}", "rb"))

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """As `Files.read`; of a whole file no more than the limit, whatever a service sends."""
        largest = URL_IMAGE.bytes
        stop = start + (largest + 1 if size is None else size)
        with asking():
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

    def walk(self) -> FoundFiles:
        """As `Files.walk`."""
        found, suffixes = FoundFiles(), image_suffixes()
        start = len(self._folder) + 1
        with asking():
            names = sorted(self._system.find(self._folder))
        for path in (full[start:] for full in names):
            if any(name.startswith(".") for name in path.split("/")):
                continue
            if suffix_of(path.rpartition("/")[2]) in suffixes:
                found.paths.append(path)
            else:
                found.skip(path)
        return found


@contextmanager
def asking() -> Iterator[None]:
    """What a service raises as an ``OSError``: each has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def connect(url: str) -> tuple[Any, str]:
    fsspec = import_optional("fsspec", "remote", url)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise missing_extras("remote", url, error) from error
    except ValueError as error:
        raise ListingError(f"{url} must be a folder, a file or a URL that fsspec knows: {error}") from error
    return system, path
