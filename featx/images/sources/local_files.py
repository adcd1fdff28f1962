"""Find the image files under a folder, and the files that hold many images."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from featx.images.decoding.formats import image_suffixes, suffix_of

Identity = tuple[int, int]
CONTAINERS = (".tar", ".parquet")
"""Suffixes of files that hold many images."""
LOOP = "a symlink to a folder that it lies in; not followed"
NOT_FOUND = "does not exist"
"""Why a file is missing of which there is nothing."""


@dataclass
class FoundFiles:
    """Image files under a folder: relative paths, what could not be listed and why, suffixes passed over.

    Files that hold many images are among those passed over, and in ``containers``.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    containers: list[str] = field(default_factory=list)

    def skip(self, path: str) -> None:
        """Note a file that is no image."""
        suffix = suffix_of(path.rpartition("/")[2])
        self.skipped[suffix or "no suffix"] += 1
        if suffix in CONTAINERS:
            self.containers.append(path)


def find_files(root: Path) -> FoundFiles:
    """Collect image files; hidden names are passed over, symlinks to folders followed, loops cut.

    A million files cost one ``scandir`` a folder and no ``stat`` a file, except for symlinks.
    """
    found = FoundFiles()
    pending: list[tuple[str, tuple[Identity, ...]]] = [("", ())]
    while pending:
        prefix, above = pending.pop()
        folder = os.path.join(root, prefix)  # noqa: PTH118 - Path would be the slowest part of the walk
        try:
            here = _identity(folder)
            if here in above:
                found.failures.append((prefix.rstrip("/"), LOOP))
                continue
            folders = _scan(folder, prefix, found)
        except OSError as error:
            found.failures.append((prefix.rstrip("/") or ".", _unreadable(error)))
            continue
        pending += [(name + "/", (*above, here)) for name in folders]
    return found


def _identity(folder: str) -> Identity:
    """What tells one folder from another, whatever path leads there."""
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _scan(folder: str, prefix: str, found: FoundFiles) -> list[str]:
    """File one folder's entries; returns the relative paths of its sub-folders."""
    folders, suffixes = [], image_suffixes()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, suffix = prefix + entry.name, suffix_of(entry.name)
            try:
                if entry.is_dir():
                    folders.append(path)
                elif suffix not in suffixes:
                    found.skip(path)
                elif entry.is_file():
                    found.paths.append(path)
                else:
                    found.failures.append((path, "no regular file, or a symlink to nothing"))
            except OSError as error:
                found.failures.append((path, _unreadable(error)))
    return folders


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


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
        return "is no regular file" if os.path.lexists(full) else NOT_FOUND

    def walk(self) -> FoundFiles:
        """As `Files.walk`."""
        return find_files(self.root)
