"""Read the paths of a manifest: bring them to their shortest form, and recognize how other programs write them."""

import itertools
import operator
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from featx.errors import ImageError, ListingError
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.files import Files
from featx.images.sources.local_files import NOT_FOUND, LocalFiles
from featx.images.sources.notes import Note
from featx.images.sources.remote_files import RemoteFiles
from featx.runtime import pluralize
from featx.table import StringArray, batched

NEEDS_NORMALIZING = ("//", "/.", "/\n", "\n/", "\n.", EMPTY := "\n\n")
"""Marks of a path that is not in its shortest form. They are looked for in all paths at once, joined by line ends."""
BLANKS = (" \n", "\n ")
"""Marks of a path that starts or ends with a blank."""
FILE_URL = "file://"
SCANNED = 100_000
"""Number of paths among which those are found that may have to be repaired."""
LOOKED_UP = 1000
"""Number of paths that are looked up to find out how a manifest writes paths."""
FOLDERS_LOOKED_UP = 1000
"""Number of entries of the root among which a folder with the files is looked for, to name it in a message."""
LOOKED_UP_REMOTE = 2
"""The same, if each look-up is a request to a service."""
USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".JPG", ".JPEG", ".PNG", ".TIF")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]*).")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def join_paths(texts: Sequence[str]) -> str:
    """Join texts with line ends. The result also begins and ends with a line end."""
    return "\n".join(["", *texts, ""])


class PathNormalizer:
    """Bring the paths of a manifest to their shortest form, relative to the root and with ``/`` separators.

    Parameters
    ----------
    images : Files
        The root of the paths.

    Attributes
    ----------
    absolute : int
        Number of paths that were absolute and below the root, so far.
    backslashes, blanks, letters : bool
        Whether any path has a backslash, whether any path starts or ends with a blank, and whether any path has a
        character that is not ASCII.
    """

    def __init__(self, images: Files) -> None:
        self.absolute, self.backslashes, self.blanks, self.letters = 0, False, False, False
        self._images, root = images, images.root
        # A root may be a link, and the absolute paths may lead through the link or not.
        folders = (root,) if isinstance(root, str) else (os.path.abspath(root), os.path.realpath(root))  # noqa: PTH100
        self._prefixes = tuple({f"{folder.replace(os.sep, '/').rstrip('/')}/" for folder in folders})

    def is_usual(self, joined: str) -> bool:
        """Return whether many paths, which `join_paths` has joined, are all relative and in their shortest form."""
        self.letters |= not joined.isascii()
        self.backslashes |= os.sep == "/" and "\\" in joined
        self.blanks |= " " in joined and any(mark in joined for mark in BLANKS)
        return os.sep == "/" and not any(mark in joined for mark in NEEDS_NORMALIZING)

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        """Normalize many paths. The usual case, that all of them are in their shortest form, is recognized at once.

        Raises
        ------
        ListingError
            If a path is empty, absolute and not below the root, or leads out of the root.
        """
        joined = join_paths(texts)
        for prefix in self._prefixes:
            if joined.startswith("\n" + prefix) and joined.count("\n" + prefix) == joined.count("\n") - 1 == len(texts):
                joined = joined.replace("\n" + prefix, "\n")
                self.absolute, texts = self.absolute + len(texts), joined[1:-1].split("\n")
                break
        return texts if self.is_usual(joined) else [self.normalize_one(text) for text in texts]

    def normalize_one(self, text: str) -> str:
        """Normalize one path; raise ``ListingError`` in the same cases as for many paths."""
        path = self._below_root(text)
        if path is None:
            self._check_relative(text)
            path = text.replace(os.sep, "/")
        else:
            self.absolute += 1
        path = posixpath.normpath(path)
        if path == "." or path.startswith("/") or path.partition("/")[0] == "..":
            raise ListingError(
                f"must name a file below the root by a relative path, got {text!r}; move the root (--root) or the file"
            )
        return path

    def _below_root(self, text: str) -> str | None:
        """Return an absolute path relative to the root; None if it is not absolute or not below the root."""
        path = (unquote(text.removeprefix(FILE_URL)) if text.startswith(FILE_URL) else text).replace(os.sep, "/")
        for prefix in self._prefixes:
            if path.startswith(prefix):
                return path[len(prefix) :]
        if isinstance(self._images, RemoteFiles) and _URL.match(text):
            return self._images.relative(text)
        return None

    def _check_relative(self, text: str) -> None:
        """Raise ``ListingError`` if a path is absolute or a URL."""
        root = self._images.root
        if url := _URL.match(text):
            raise ListingError(
                f"must name a file below the root {root}, got the URL {text!r}; give --root {url[1]}, or a folder of "
                "this URL that contains all images"
            )
        # Joining with os.path is faster than creating a Path, and recognizes drives on Windows.
        if text.startswith("/") or os.path.isabs(text):  # noqa: PTH117
            raise ListingError(
                f"must name a file below the root by a relative path, got {text!r}; move the root (--root) or the "
                f"file: the root is {_shown(root)}"
            )


