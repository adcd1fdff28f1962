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
from typing import Any

import numpy as np

from featx.errors import ImageError, ListingError
from featx.images.files import Files
from featx.images.formats import picture_suffixes, suffix_of
from featx.images.listing import Listing, first_failure
from featx.images.sources.facts import Collected, label_names, top_folder, with_file_splits
from featx.rows import Rows

SHARDS_AT_ONCE = 8
"""Shards that are indexed side by side, which pays where they lie behind a network."""
MAX_FACTS = 1 << 20
"""Bytes of the largest ``.cls`` or ``.json`` that is read."""
OUTSIDE = "its name leads out of the shard"
NO_FILE = "a link or device in the shard, not followed"
TWICE = "stands in the shard before; the first is taken"


@dataclass
class _Index:
    """The images of one shard, where their bytes begin and how many they are, and what could not be listed."""

    found: Collected = field(default_factory=Collected)
    places: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def list_shards(files: Files, shards: Sequence[str]) -> Listing:
    """The images in tar files, shard by shard, in the order in which they lie there.

    Raises
    ------
    ListingError
        If there are none.
    """
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        indexed = list(pool.map(partial(_index, files), shards))
    rows = Rows.joined([rows for rows, _, _ in indexed])
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

    return Listing(files.root, with_file_splits(rows, shards, counts), read, failures)


def _index(files: Files, shard: str) -> tuple[Rows, np.ndarray, list[tuple[str, str]]]:
    """The rows of one shard, int64 (rows, 2) start and length of each one's bytes, and what failed."""
    index = _Index()
    try:
        with files.open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for _, sample in itertools.groupby(_members(tar), key=_key):
                _take(tar, list(sample), index, shard)
    except (OSError, tarfile.TarError, EOFError) as error:
        # What was found before is kept: a bad shard ends a run no more than a bad image does.
        index.failures.append((shard, f"damaged, or no uncompressed tar file: {error}"))
    places = np.array(index.places, np.int64).reshape(-1, 2)
    return index.found.rows, places, index.failures


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All that is no folder, and whose name is not hidden; none is kept."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        member.name = posixpath.normpath(member.name)
        if not member.isdir() and not any(part.startswith(".") and part != ".." for part in member.name.split("/")):
            yield member


def _key(member: tarfile.TarInfo) -> str:
    folder, name = posixpath.split(member.name)
    return posixpath.join(folder, name.partition(".")[0])


def _take(tar: tarfile.TarFile, sample: Sequence[tarfile.TarInfo], index: _Index, shard: str) -> None:
    """File the images of one sample, with what its other files say of them."""
    images = [member for member in sample if suffix_of(member.name) in picture_suffixes()]
    try:
        facts = _facts(tar, sample)
        labels = label_names(facts["label"]) if "label" in facts else None
    except (ValueError, ListingError) as error:
        index.failures += [
            (f"{shard}/{member.name}", f"what stands beside it is damaged: {error}") for member in images
        ]
        return
    for member in images:
        path = f"{shard}/{member.name}"
        if reason := _refusal(member, path in index.seen):
            index.failures.append((path, reason))
            continue
        index.seen.add(path)
        index.places.append((member.offset_data, member.size))
        index.found.add(path, top_folder(member.name) if labels is None else labels, facts)


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
        if suffix in (".json", ".cls") and member.isfile():
            text = _small(tar, member)
            facts |= {"label": text} if suffix == ".cls" else _object(text)
    return facts


def _small(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MAX_FACTS:
        raise ValueError(f"{member.name} has {member.size} bytes, more than {MAX_FACTS}")
    file = tar.extractfile(member)
    return "" if file is None else file.read().decode()


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a .json must hold an object, got {text[:40]!r}")
    return value
