"""List the images in tar shards of the WebDataset format, and read each image from its position in the shard.

The key of a file is its name up to the first dot. Files with the same key are one sample: ``a/1.jpg``, ``a/1.cls`` with
the class as text, and ``a/1.json`` with ``label`` and columns ``split…`` or ``weight…``. If no such sidecar file has a
label, the first folder of the name is the label. If the names of samples have dots, as ``x.v1.jpg`` and ``x.v1.cls``
have, the key is the name up to the suffix (see `featx.images.sources.samples`). The shards are not unpacked.
"""

import itertools
import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featx.errors import ImageError, ListingError
from featx.files import SIDECAR, ReadProblem, find_problem
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.columns import ColumnFinder
from featx.images.sources.files import Files, check_no_root, full_path
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.local_files import UNREADABLE
from featx.images.sources.metadata import (
    DUPLICATE,
    NOT_A_FILE,
    OUTSIDE,
    RowBuilder,
    add_file_splits,
    canonical_splits,
    folder_label,
    is_hidden,
    kept_values,
    label_names,
)
from featx.images.sources.notes import Note, count_list
from featx.images.sources.options import ListingOptions
from featx.images.sources.samples import SIDECARS, divide_samples, sample_key
from featx.images.sources.shard_folders import label_by_folders
from featx.runtime import pluralize
from featx.table import CategoricalArray, ImageTable, LabelNames

PARALLEL_SHARDS = 8
"""Number of shards that are indexed at the same time. This saves time for shards that are read over a network."""
CLASS_FILE = "cls"
"""The name by which ``--label-column`` takes the labels from ``.cls`` files and not from ``.json`` files."""
CAPTION = ".txt"
APART = "is not next to its image: write the files of a sample one after the other (tar --sort=name)"


@dataclass
class _ShardIndex:
    """The contents of one shard.

    Attributes
    ----------
    columns : ColumnFinder
        Finds the label and the columns in ``.json`` files.
    label_column : str or None
        The label that the user chose.
    suffixes : frozenset of str
        The suffixes of images.
    limit : int
        Number of bytes of the largest sidecar that is read.
    rows : RowBuilder
        The images.
    positions : list of (int, int)
        Start and number of bytes of each image.
    failures : list of (str, str)
        The path of each file that could not be listed, and the reason.
    folders : list of str
        The folder of each image in the shard.
    has_label : list of bool
        Whether each image has a file with its label.
    paths, keys : set of str
        The paths and the keys of the images.
    lone_sidecars : list of (str, str)
        Key and name of each sidecar that is not next to an image.
    skipped : Counter
        For each suffix, the number of files that are neither images nor sidecars.
    divided : int
        Number of images whose key is their name up to the suffix.
    shared : int
        Number of images that have a label together with another image.
    """

    columns: ColumnFinder
    label_column: str | None
    suffixes: frozenset[str]
    limit: int
    rows: RowBuilder = field(default_factory=RowBuilder)
    positions: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    has_label: list[bool] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    lone_sidecars: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    divided: int = 0
    shared: int = 0


def list_shards(files: Files, shards: Sequence[str], images: Files | None, options: ListingOptions) -> Listing:
    """List the images in tar files, shard by shard, in the order in which they are stored.

    Raises
    ------
    ListingError
        If there are no images, or if ``images`` is not None: only manifests need it.
    """
    whose = full_path(files.root, shards[0])
    check_no_root(images, whose)
    with ThreadPoolExecutor(PARALLEL_SHARDS) as pool:
        indexed = list(pool.map(partial(_index, files, options), shards))
    tables = [index.rows.table for index in indexed]
    table, converted = canonical_splits(ImageTable.concatenate(tables))
    positions = np.concatenate([np.array(index.positions, np.int64).reshape(-1, 2) for index in indexed])
    failures = tuple(sorted(failure for index in indexed for failure in index.failures))
    if not len(table):
        raise ListingError(
            f"{', '.join(shards[:3])} in {files.root} must contain images that Pillow opens (.jpg, .png, …), got "
            f"shards without images{first_failure(failures)}"
        )
    counts = list(map(len, tables))
    shard_of = np.repeat(np.arange(len(shards)), counts)

    def read(row: int) -> bytes:
        start, size = positions[row].tolist()
        data = files.read(shards[shard_of[row]], start, size)
        if len(data) < size:
            raise ImageError(f"cut short: its shard ends after {len(data)} of {size} bytes")
        return data

    names, notes = _describe(indexed, whose, options)
    folders = CategoricalArray.from_values(folder for index in indexed for folder in index.folders)
    unlabeled = np.array([not has_label for index in indexed for has_label in index.has_label])
    table, guessed = add_file_splits(table, shards, counts)
    layout = label_by_folders(table, folders, unlabeled, whose, options)
    return Listing(
        files.root,
        layout.table,
        read,
        failures,
        lambda row: int(positions[row, 1]),
        layout=layout.name,
        source_names=names,
        notes=(*notes, *converted, *guessed, *layout.notes),
    )


