"""How rows lie in HDF5, in a part file as in a store.

``/features/<name>`` float32 (rows, width), or float16, chunked by rows, some deflated, or virtual
(`featx.store.virtual`); ``/rows/path``, ``/rows/digest``, ``/rows/turned``, ``/rows/view``, which of its image's views
a row is, from 0, rows of one image standing together in this order;
``/rows/labels_multi``, only where an image has several labels, bool (rows, classes), of which ``/rows/label`` has the
first; ``/failures/path``, ``/failures/reason``; ``/golden/<name>`` and the attribute ``spec``. Every dataset with rows
carries a checksum a chunk (Fletcher32), and the file format is the one that checksums its own metadata, so that
changed bytes are noticed when they are read. Strings have a fixed length for the same reason: HDF5 keeps those of
variable length where no checksum reaches.
"""

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from featx.backbones import pool_of
from featx.files import CHUNK, EXPANSION
from featx.spec import ExtractSpec
from featx.table import StringArray, decode_text, encode_text

SCHEMA = 2
"""The latest. Schema 2 is 1 with ``/rows/labels_multi``: a store claims it only if an image has several labels."""
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError)
"""What h5py raises of a file that is damaged, or that is laid out in another way than it is read."""
_COLUMNS = {"path": "S", "digest": "S", "label": "i", "view": "i", "turned": "b"}
"""The columns of ``/rows`` and the kind of each one's type."""
CHUNK_BYTES = 1 << 18
BLOCK_BYTES = 1 << 24
GOLDEN_ROWS = 3
Features = Mapping[str, h5py.Dataset]
"""Datasets (rows, width) by the name of the feature."""
FEATURE_DTYPES = (np.dtype("float32"), np.dtype("float16"))
"""Parts have the first; a store may have the other, and is read as the first."""


def is_deflated(name: str, row_bytes: int) -> bool:
    """Whether rows of a feature are deflated: flat ones, mostly zeros, of which a ninth is left, and no pooled ones.

    Of those four fifths are left. Nor are rows that would be a larger chunk than a reader inflates.
    """
    return pool_of(name) == "flat" and row_bytes <= CHUNK.default


def feature_bytes(widths: Mapping[str, int], rows: int, itemsize: int, share: float) -> int:
    """What so many rows of features of these widths take, if deflate leaves that share of those that it is used on."""
    each = {name: width * itemsize for name, width in widths.items()}
    return round(rows * sum(size * (share if is_deflated(name, size) else 1) for name, size in each.items()))


def write_features(
    group: h5py.Group,
    rows: int,
    widths: Mapping[str, int],
    fill: Callable[[Features], None],
    dtypes: Mapping[str, np.dtype[Any]],
) -> None:
    """Datasets (rows, width) of features for ``fill`` to write, chunked by rows, checksummed, some deflated."""
    deflated = {name for name, width in widths.items() if is_deflated(name, dtypes[name].itemsize * width) and rows}
    features = {name: _make_feature(group, name, (rows, width), dtypes[name], deflate=name in deflated)
                for name, width in widths.items()}  # fmt: skip
    fill(features)
    for feature in features.values():
        feature.flush()
    # Images of one colour shrink so far that a reader would take them for a bomb.
    shrunk = {name for name in deflated if features[name].nbytes > EXPANSION * features[name].id.get_storage_size()}
    for name in shrunk:
        del group[name]
    if shrunk:
        fill({name: _make_feature(group, name, (rows, widths[name]), dtypes[name], deflate=False) for name in shrunk})


def write_values(group: h5py.Group, features: Mapping[str, np.ndarray]) -> None:
    """Features float32 (rows, width) by name that are in memory, as `write_features`."""

    def fill(datasets: Features) -> None:
        for name, dataset in datasets.items():
            dataset[:] = features[name]

    for name, values in features.items():
        write_features(group, len(values), {name: values.shape[1]}, fill, {name: FEATURE_DTYPES[0]})


