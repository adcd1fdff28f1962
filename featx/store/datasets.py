"""Write and read the datasets of stores and part files: features, columns of numbers, columns of strings.

Datasets with rows carry a checksum per chunk (Fletcher32), so that changed bytes are detected when they are read.
Strings have a fixed length for the same reason: HDF5 keeps those of variable length where no checksum reaches.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from featx.backbones import pool_of
from featx.files import CHUNK, MAX_EXPANSION
from featx.table import StringArray, decode_text, encode_text

CHUNK_BYTES = 1 << 18
"""Bytes of a chunk of features."""
BLOCK_BYTES = 1 << 24
"""Bytes of features that are read or copied at once."""
Features = Mapping[str, h5py.Dataset]
"""Datasets (rows, width) by feature name."""
FEATURE_DTYPES = (np.dtype("float32"), np.dtype("float16"))
"""Part files have float32 features; a store may have float16, which is read as float32."""


def is_compressed(name: str, row_bytes: int) -> bool:
    """Return whether a feature is compressed: only ``flat`` pooling pays off (see docs/benchmarks).

    Rows that are larger than the largest chunk a reader accepts (`featx.files.CHUNK`) are not compressed either.
    """
    return pool_of(name) == "flat" and row_bytes <= CHUNK.default


def feature_bytes(widths: Mapping[str, int], rows: int, itemsize: int, ratio: float) -> int:
    """Estimate the bytes on disk of ``rows`` rows of features.

    Parameters
    ----------
    widths : mapping of str to int
        Columns by feature name.
    rows : int
    itemsize : int
        Bytes per value.
    ratio : float
        Compressed bytes per byte, for those features that are compressed.
    """
    row_bytes = {name: width * itemsize for name, width in widths.items()}
    return round(rows * sum(size * (ratio if is_compressed(name, size) else 1) for name, size in row_bytes.items()))


def write_features(
    group: h5py.Group,
    rows: int,
    widths: Mapping[str, int],
    fill: Callable[[Features], None],
    dtypes: Mapping[str, np.dtype[Any]],
) -> None:
    """Create the datasets of several features and let a function fill them.

    Parameters
    ----------
    group : h5py.Group
        Where to create the datasets.
    rows : int
        Rows of each dataset.
    widths : mapping of str to int
        Columns by feature name.
    fill : callable
        Writes all rows of the datasets that it is given; it may be called a second time for some of them.
    dtypes : mapping of str to dtype
        float32 or float16, by feature name.
    """
    compressed = {name for name, width in widths.items() if is_compressed(name, dtypes[name].itemsize * width) and rows}
    features = {
        name: _create_feature(group, name, (rows, width), dtypes[name], compress=name in compressed)
        for name, width in widths.items()
    }
    fill(features)
    for feature in features.values():
        feature.flush()
    # Images of a single colour compress so well that a reader would refuse them as a decompression bomb.
    suspicious = {
        name for name in compressed if features[name].nbytes > MAX_EXPANSION * features[name].id.get_storage_size()
    }
    for name in suspicious:
        del group[name]
    if suspicious:
        fill(
            {
                name: _create_feature(group, name, (rows, widths[name]), dtypes[name], compress=False)
                for name in suspicious
            }
        )


def write_feature_arrays(group: h5py.Group, features: Mapping[str, np.ndarray]) -> None:
    """Write features that are in memory: float32 (rows, width) by feature name."""

    def fill(datasets: Features) -> None:
        for name, dataset in datasets.items():
            dataset[:] = features[name]

    for name, values in features.items():
        write_features(group, len(values), {name: values.shape[1]}, fill, {name: FEATURE_DTYPES[0]})


def _create_feature(
    group: h5py.Group, name: str, shape: tuple[int, int], dtype: np.dtype[Any], *, compress: bool
) -> h5py.Dataset:
    rows, width = shape
    chunks = (min(max(1, CHUNK_BYTES // (dtype.itemsize * width)), max(1, rows)), width)
    options = {**_checksum(rows, chunks), **({"compression": 1} if compress else {})}
    return group.create_dataset(name, shape, dtype, **options)


def write_column(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """Write a column of numbers, one value per row."""
    group.create_dataset(name, data=values, **_checksum(len(values), (min(len(values), CHUNK_BYTES // 64),)))


def write_indicator(group: h5py.Group, name: str, label_sets: Sequence[Sequence[int]], classes: int) -> None:
    """Write the class indices of multi-label rows as a bool matrix (rows, classes)."""
    values = np.zeros((len(label_sets), classes), bool)
    for row, codes in zip(values, label_sets, strict=True):
        row[list(codes)] = True
    chunks = (min(len(label_sets), max(1, CHUNK_BYTES // classes)), classes)
    group.create_dataset(name, data=values, compression=1, **_checksum(len(label_sets), chunks))


def write_strings(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    """Write a column of strings as UTF-8; file names that are not valid UTF-8 keep their bytes."""
    encoded = list(map(encode_text, values))
    length = max((len(value) for value in encoded), default=1) or 1
    dtype = h5py.string_dtype("utf-8", length)
    options = _checksum(len(values), (max(1, min(len(values), CHUNK_BYTES // length)),))
    if options:
        options["compression"] = 1  # removes the padding of a fixed length
    group.create_dataset(name, data=np.array(encoded, dtype=f"S{length}").astype(dtype), **options)


def read_strings(dataset: h5py.Dataset) -> list[str]:
    """Read what `write_strings` wrote."""
    return list(map(decode_text, dataset[:].tolist()))


def read_string_array(dataset: h5py.Dataset) -> StringArray:
    """Read what `write_strings` wrote, without a Python object per row."""
    return StringArray.from_bytes(dataset[:].tolist())


def read_rows(dataset: h5py.Dataset, rows: np.ndarray, target: np.ndarray) -> None:
    """Read rows of a feature into an array, without reading chunks in which none of them lies.

    Parameters
    ----------
    dataset : h5py.Dataset
        (rows, width).
    rows : int64 (n,)
        Sorted row numbers.
    target : float32 (n, width)
        Where to write the values.
    """
    # One read covers rows in adjacent chunks, but at most one block.
    row_bytes = dataset.dtype.itemsize * target.shape[1]
    chunks, blocks = (rows // max(1, size // row_bytes) for size in (CHUNK_BYTES, BLOCK_BYTES))
    cuts = np.flatnonzero((np.diff(chunks) > 1) | (np.diff(blocks) > 0)) + 1
    for start, stop in itertools.pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
        low, high = rows[start], rows[stop - 1] + 1
        target[start:stop] = dataset[low:high][rows[start:stop] - low]


def _checksum(rows: int, chunks: tuple[int, ...]) -> dict[str, object]:
    # HDF5 allows no chunks, and therefore no checksum, on a dataset without rows.
    return {"chunks": chunks, "fletcher32": True} if rows else {}


def copy_rows(source: h5py.Dataset, target: h5py.Dataset, from_rows: np.ndarray, to_rows: np.ndarray) -> None:
    """Copy rows from one feature dataset to another of the same width, `BLOCK_BYTES` at a time.

    Parameters
    ----------
    source, target : h5py.Dataset
        (rows, width). The values are converted to the type of ``target``.
    from_rows, to_rows : int64 (n,)
        The rows to copy, and where to.

    Raises
    ------
    ValueError
        If a value is too large for float16.
    """
    block = max(1, BLOCK_BYTES // (4 * source.shape[1]))
    for first, last in contiguous_runs(from_rows, to_rows):
        for start in range(first, last, block):
            count = min(block, last - start)
            read, written = from_rows[start], to_rows[start]
            target[written : written + count] = _convert(source[read : read + count], target)


def _convert(values: np.ndarray, target: h5py.Dataset) -> np.ndarray:
    """Convert values to the type of a dataset; ``ValueError`` if a finite value would become infinite."""
    if values.dtype.itemsize <= target.dtype.itemsize:
        return values
    with np.errstate(over="ignore"):
        converted = values.astype(target.dtype)
    if (overflow := np.isinf(converted) & np.isfinite(values)).any():
        raise ValueError(
            f"{target.name} has the value {values[overflow][0]:,.0f}, and float16 holds at most "
            f"{np.finfo(np.float16).max:,.0f}; use --store-dtype float32"
        )
    return converted


def contiguous_runs(from_rows: np.ndarray, to_rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Split positions into runs in which both row numbers increase by one: (first, last), ``last`` excluded."""
    breaks = np.flatnonzero((np.diff(from_rows) != 1) | (np.diff(to_rows) != 1)) + 1
    edges = [0, *breaks.tolist(), len(from_rows)]
    return itertools.pairwise(edges)
