"""Find and read the files below a folder of this machine."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from featx.images.decoding.formats import image_suffixes, suffix_of

FolderId = tuple[int, int]
"""The device and inode of a folder. They are the same for all paths that lead to the folder."""
CONTAINERS = (".tar", ".parquet")
"""Suffixes of container files, which hold many images; `any_source.CONTAINER_LISTERS` has a function for each."""
LOOP = "a symlink to a folder that contains it; not followed"
NOT_FOUND = "does not exist"
"""The reason that is reported for a file that does not exist."""


@dataclass
class FoundFiles:
    """The files below a folder, by paths relative to it.

    Attributes
    ----------
    paths : list of str
        Image files.
    failures : list of (str, str)
        The path of each file or folder that could not be listed, and the reason.
    skipped : Counter
        For each suffix, the number of files that are not images.
    containers : list of str
        Those of the skipped files that hold many images.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    containers: list[str] = field(default_factory=list)

    def skip(self, path: str) -> None:
        """Count a file that is not an image."""
        suffix = suffix_of(path.rpartition("/")[2])
        self.skipped[suffix or "no suffix"] += 1
        if suffix in CONTAINERS:
            self.containers.append(path)


def find_image_files(root: Path) -> FoundFiles:
    """Find the image files below a folder.

    Hidden files and folders are skipped. Symlinks to folders are followed, except those that would lead into a loop.
    Each folder needs one ``scandir``. Among the files, only symlinks need a ``stat``.
    """
    found = FoundFiles()
    pending: list[tuple[str, tuple[FolderId, ...]]] = [("", ())]
    while pending:
        prefix, parents = pending.pop()
        folder = os.path.join(root, prefix)  # noqa: PTH118 - creating Path objects would take most of the time
        try:
            folder_id = _identify(folder)
            if folder_id in parents:
                found.failures.append((prefix.rstrip("/"), LOOP))
                continue
            folders = _scan(folder, prefix, found)
        except OSError as error:
            found.failures.append((prefix.rstrip("/") or ".", _unreadable(error)))
            continue
        pending += [(name + "/", (*parents, folder_id)) for name in folders]
    return found


class LocalFiles:
    """Files below a folder of this machine (see `featx.images.sources.files.Files`); absolute paths are allowed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str) -> BinaryIO:
        """Open a file."""
        return (self.root / path).open("rb")

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Read a file, or a part of it."""
        with self.open(path) as file:
            file.seek(start)
            return file.read(-1 if size is None else size)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        return os.stat(os.path.join(self.root, path)).st_size  # noqa: PTH116, PTH118 - as in `missing_reason`

    def missing_reason(self, path: str) -> str:
        """Explain why a file is missing; return ``""`` if it exists."""
        full = os.path.join(self.root, path)  # noqa: PTH118 - a million Path objects would take seconds
        if os.path.isfile(full):  # noqa: PTH113
            return ""
        return "is not a regular file" if os.path.lexists(full) else NOT_FOUND

    def find_images(self) -> FoundFiles:
        """Find the image files."""
        return find_image_files(self.root)


def _identify(folder: str) -> FolderId:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _scan(folder: str, prefix: str, found: FoundFiles) -> list[str]:
    """Add the files of one folder to ``found``, and return the relative paths of its sub-folders."""
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
                    found.failures.append((path, "not a regular file, or a broken symlink"))
            except OSError as error:
                found.failures.append((path, _unreadable(error)))
    return folders


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