def _describe(indexed: Sequence[_ShardIndex], whose: str, options: ListingOptions) -> tuple[dict[str, str], list[Note]]:
    """Return the names that columns have in ``.json`` files, and the notes on all shards."""
    columns = ColumnFinder(whose, options)
    skipped = Counter[str]()
    for index in indexed:
        columns.update(index.columns)
        skipped += index.skipped
    names, found = columns.finish(() if options.label_column != CLASS_FILE else (CLASS_FILE,))
    notes = list(found)
    if count := sum(index.divided for index in indexed):
        text = (
            f"{pluralize(count, 'image')} with a dot in the name, read as samples of their own (x.v1 and x.v2, not x)"
        )
        notes.append(Note("guessed", text, count))
    if count := sum(index.shared for index in indexed):
        notes.append(
            Note("guessed", f"{pluralize(count, 'image')} of samples with several images, all with its label", count)
        )
    if count := skipped.total():
        caption = "; captions (.txt) are not labels" if skipped[CAPTION] else ""
        text = f"{pluralize(count, 'file')} in the shards skipped: {count_list(skipped)}{caption}"
        notes.append(Note("skipped", text, count))
    return names, notes


def _index(files: Files, options: ListingOptions, shard: str) -> _ShardIndex:
    """Index one shard."""
    index = _ShardIndex(
        ColumnFinder(full_path(files.root, shard), options), options.label_column, image_suffixes(), SIDECAR.bytes
    )
    try:
        with files.open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, members in itertools.groupby(_members(tar, file), key=lambda member: sample_key(member.name)):
                _add_members(tar, key, list(members), index, shard)
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        # Keep the images before the damage. A damaged shard does not end the run, just as a damaged image does not.
        if isinstance(error, OSError) and find_problem(error) is not ReadProblem.DAMAGED:
            index.failures.append((shard, f"{UNREADABLE}{error.strerror or error}"))
        else:
            index.failures.append((shard, f"damaged, or not an uncompressed tar file: {error}"))
    index.failures += [(f"{shard}/{name}", APART) for key, name in index.lone_sidecars if key in index.keys]
    return index


