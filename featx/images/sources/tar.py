"""Tar shards as WebDataset keeps them: the images in each, where their bytes lie, and what stands beside them.

Files of one key (the name up to its first dot) are one sample: ``a/1.jpg``, ``a/1.cls`` with the class as text,
``a/1.json`` with ``label`` and columns ``split…`` or ``weight…``. Without these the folder at the top of the name is
the label. Nothing is unpacked: an image is read from its place in the shard.
"""

import itertools
import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featx.errors import ImageError, ListingError
from featx.files import SIDECAR
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.files import Files
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.metadata import RowBuilder, add_file_splits, folder_label, kept_values, label_names
from featx.table import ImageTable

SHARDS_AT_ONCE = 8
"""Shards that are indexed side by side, which pays where they lie behind a network."""
SIDECARS = (".json", ".cls")
"""Suffixes of files that say something of the image beside them."""
OUTSIDE = "its name leads out of the shard"
NO_FILE = "a link or device in the shard, not followed"
APART = "stands apart from its image: write the files of a sample one after the other (tar --sort=name)"
TWICE = "stands in the shard before; the first is taken"


@dataclass
class _Index:
    """The images of one shard, where their bytes begin and how many they are, and what could not be listed."""

    found: RowBuilder = field(default_factory=RowBuilder)
    places: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    beside: list[tuple[str, str]] = field(default_factory=list)
    """Key and name of each file that says something of an image, but has none beside it."""


def list_shards(files: Files, shards: Sequence[str]) -> Listing:
    """The images in tar files, shard by shard, in the order in which they lie there.

    Raises
    ------
    ListingError
        If there are none.
    """
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        indexed = list(pool.map(partial(_index, files), shards))
    rows = ImageTable.concatenate([rows for rows, _, _ in indexed])
    places = np.concatenate([places for _, places, _ in indexed])
    failures = tuple(sorted(failure for _, _, some in indexed for failure in some))
    if not len(rows):
        raise ListingError(f"{', '.join(shards[:3])} in {files.root} must hold images that Pillow opens (.jpg, .png, "
                           f"…), but the shards have none{first_failure(failures)}")  # fmt: skip
    counts = [len(each) for each, _, _ in indexed]
    shard_of = np.repeat(np.arange(len(shards)), counts)

    def read(row: int) -> bytes:
        start, size = places[row].tolist()
        data = files.read(shards[shard_of[row]], start, size)
        if len(data) < size:
            raise ImageError(f"cut short: its shard ends after {len(data)} of {size} bytes")
        return data

    return Listing(files.root, add_file_splits(rows, shards, counts), read, failures, lambda row: int(places[row, 1]))


def _index(files: Files, shard: str) -> tuple[ImageTable, np.ndarray, list[tuple[str, str]]]:
    """The rows of one shard, int64 (rows, 2) start and length of each one's bytes, and what failed."""
    index = _Index()
    try:
        with files.open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, sample in itertools.groupby(_members(tar, file), key=_key):
                _take(tar, key, list(sample), index, shard)
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        # What was found before is kept: a bad shard ends a run no more than a bad image does.
        index.failures.append((shard, f"damaged, or no uncompressed tar file: {error}"))
    index.failures += [(f"{shard}/{name}", APART) for key, name in index.beside if key in index.keys]
    places = np.array(index.places, np.int64).reshape(-1, 2)
    return index.found.rows, places, index.failures


def _members(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """All that is no folder, and whose name is not hidden; none is kept. ``ReadError`` where a header is broken.

    It is raised before the sample there is complete, which so is not taken: what lies behind may be its label.
    """
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        if member.size < 0 or tar.offset <= member.offset:
            raise tarfile.ReadError(f"{member.name!r} has a size of {member.size} bytes")
        member.name = posixpath.normpath(member.name)
        if not member.isdir() and not any(part.startswith(".") and part != ".." for part in member.name.split("/")):
            yield member
    # What is no header is the end to tarfile, as the zeros that end a shard are.
    file.seek(tar.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header where one must stand, at byte {tar.offset}")


def _key(member: tarfile.TarInfo) -> str:
    folder, name = posixpath.split(member.name)
    return posixpath.join(folder, name.partition(".")[0])


def _take(tar: tarfile.TarFile, key: str, sample: Sequence[tarfile.TarInfo], index: _Index, shard: str) -> None:
    """File the images of one sample, with what its other files say of them."""
    images = [member for member in sample if suffix_of(member.name) in image_suffixes()]
    if not images:
        index.beside += [(key, member.name) for member in sample if suffix_of(member.name) in SIDECARS]
        return
    index.keys.add(key)
    try:
        facts = _facts(tar, sample)
        labels = label_names(facts["label"]) if "label" in facts else folder_label(key)
        kept = kept_values(facts)
    except (ValueError, RecursionError) as error:
        index.failures += [(f"{shard}/{member.name}", f"what is known of it is damaged: {error}") for member in images]
        return
    for member in images:
        path = f"{shard}/{member.name}"
        if reason := _refusal(member, path in index.seen):
            index.failures.append((path, reason))
            continue
        index.seen.add(path)
        index.places.append((member.offset_data, member.size))
        index.found.add(path, labels, kept)


def _refusal(member: tarfile.TarInfo, seen: bool) -> str:
    """Why a member is no row; ``""`` if it is one."""
    if member.name.startswith(("/", "../")):
        return OUTSIDE
    if not member.isfile() or member.issparse():
        return NO_FILE
    return TWICE if seen else ""


def _facts(tar: tarfile.TarFile, sample: Iterable[tarfile.TarInfo]) -> dict[str, Any]:
    """What the ``.json`` and ``.cls`` of a sample say; ``ValueError`` if they are not to be read."""
    facts: dict[str, Any] = {}
    for member in sample:
        suffix = suffix_of(member.name)
        if suffix in SIDECARS and member.isfile():
            text = _small(tar, member)
            facts |= {"label": text} if suffix == ".cls" else _object(text)
    return facts


def _small(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > SIDECAR.bytes:
        raise ValueError(f"{member.name} has {member.size:,} bytes, more than {SIDECAR.bytes:,}; {SIDECAR.remedy}")
    file = tar.extractfile(member)
    return "" if file is None else file.read().decode("utf-8-sig")


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a .json must hold an object, got {text[:40]!r}")
    return value
