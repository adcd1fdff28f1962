"""Find and read the files below a folder of this machine."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from featx.images.decoding.formats import SIGNATURE_BYTES, has_image_signature, image_suffixes, suffix_of
from featx.images.sources.found_files import THUMBNAIL, FoundFiles, is_system_folder

FolderId = tuple[int, int]
"""The device and inode of a folder. They are the same for all paths that lead to the folder."""
READERS = 8
"""Number of threads that look into files without a suffix. On a network disk, they wait for each other's answers."""
LOOP = "a symlink to a folder that contains it; not followed"
UNREADABLE = "cannot be read: "
"""Begins the reason that is reported for a file or folder that cannot be read now."""
NOT_FOUND = "does not exist"
"""The reason that is reported for a file that does not exist."""


def find_image_files(root: Path) -> FoundFiles:
    """Find the image files below a folder.

    Hidden files and folders are skipped. So are files and folders of file servers and operating systems. Symlinks to
    folders are followed, except those that would lead into a loop. Each folder needs one ``scandir``. Among the files,
    only symlinks need a ``stat``, and only files without a suffix are opened.
    """
    found, suffixes = FoundFiles(), image_suffixes()
    pending: list[tuple[str, tuple[FolderId, ...]]] = [("", ())]
    while pending:
        prefix, parents = pending.pop()
        folder = os.path.join(root, prefix)  # noqa: PTH118 - creating Path objects would take most of the time
        try:
            folder_id = _identify(folder)
            if folder_id in parents:
                found.failures.append((prefix.rstrip("/"), LOOP))
                continue
            folders = _scan(folder, prefix, found, suffixes)
        except OSError as error:
            found.failures.append((prefix.rstrip("/") or ".", _unreadable(error)))
            continue
        pending += [(name + "/", (*parents, folder_id)) for name in folders]
    if found.unnamed:
        with ThreadPoolExecutor(READERS) as pool:
            full_paths = [os.path.join(root, path) for path in found.unnamed]  # noqa: PTH118
            found.take_unnamed(dict(zip(found.unnamed, pool.map(has_image_bytes, full_paths), strict=True)))
    return found


def has_image_bytes(path: str) -> bool:
    """Return whether a file is an image by its first bytes; False if it cannot be read or is not a regular file."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - opening a pipe would wait for its other end
            return False
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return has_image_signature(file.read(SIGNATURE_BYTES))
    except (OSError, ValueError):
        return False


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
        """Explain why a file is missing; return ``""`` if it exists, or if the user may not look it up."""
        full = os.path.join(self.root, path)  # noqa: PTH118 - a million Path objects would take seconds
        if os.path.isfile(full):  # noqa: PTH113
            return ""
        try:
            os.stat(full)  # noqa: PTH116
        except PermissionError:
            return ""  # It may exist. Reading it reports why it cannot be read.
        except (OSError, ValueError):
            pass
        return "is not a regular file" if os.path.lexists(full) else NOT_FOUND

    def find_images(self) -> FoundFiles:
        """Find the image files."""
        return find_image_files(self.root)


def _identify(folder: str) -> FolderId:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _scan(folder: str, prefix: str, found: FoundFiles, suffixes: frozenset[str]) -> list[str]:
    """Add the files of one folder to ``found``, and return the relative paths of its sub-folders."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                found.hide(name)
                continue
            path, suffix = prefix + name, suffix_of(name)
            try:
                if entry.is_dir():
                    if is_system_folder(name):
                        found.system[name] += 1
                    else:
                        folders.append(path)
                elif suffix not in suffixes:
                    found.skip(path, name, suffix)
                elif name.startswith(THUMBNAIL):
                    found.system[THUMBNAIL + "*"] += 1
                elif entry.is_file():
                    found.paths.append(path)
                else:
                    found.failures.append((path, "not a regular file, or a broken symlink"))
            except OSError as error:
                found.failures.append((path, _unreadable(error)))
    return folders


def _unreadable(error: OSError) -> str:
    return f"{UNREADABLE}{error.strerror or error}"