def _members(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file, except folders and hidden files; raise ``ReadError`` if a header is damaged.

    The error is raised before the last sample is complete. That sample is dropped, because its label may be missing.
    """
    while (member := tar.next()) is not None:
        # Clear the list of members, because tarfile would keep all of them in memory.
        tar.members = []  # type: ignore[attr-defined]
        if member.size < 0 or tar.offset <= member.offset:
            raise tarfile.ReadError(f"{member.name!r} has a size of {member.size} bytes")
        member.name = posixpath.normpath(member.name)
        if not member.isdir() and not is_hidden(member.name):
            yield member
    # tarfile treats a damaged header as the end of the file. The real end is a block of zeros, so check for it.
    file.seek(tar.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"expected a header at byte {tar.offset}")


def _add_members(
    tar: tarfile.TarFile, key: str, members: Sequence[tarfile.TarInfo], index: _ShardIndex, shard: str
) -> None:
    """Add the images with one key to the index, with the labels and columns from their sidecars."""
    images, sidecars = list[tarfile.TarInfo](), list[tarfile.TarInfo]()
    for member in members:
        suffix = suffix_of(member.name)
        if suffix in index.suffixes:
            images.append(member)
        elif suffix in SIDECARS:
            sidecars.append(member)
        else:
            index.skipped[suffix or "no suffix"] += 1
    if not images:
        index.lone_sidecars += [(key, member.name) for member in sidecars]
        return
    index.keys.add(key)
    if len(images) == 1:
        _add_sample(tar, key, images, sidecars, index, shard)
        return
    try:
        samples = divide_samples(key, [each.name for each in images], [each.name for each in sidecars])
    except ListingError as error:
        index.failures += [(f"{shard}/{image.name}", str(error)) for image in images]
        return
    for sample in samples:
        found = [each for each in images if each.name in sample.images]
        _add_sample(tar, key, found, [each for each in sidecars if each.name in sample.sidecars], index, shard)
        index.divided += len(found) if len(samples) > 1 else 0
        index.shared += len(found) if len(found) > 1 and sample.sidecars else 0


def _add_sample(
    tar: tarfile.TarFile,
    key: str,
    images: Sequence[tarfile.TarInfo],
    sidecars: Sequence[tarfile.TarInfo],
    index: _ShardIndex,
    shard: str,
) -> None:
    listed = list[tuple[str, tarfile.TarInfo]]()
    for member in images:
        path = f"{shard}/{member.name}"
        if reason := _refusal(member, path in index.paths):
            index.failures.append((path, reason))
        else:
            index.paths.add(path)
            listed.append((path, member))
    try:
        labels, columns = _read_sidecars(tar, sidecars, index)
        if listed and labels is None:
            folder_label(key)  # an error about the name of the class is a failure of this sample only
    except (ValueError, RecursionError) as error:
        index.failures += [(path, f"its label or columns are damaged: {error}") for path, _ in listed]
        return
    for path, member in listed:
        index.positions.append((member.offset_data, member.size))
        index.folders.append(key.rpartition("/")[0])
        index.has_label.append(labels is not None)
        index.rows.add(path, labels or (), columns)


def _refusal(member: tarfile.TarInfo, duplicate: bool) -> str:
    """Explain why a member is not listed; return ``""`` if it is listed."""
    if member.name.startswith(("/", "../")):
        return OUTSIDE
    if not member.isfile() or member.issparse():
        return NOT_A_FILE
    return DUPLICATE if duplicate else ""


def _read_sidecars(
    tar: tarfile.TarFile, sidecars: Sequence[tarfile.TarInfo], index: _ShardIndex
) -> tuple[LabelNames | None, dict[str, str]]:
    """Read the label and the kept columns in the ``.json`` and ``.cls`` files of a sample.

    Returns
    -------
    labels : tuple of str or None
        None if no file has a label.
    columns : dict of str to str

    Raises
    ------
    ValueError
        If a file is damaged, or two files have different labels or columns.
    """
    labels, columns = list[tuple[str, LabelNames]](), dict[str, str]()
    for member in filter(tarfile.TarInfo.isfile, sidecars):
        text = _read_text(tar, member, index.limit)
        if suffix_of(member.name) == ".cls":
            if index.label_column in (None, CLASS_FILE):
                labels.append((member.name, label_names(text)))
            continue
        record = _parse_object(text)
        found = index.columns.find(record, member.name)
        if found.label is not None:
            labels.append((member.name, label_names(record[found.label])))
        for name, value in kept_values(found.rename(record)).items() if found.kept else ():
            if columns.setdefault(name, value) != value:
                raise ListingError(f"must have one value of {name}, got {columns[name]!r} and {value!r}")
    if len(labels) > 1:
        _check_one_label(labels)
    return next((names for _, names in labels if names), () if labels else None), columns


def _check_one_label(labels: Sequence[tuple[str, LabelNames]]) -> None:
    different = {names: name for name, names in labels if names}
    if len(different) > 1:
        shown = ", ".join(f"{'|'.join(names)!r} in {name}" for names, name in different.items())
        raise ListingError(
            f"must have one label, got {shown}; choose by --label-column NAME, or {CLASS_FILE} for .cls files"
        )


def _read_text(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> str:
    if member.size > limit:
        raise ValueError(f"{member.name} has {member.size:,} bytes, more than {limit:,}; {SIDECAR.remedy}")
    file = tar.extractfile(member)
    return "" if file is None else file.read().decode("utf-8-sig")


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a .json must contain an object, got {text[:40]!r}")
    return value