@dataclass(frozen=True)
class _Repair:
    """A way in which other programs write paths.

    Attributes
    ----------
    applies : callable
        Whether a path may be written in this way.
    apply : callable
        Convert a path.
    text : str
        The text of the note; ``{}`` is replaced by the number of converted paths.
    """

    applies: Callable[[str], bool]
    apply: Callable[[str], str]
    text: str


_BLANKS = _Repair(lambda path: path != path.strip(), str.strip, "blanks around {}, removed")
_BACKSLASHES = _Repair(
    lambda path: "\\" in path, lambda path: path.replace("\\", "/"), "backslashes in {}, taken as separators of folders"
)


def _to_form(form: Literal["NFC", "NFD"]) -> _Repair:
    return _Repair(
        lambda path: not unicodedata.is_normalized(form, path),
        lambda path: unicodedata.normalize(form, path),
        f"accents in {{}}, read in the Unicode form of the files ({form})",
    )


def _suffix_case(convert: Callable[[str], str]) -> _Repair:
    def apply(path: str) -> str:
        stem, dot, suffix = path.rpartition(".")
        return stem + dot + convert(suffix)

    return _Repair(
        lambda path: "." in path and path != apply(path), apply, "suffixes of {}, read in the case of the files"
    )


def _add_suffix(suffix: str, known: frozenset[str]) -> _Repair:
    return _Repair(
        lambda path: not _has_suffix(path, known),
        lambda path: path + suffix,
        f"{{}} without a suffix, read as {suffix}",
    )


def repair_paths(paths: StringArray, normalizer: PathNormalizer, images: Files) -> tuple[StringArray, list[Note]]:
    """Convert the paths of a manifest if files exist by the converted paths, and not by the paths as they are.

    Backslashes become ``/``, blanks at both ends are removed, accents get the Unicode form of the files, and a suffix
    such as ``.jpg`` is added.

    Parameters
    ----------
    paths : StringArray
        The paths that ``normalizer`` has normalized.
    normalizer : PathNormalizer
        What is known about the paths.
    images : Files
        Where files are looked up: a few of them, not each.

    Returns
    -------
    paths : StringArray
    notes : list of Note
        What was converted.
    """
    notes = list[Note]()
    if count := normalizer.absolute:
        text = f"{pluralize(count, 'absolute path')} below {_shown(images.root)}, taken as relative"
        notes.append(Note("converted", text, count))
    ways = [[_BLANKS]] * normalizer.blanks + [[_BACKSLASHES]] * normalizer.backslashes
    ways += [[_to_form("NFC"), _to_form("NFD")]] * normalizer.letters
    lookup = _Lookup(images)
    known = image_suffixes()
    if len(paths) and not _has_suffix(paths[0], known):
        ways.append([_add_suffix(suffix, known) for suffix in USUAL_SUFFIXES])
    elif len(paths) and isinstance(images, LocalFiles) and not lookup.exists(paths[0]):
        ways.append([_suffix_case(str.lower), _suffix_case(str.upper)])
    for repair in _find_repairs(ways, paths, lookup, normalizer) if ways else ():
        count = 0

        def repaired(batch: list[str], repair: _Repair = repair) -> Sequence[str]:
            nonlocal count
            texts = [repair.apply(path) if repair.applies(path) else path for path in batch]
            count += sum(map(operator.ne, texts, batch))
            return normalizer(texts)

        paths = StringArray.from_batches(map(repaired, batched(paths)))
        notes.append(Note("converted", repair.text.format(pluralize(count, "path")), count))
    return paths, notes


