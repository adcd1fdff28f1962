"""Find the image files under a folder, and the files that hold many images."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from featx.images.formats import picture_suffixes, suffix_of

Identity = tuple[int, int]
CONTAINERS = (".tar", ".parquet")
"""Suffixes of files that hold many images."""
LOOP = "a symlink to a folder that it lies in; not followed"


@dataclass
class Found:
    """Image files under a folder: relative paths, what could not be listed and why, suffixes passed over.

    Files that hold many images are among those passed over, and in ``containers``.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    containers: list[str] = field(default_factory=list)

    def pass_over(self, path: str) -> None:
        """Note a file that is no image."""
        suffix = suffix_of(path.rpartition("/")[2])
        self.passed_over[suffix or "no suffix"] += 1
        if suffix in CONTAINERS:
            self.containers.append(path)


def walk(root: Path) -> Found:
    """Collect image files; hidden names are passed over, symlinks to folders followed, loops cut.

    A million files cost one ``scandir`` a folder and no ``stat`` a file, except for symlinks.
    """
    found = Found()
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


def _scan(folder: str, prefix: str, found: Found) -> list[str]:
    """File one folder's entries; returns the relative paths of its sub-folders."""
    folders, suffixes = [], picture_suffixes()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, suffix = prefix + entry.name, suffix_of(entry.name)
            try:
                if entry.is_dir():
                    folders.append(path)
                elif suffix not in suffixes:
                    found.pass_over(path)
                elif entry.is_file():
                    found.paths.append(path)
                else:
                    found.failures.append((path, "no regular file, or a symlink to nothing"))
            except OSError as error:
                found.failures.append((path, _unreadable(error)))
    return folders


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
