"""Which images there are, and what they are called, labeled and split: from a folder, a manifest or names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import ListingError
from featx.images.formats import picture_suffixes, suffix_of
from featx.images.manifest import SEPARATOR, read_manifest
from featx.images.walk import Found, walk

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder names that make a split, and the split's name."""
LOOSE = "lies beside the class folders, in none of them"
NO_LABEL = -1

Failures = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Listing:
    """Images in a fixed order.

    ``paths`` are relative to ``root`` with ``/`` separators, sorted by their bytes, and keep bytes that are not
    UTF-8 as surrogate escapes. ``labels`` (int64, one a path) are indices into the sorted ``classes``, -1 for
    none. ``splits`` gives, by column name, one value a path. ``failures`` are (path, reason) of what was there
    but could not be listed. Where an image has several labels, ``label_sets`` gives the sorted indices of all labels
    of each path, and ``labels`` the first.
    """

    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    failures: Failures
    label_sets: tuple[tuple[int, ...], ...] | None = None


def list_images(source: str | Path | Sequence[str | Path], root: str | Path | None = None) -> Listing:
    """List the images of a folder, a manifest, a single file or a sequence of paths.

    Parameters
    ----------
    source
        A folder with one sub-folder a class (files deeper down belong to it); a folder of such folders named
        ``train`` and ``val`` (or ``valid``, ``validation``) or ``test``, which become the column ``split``; a
        folder of images without labels; a ``.csv`` manifest with the columns ``path``, and if wanted ``label`` and
        any that begin with ``split`` or ``weight`` (a label ``a|b`` is two); an image file; or a sequence of paths,
        which keep their order and are not looked up.
    root
        What the paths of a manifest or of a sequence are relative to: the manifest's own folder, or the current
        folder, unless given.

    Raises
    ------
    ListingError
        If the source does not exist, is of no such kind, or names no image.
    """
    if not isinstance(source, str | Path):
        return _list_sequence(source, Path(root or ""))
    path = Path(source)
    if path.is_dir():
        return _list_folder(path)
    if reason := _unreachable(path):
        raise ListingError(f"{path} must be a folder, a .csv manifest or an image file, but is none: {reason}")
    if path.suffix.lower() == ".csv":
        return _list_manifest(path, path.parent if root is None else Path(root))
    if suffix_of(path.name) in picture_suffixes():
        return _labeled(path.parent, [path.name], [""], {}, ())
    raise ListingError(
        f"{path} must be a folder, a .csv manifest or an image file, but its name ends like none of them"
    )


def _unreachable(path: Path) -> str:
    """Why there is nothing at a path; ``""`` if there is."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _list_sequence(source: Sequence[str | Path], root: Path) -> Listing:
    paths = [os.fspath(path).replace(os.sep, "/") for path in source]
    if not paths:
        raise ListingError("a sequence of images must name at least one path, got none")
    return _labeled(root, paths, [""] * len(paths), {}, ())


def _list_manifest(file: Path, root: Path) -> Listing:
    names, entries = read_manifest(file)
    entries.sort(key=lambda entry: os.fsencode(entry.path))
    reasons = [_missing(root, entry.path) for entry in entries]
    failures = tuple((entry.path, reason) for entry, reason in zip(entries, reasons, strict=True) if reason)
    there = [entry for entry, reason in zip(entries, reasons, strict=True) if not reason]
    if not there:
        detail = f"none of its {len(entries)} rows names a file under {root}" if entries else "it has no rows"
        raise ListingError(f"manifest {file} must name at least one image, but {detail}{_first(failures)}")
    splits = {name: tuple(entry.splits[column] for entry in there) for column, name in enumerate(names)}
    labels = [tuple(entry.label.split(SEPARATOR)) for entry in there]
    return _labeled(root, [entry.path for entry in there], labels, splits, failures)


def _missing(root: Path, path: str) -> str:
    """Why a manifest's path is no file; ``""`` if it is one."""
    full = os.path.join(root, path)  # noqa: PTH118 - a million Path objects take seconds
    if os.path.isfile(full):  # noqa: PTH113
        return ""
    return "is no regular file" if os.path.lexists(full) else "does not exist"


def _list_folder(root: Path) -> Listing:
    found = walk(root)
    if not found.paths:
        raise ListingError(_nothing(root, found))
    found.paths.sort(key=os.fsencode)
    tops = {path.partition("/")[0] for path in found.paths if "/" in path}
    if tops <= SPLITS.keys() and "train" in tops:
        return _list_split(root, found)
    paths, labels = _classes_of(found.paths, "", found)
    return _labeled(root, paths, labels, {}, tuple(found.failures))


def _list_split(root: Path, found: Found) -> Listing:
    """A folder of split folders; a split without class folders, such as a contest's test set, has no labels."""
    paths, labels, splits = list[str](), list[str](), list[str]()
    found.failures += [
        (path, "lies beside the split folders, in none of them") for path in found.paths if "/" not in path
    ]
    for folder in sorted({path.partition("/")[0] for path in found.paths if "/" in path}):
        inside = [path for path in found.paths if path.startswith(folder + "/")]
        kept, names = _classes_of(inside, folder + "/", found)
        paths, labels, splits = paths + kept, labels + names, splits + [SPLITS[folder]] * len(kept)
    return _labeled(root, paths, labels, {"split": tuple(splits)}, tuple(found.failures))


def _classes_of(paths: list[str], prefix: str, found: Found) -> tuple[list[str], list[str]]:
    """Paths and class names below ``prefix``; loose images beside class folders become failures."""
    names = [label if slash else "" for label, slash, _ in (path[len(prefix) :].partition("/") for path in paths)]
    if not any(names):
        return paths, names
    found.failures += [(path, LOOSE) for path, name in zip(paths, names, strict=True) if not name]
    return [path for path, name in zip(paths, names, strict=True) if name], [name for name in names if name]


def _labeled(
    root: Path,
    paths: Sequence[str],
    names: Sequence[str | tuple[str, ...]],
    splits: dict[str, tuple[str, ...]],
    failures: Failures,
) -> Listing:
    """A listing whose classes are the names that occur, one or several a path; ``""`` is none."""
    several = [(name,) if isinstance(name, str) else name for name in names]
    classes = sorted({name for row in several for name in row} - {""}, key=os.fsencode)
    index = {name: number for number, name in enumerate(classes)}
    sets = tuple(tuple(sorted(index[name] for name in row if name)) for row in several)
    labels = np.fromiter((row[0] if row else NO_LABEL for row in sets), np.int64, len(sets))
    failures = tuple(sorted(failures, key=_failure_key))
    label_sets = sets if any(len(row) > 1 for row in sets) else None
    return Listing(root, tuple(paths), labels, tuple(classes), splits, failures, label_sets)


def _failure_key(failure: tuple[str, str]) -> bytes:
    return os.fsencode(failure[0])


def _nothing(root: Path, found: Found) -> str:
    """Why a folder gives no image: what was there instead."""
    seen = ", ".join(f"{suffix} ({count})" for suffix, count in found.passed_over.most_common(5))
    other = f"; files of other kinds there: {seen}" if seen else ""
    return (
        f"{root} must hold images that Pillow opens (.jpg, .png, …), but has none{other}{_first(tuple(found.failures))}"
    )


def _first(failures: Failures) -> str:
    """The first of the failures, to end a message with."""
    return f"; {failures[0][0]!r} {failures[0][1]}" if failures else ""
