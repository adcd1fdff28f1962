"""List the images in tar shards of the WebDataset format, and read each image from its position in the shard.

The key of a file is its name up to the first dot. Files with the same key are one sample: ``a/1.jpg``, ``a/1.cls`` with
the class as text, and ``a/1.json`` with ``label`` and columns ``split…`` or ``weight…``. If no such sidecar file has a
label, the first folder of the name is the label. The shards are not unpacked.
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
from featx.images.sources.files import Files, check_no_root, full_path
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.metadata import (
    DUPLICATE,
    NOT_A_FILE,
    OUTSIDE,
    RowBuilder,
    add_file_splits,
    folder_label,
    is_hidden,
    kept_values,
    label_names,
)
from featx.images.sources.options import ListingOptions
from featx.table import ImageTable

PARALLEL_SHARDS = 8
"""Number of shards that are indexed at the same time. This saves time for shards that are read over a network."""
SIDECARS = (".json", ".cls")
APART = "is not next to its image: write the files of a sample one after the other (tar --sort=name)"


@dataclass
class _ShardIndex:
    """The contents of one shard.

    Attributes
    ----------
    rows : RowBuilder
        The images.
    positions : list of (int, int)
        Start and number of bytes of each image.
    failures : list of (str, str)
        The path of each file that could not be listed, and the reason.
    paths, keys : set of str
        The paths and the keys of the images.
    lone_sidecars : list of (str, str)
        Key and name of each sidecar that is not next to an image.
    """

    rows: RowBuilder = field(default_factory=RowBuilder)
    positions: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    lone_sidecars: list[tuple[str, str]] = field(default_factory=list)


def list_shards(files: Files, shards: Sequence[str], images: Files | None, options: ListingOptions) -> Listing:
    """List the images in tar files, shard by shard, in the order in which they are stored.

    Raises
    ------
    ListingError
        If there are no images, or if ``images`` is not None: only manifests need it.
    """
    check_no_root(images, full_path(files.root, shards[0]))
    options.check_used(full_path(files.root, shards[0]), "label_column", "group_column")
    with ThreadPoolExecutor(PARALLEL_SHARDS) as pool:
        indexed = list(pool.map(partial(_index, files), shards))
    table = ImageTable.concatenate([rows for rows, _, _ in indexed])
    positions = np.concatenate([each for _, each, _ in indexed])
    failures = tuple(sorted(failure for _, _, some in indexed for failure in some))
    if not len(table):
        raise ListingError(
            f"{', '.join(shards[:3])} in {files.root} must contain images that Pillow opens (.jpg, .png, …), got "
            f"shards without images{first_failure(failures)}"
        )
    counts = [len(rows) for rows, _, _ in indexed]
    shard_of = np.repeat(np.arange(len(shards)), counts)

    def read(row: int) -> bytes:
        start, size = positions[row].tolist()
        data = files.read(shards[shard_of[row]], start, size)
        if len(data) < size:
            raise ImageError(f"cut short: its shard ends after {len(data)} of {size} bytes")
        return data

    table = add_file_splits(table, shards, counts)
    return Listing(files.root, table, read, failures, lambda row: int(positions[row, 1]), layout="tar shards")


def _index(files: Files, shard: str) -> tuple[ImageTable, np.ndarray, list[tuple[str, str]]]:
    """Index one shard.

    Returns
    -------
    ImageTable
        The images.
    int64 (rows, 2)
        The start and the size of each image in the shard, in bytes.
    list of (str, str)
        The path of each file that could not be listed, and the reason.
    """
    index = _ShardIndex()
    try:
        with files.open(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, sample in itertools.groupby(_members(tar, file), key=_key):
                _add_sample(tar, key, list(sample), index, shard)
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        # Keep the images before the damage. A damaged shard does not end the run, just as a damaged image does not.
        index.failures.append((shard, f"damaged, or not an uncompressed tar file: {error}"))
    index.failures += [(f"{shard}/{name}", APART) for key, name in index.lone_sidecars if key in index.keys]
    positions = np.array(index.positions, np.int64).reshape(-1, 2)
    return index.rows.table, positions, index.failures


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


def _key(member: tarfile.TarInfo) -> str:
    folder, name = posixpath.split(member.name)
    return posixpath.join(folder, name.partition(".")[0])


def _add_sample(
    tar: tarfile.TarFile, key: str, sample: Sequence[tarfile.TarInfo], index: _ShardIndex, shard: str
) -> None:
    """Add the images of one sample to the index, with the labels and columns from its sidecars."""
    images = [member for member in sample if suffix_of(member.name) in image_suffixes()]
    if not images:
        index.lone_sidecars += [(key, member.name) for member in sample if suffix_of(member.name) in SIDECARS]
        return
    index.keys.add(key)
    try:
        values = _read_sidecars(tar, sample)
        labels = label_names(values["label"]) if "label" in values else folder_label(key)
        columns = kept_values(values)
    except (ValueError, RecursionError) as error:
        reason = f"its label or columns are damaged: {error}"
        index.failures += [(f"{shard}/{member.name}", reason) for member in images]
        return
    for member in images:
        path = f"{shard}/{member.name}"
        if reason := _refusal(member, path in index.paths):
            index.failures.append((path, reason))
            continue
        index.paths.add(path)
        index.positions.append((member.offset_data, member.size))
        index.rows.add(path, labels, columns)


def _refusal(member: tarfile.TarInfo, duplicate: bool) -> str:
    """Explain why a member is not listed; return ``""`` if it is listed."""
    if member.name.startswith(("/", "../")):
        return OUTSIDE
    if not member.isfile() or member.issparse():
        return NOT_A_FILE
    return DUPLICATE if duplicate else ""


def _read_sidecars(tar: tarfile.TarFile, sample: Iterable[tarfile.TarInfo]) -> dict[str, Any]:
    """Read the values in the ``.json`` and ``.cls`` files of a sample; raise ``ValueError`` if a file is damaged."""
    values: dict[str, Any] = {}
    for member in sample:
        suffix = suffix_of(member.name)
        if suffix in SIDECARS and member.isfile():
            text = _read_text(tar, member)
            values |= {"label": text} if suffix == ".cls" else _parse_object(text)
    return values


def _read_text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > SIDECAR.bytes:
        raise ValueError(f"{member.name} has {member.size:,} bytes, more than {SIDECAR.bytes:,}; {SIDECAR.remedy}")
    file = tar.extractfile(member)
    return "" if file is None else file.read().decode("utf-8-sig")


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a .json must contain an object, got {text[:40]!r}")
    return value