def _find_repairs(
    ways: Sequence[Sequence[_Repair]], paths: StringArray, lookup: "_Lookup", normalizer: PathNormalizer
) -> list[_Repair]:
    """Find the repairs by which some files exist. At most one of each way is taken.

    A repair is left out if a file exists by a path to which it applies, as the path is.
    """
    chosen, left_out, looked_up = dict[int, _Repair](), set[_Repair](), 0
    for path in itertools.islice(paths, SCANNED):
        applicable = [[repair for repair in way if repair.applies(path)] for way in ways]
        if not any(applicable):
            continue
        if lookup.exists(path):
            left_out.update(itertools.chain(*applicable))
        else:
            found = _find_combination(applicable, path, lookup, normalizer)
            chosen = {**{number: repair for number, repair in enumerate(found) if repair}, **chosen}
        looked_up += 1
        if looked_up == lookup.limit or len(left_out) == sum(map(len, ways)):
            break
    return [repair for _, repair in sorted(chosen.items(), key=lambda item: item[0]) if repair not in left_out]


def _find_combination(
    ways: Sequence[Sequence[_Repair]], path: str, lookup: "_Lookup", normalizer: PathNormalizer
) -> Sequence[_Repair | None]:
    """Return the fewest repairs, one or none of each way, by which a file exists; an empty list if there are none."""
    combinations = itertools.product(*([None, *way] for way in ways))
    for repairs in sorted(combinations, key=lambda repairs: sum(map(bool, repairs)))[1:]:
        with suppress(ListingError):
            if lookup.exists(_repaired([repair for repair in repairs if repair], path, normalizer)):
                return repairs
    return []


def _repaired(repairs: Sequence[_Repair], path: str, normalizer: PathNormalizer) -> str:
    for repair in repairs:
        if repair.applies(path):
            path = normalizer.normalize_one(repair.apply(path))
    return path


class _Lookup:
    """Find out which files exist. Files in a missing folder are not looked up, because that could take minutes."""

    def __init__(self, images: Files) -> None:
        self._images = images
        self._is_local = isinstance(images, LocalFiles)
        self._folders = dict[str, bool]()
        self.limit = LOOKED_UP if self._is_local else LOOKED_UP_REMOTE

    def exists(self, path: str) -> bool:
        """Return whether a file exists; a file behind a URL is read, because this is the only way to know."""
        if not self._is_local:
            try:
                self._images.read(path, 0, 1)
            except (OSError, ValueError, ImageError):
                return False
            return True
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = self._images.missing_reason(folder or ".") != NOT_FOUND
        return self._folders[folder] and not self._images.missing_reason(path)


def any_exists(paths: StringArray, images: Files) -> bool:
    """Return whether any of the paths is that of a file; True if the files are behind a URL."""
    return not isinstance(images, LocalFiles) or any(map(_Lookup(images).exists, paths))


def is_utf8(path: str) -> bool:
    """Return whether all bytes of a path are UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_hint(path: str, images: Files) -> str:
    """Say what a user can do if no path of a manifest exists, of which ``path`` is the first."""
    if _DRIVE.match(path):
        return "; it is an absolute path of Windows: give the paths relative to the root"
    if not is_utf8(path):
        return ", and is not UTF-8: save the manifest as UTF-8 (in Excel: CSV UTF-8)"
    if isinstance(images, LocalFiles) and (folder := _folder_with(path, images.root)):
        return f"; but it is in {folder}: give --root {folder}"
    return "; give the folder that the paths are relative to by --root FOLDER"


def _folder_with(path: str, root: Path) -> Path | None:
    """Find a folder directly below the root in which a path exists, with a usual suffix if it has none."""
    names = [path] if _has_suffix(path, image_suffixes()) else [path, *(path + suffix for suffix in USUAL_SUFFIXES)]
    with suppress(OSError):
        for folder in sorted(each for each in itertools.islice(root.iterdir(), FOLDERS_LOOKED_UP) if each.is_dir()):
            if any((folder / name).is_file() for name in names):
                return folder
    return None


def _has_suffix(path: str, known: frozenset[str]) -> bool:
    return suffix_of(path.rpartition("/")[2]) in known


def _shown(root: Path | str) -> str:
    return root if isinstance(root, str) else os.path.abspath(root)  # noqa: PTH100