def _make_feature(
    group: h5py.Group, name: str, shape: tuple[int, int], dtype: np.dtype[Any], *, deflate: bool
) -> h5py.Dataset:
    rows, width = shape
    chunks = (min(max(1, CHUNK_BYTES // (dtype.itemsize * width)), max(1, rows)), width)
    return group.create_dataset(name, shape, dtype, **_filters(rows, chunks), **({"compression": 1} if deflate else {}))


def write_column(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """A whole column, one value a row."""
    group.create_dataset(name, data=values, **_filters(len(values), (min(len(values), CHUNK_BYTES // 64),)))


def write_indicator(group: h5py.Group, name: str, sets: Sequence[Sequence[int]], classes: int) -> None:
    """The classes of each row as a bool (rows, classes)."""
    values = np.zeros((len(sets), classes), bool)
    for row, codes in zip(values, sets, strict=True):
        row[list(codes)] = True
    chunks = (min(len(sets), max(1, CHUNK_BYTES // classes)), classes)
    group.create_dataset(name, data=values, compression=1, **_filters(len(sets), chunks))


def write_strings(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    """A column of strings as UTF-8; bytes of file names that are not UTF-8 stay as they are."""
    encoded = list(map(encode_text, values))
    length = max((len(value) for value in encoded), default=1) or 1
    dtype = h5py.string_dtype("utf-8", length)
    # Fixed length costs nothing on disk: deflate takes the padding.
    filters = _filters(len(values), (max(1, min(len(values), CHUNK_BYTES // length)),))
    if filters:
        filters["compression"] = 1
    group.create_dataset(name, data=np.array(encoded, dtype=f"S{length}").astype(dtype), **filters)


def read_strings(dataset: h5py.Dataset) -> list[str]:
    """What `write_strings` wrote."""
    return list(map(decode_text, dataset[:].tolist()))


def read_texts(dataset: h5py.Dataset) -> StringArray:
    """What `write_strings` wrote, without an object a row."""
    return StringArray.from_bytes(dataset[:].tolist())


def read_views(file: h5py.File) -> list[int]:
    """Which view of its image each row is; parts of before there were views have plain ones."""
    rows = file["rows"]
    views: list[int] = rows["view"][:].tolist() if "view" in rows else [0] * len(rows["path"])
    return views


def check_columns(file: h5py.File, optional: Collection[str] = ()) -> None:
    """Raise ``ValueError`` if columns are not of one length and of their types; no value is read."""
    rows = file["rows"]
    count = len(rows["path"])
    for name in ("path", "reason"):
        _check_texts(file[f"failures/{name}"], len(file["failures/path"]))
    for name, kind in _COLUMNS.items():
        if name in rows or name not in optional:
            _check_column(rows[name], kind, count)
    for column in file.get("splits", {}).values():
        _check_texts(column, count)
    for feature in file.get("features", {}).values():
        if feature.dtype not in FEATURE_DTYPES or feature.ndim != 2 or len(feature) != count:
            raise ValueError(
                f"{feature.name} must be float32 or float16 ({count}, columns), got {feature.dtype} {feature.shape}"
            )


def _check_texts(column: h5py.Dataset, count: int) -> None:
    _check_column(column, "S", count)


def _check_column(column: h5py.Dataset, kind: str, count: int) -> None:
    if (column.dtype.kind, column.shape) != (kind, (count,)):
        raise ValueError(f"{column.name} must have one value a row, {count}, of kind {kind}, "
                         f"got {column.dtype} {column.shape}")  # fmt: skip


def write_failures(file: h5py.File, failures: Sequence[tuple[str, str]]) -> None:
    """The images that failed, and why."""
    group = file.create_group("failures")
    write_strings(group, "path", [path for path, _ in failures])
    write_strings(group, "reason", [reason for _, reason in failures])


def read_failures(file: h5py.File) -> list[tuple[str, str]]:
    """What `write_failures` wrote."""
    group = file["failures"]
    return list(zip(read_strings(group["path"]), read_strings(group["reason"]), strict=True))


def write_identity(file: h5py.File, spec: ExtractSpec, golden: Mapping[str, np.ndarray]) -> None:
    """What is extracted here: the spec and its golden features."""
    file.attrs["spec"] = spec.to_json()
    write_values(file.require_group("golden"), golden)


def write_versions(file: h5py.File, versions: Mapping[str, str]) -> None:
    """What assembled the store, featx among it."""
    file.attrs["featx"] = versions["featx"]
    file.attrs["versions"] = json.dumps(versions)


def read_versions(file: h5py.File) -> dict[str, str]:
    """What `write_versions` wrote; older stores have the version of featx alone."""
    found = json.loads(file.attrs.get("versions", "{}"))
    return {**{str(name): str(number) for name, number in found.items()}, "featx": str(file.attrs["featx"])}


def read_identity(file: h5py.File) -> tuple[ExtractSpec, dict[str, np.ndarray]]:
    """What `write_identity` wrote."""
    spec = ExtractSpec.from_json(file.attrs["spec"])
    got = {name: f"{dataset.dtype} {dataset.shape}" for name, dataset in file["golden"].items()}
    if got != (wanted := {name: f"float32 ({GOLDEN_ROWS}, {width})" for name, width in spec.widths.items()}):
        raise ValueError(f"golden features must be {wanted}, got {got}")
    return spec, {name: file[f"golden/{name}"][:] for name in got}


def _filters(rows: int, chunks: tuple[int, ...]) -> dict[str, object]:
    # HDF5 allows no chunks, and so no checksum, on a dataset of no rows.
    return {"chunks": chunks, "fletcher32": True} if rows else {}


def copy_rows(source: h5py.Dataset, target: h5py.Dataset, from_rows: np.ndarray, to_rows: np.ndarray) -> None:
    """Copy rows between datasets of one width, run by run, a bounded block at a time."""
    block = max(1, BLOCK_BYTES // (4 * source.shape[1]))
    for first, last in runs_of(from_rows, to_rows):
        for start in range(first, last, block):
            count = min(block, last - start)
            begin, end = from_rows[start], to_rows[start]
            target[end : end + count] = _fitting(source[begin : begin + count], target)


def _fitting(values: np.ndarray, target: h5py.Dataset) -> np.ndarray:
    """The values in the type of a dataset, for which finite ones must not be too large."""
    if values.dtype.itemsize <= target.dtype.itemsize:
        return values
    with np.errstate(over="ignore"):
        fitting = values.astype(target.dtype)
    if (over := np.isinf(fitting) & np.isfinite(values)).any():
        raise ValueError(f"{target.name} has {values[over][0]:,.0f}, and float16 goes to "
                         f"{np.finfo(np.float16).max:,.0f}; give --store-dtype float32")  # fmt: skip
    return fitting


def runs_of(from_rows: np.ndarray, to_rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where both sides go on row after row: (first, last) positions, last excluded."""
    breaks = np.flatnonzero((np.diff(from_rows) != 1) | (np.diff(to_rows) != 1)) + 1
    edges = [0, *breaks.tolist(), len(from_rows)]
    return itertools.pairwise(edges)
