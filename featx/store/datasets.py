"""Write and read the datasets of stores and part files: features, columns of numbers and columns of strings.

Each chunk of a dataset has a checksum (Fletcher32), so that changed bytes are detected when they are read. Strings have
a fixed length for the same reason, because HDF5 keeps strings of variable length in a place without a checksum.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from featx.backbones import pool_of
from featx.errors import StoreError
from featx.files import CHUNK, MAX_EXPANSION
from featx.table import StringArray, decode_text, encode_text

CHUNK_BYTES = 1 << 18
"""Size of a chunk of features, in bytes."""
BLOCK_BYTES = 1 << 24
"""Largest number of bytes of features that are read or copied at once."""
Features = Mapping[str, h5py.Dataset]
"""Datasets of shape (rows, width), by feature name."""
FEATURE_DTYPES = (np.dtype("float32"), np.dtype("float16"))
"""Types of stored features. Part files always have float32. A store may have float16, which is read as float32."""


def is_compressed(name: str, row_bytes: int) -> bool:
    """Return whether a feature is compressed.

    Only features of ``flat`` pooling are compressed, because compression saves little space for other features (see
    docs/benchmarks). If a row is larger than the largest chunk that a reader accepts (`featx.files.CHUNK`), it is not
    compressed either.
    """
    return pool_of(name) == "flat" and row_bytes <= CHUNK.default


def feature_bytes(widths: Mapping[str, int], rows: int, itemsize: int, ratio: float) -> int:
    """Estimate how many bytes features take on disk.

    Parameters
    ----------
    widths : mapping of str to int
        Number of columns of each feature, by its name.
    rows : int
        Number of rows.
    itemsize : int
        Bytes per value.
    ratio : float
        Compressed size divided by uncompressed size, for features that are compressed.
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
        Number of rows of each dataset.
    widths : mapping of str to int
        Number of columns of each feature, by its name.
    fill : callable
        Function of some of the datasets, which writes all of their rows. It may be called a second time for some
        datasets.
    dtypes : mapping of str to dtype
        Type of each feature, float32 or float16, by its name.
    """
    compressed = {name for name, width in widths.items() if is_compressed(name, dtypes[name].itemsize * width) and rows}
    features = {
        name: _create_feature(group, name, (rows, width), dtypes[name], compress=name in compressed)
        for name, width in widths.items()
    }
    fill(features)
    for feature in features.values():
        feature.flush()
    # Features of single-color images are compressed so much that a reader would refuse them as decompression bombs.
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
    """Write features that are in memory; each is an array float32 (rows, width)."""

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
        options["compression"] = 1  # Compression removes the padding of short strings.
    group.create_dataset(name, data=np.array(encoded, dtype=f"S{length}").astype(dtype), **options)


def read_strings(dataset: h5py.Dataset) -> list[str]:
    """Read a column of strings that `write_strings` wrote."""
    return list(map(decode_text, dataset[:].tolist()))


def read_string_array(dataset: h5py.Dataset) -> StringArray:
    """Read a column of strings that `write_strings` wrote, without keeping a Python object for each row."""
    return StringArray.from_bytes(dataset[:].tolist())


def read_rows(dataset: h5py.Dataset, rows: np.ndarray, target: np.ndarray) -> None:
    """Read rows of a feature into an array. Chunks that contain none of these rows are not read.

    Parameters
    ----------
    dataset : h5py.Dataset
        The feature, (rows, width).
    rows : int64 (n,)
        Sorted numbers of the rows to read.
    target : float32 (n, width)
        The array to write the values to.
    """
    # Rows in adjacent chunks are read at once, but at most `BLOCK_BYTES`.
    row_bytes = dataset.dtype.itemsize * target.shape[1]
    chunks, blocks = (rows // max(1, size // row_bytes) for size in (CHUNK_BYTES, BLOCK_BYTES))
    cuts = np.flatnonzero((np.diff(chunks) > 1) | (np.diff(blocks) > 0)) + 1
    for start, stop in itertools.pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
        low, high = rows[start], rows[stop - 1] + 1
        target[start:stop] = dataset[low:high][rows[start:stop] - low]


def _checksum(rows: int, chunks: tuple[int, ...]) -> dict[str, object]:
    # A dataset without rows cannot have chunks in HDF5, so it cannot have a checksum.
    return {"chunks": chunks, "fletcher32": True} if rows else {}


def convert_dtype(values: np.ndarray, target: h5py.Dataset) -> np.ndarray:
    """Convert values to the type of a dataset; raise ``StoreError`` if a finite value would become infinite."""
    if values.dtype.itemsize <= target.dtype.itemsize:
        return values
    with np.errstate(over="ignore"):
        converted = values.astype(target.dtype)
    if (overflow := np.isinf(converted) & np.isfinite(values)).any():
        raise StoreError(
            f"{target.name} has the value {values[overflow][0]:,.0f}, and float16 holds at most "
            f"{np.finfo(np.float16).max:,.0f}; use --store-dtype float32"
        )
    return converted


def contiguous_runs(from_rows: np.ndarray, to_rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Split two lists of row numbers into runs. Within a run, both numbers increase by one at each step.

    A run is the pair (first, last) of its positions in the lists; ``last`` is excluded.
    """
    breaks = np.flatnonzero((np.diff(from_rows) != 1) | (np.diff(to_rows) != 1)) + 1
    edges = [0, *breaks.tolist(), len(from_rows)]
    return itertools.pairwise(edges)
