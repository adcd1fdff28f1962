"""Copy features from part files and stores into a new store, always in the order of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from featx.errors import StoreError
from featx.files import open_untrusted
from featx.store import virtual
from featx.store.datasets import BLOCK_BYTES, Features, convert_dtype, read_rows
from featx.store.schema import source_errors

MOST_OPEN = 4
"""Number of sources that are open at the same time. An extraction of millions of images has more parts than a process
may have open."""


@dataclass(frozen=True)
class Source:
    """A file that holds some of the rows of a new store.

    The file has ``length`` rows. Row ``from_rows[i]`` of the file is row ``to_rows[i]`` of the store. ``to_rows`` is
    sorted. ``dtypes`` holds the type of each feature, by its name.
    """

    path: Path
    length: int
    from_rows: np.ndarray
    to_rows: np.ndarray
    dtypes: Mapping[str, np.dtype[Any]]


def copy_features(sources: Sequence[Source], features: Features) -> None:
    """Copy all rows of several features from the sources that hold them.

    The rows are written block by block, in their order. The place of a chunk in the new file depends on the order in
    which rows are written. So a store always has the same bytes. Its rows may come from the parts of one run, or from
    an existing store and the parts that update it. At most `BLOCK_BYTES` of features are in memory.

    Parameters
    ----------
    sources : sequence of Source
        Together they hold each row once.
    features : mapping of str to Dataset
        Datasets of the new store, (rows, width), by feature name. They have the names of the datasets in the sources.

    Raises
    ------
    StoreUnreadable, StoreCorrupt
        If a source cannot be read now, or is damaged.
    StoreError
        If a value is too large for float16.
    """
    rows = sum(len(source.to_rows) for source in sources)
    number, position = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for index, source in enumerate(sources):
        number[source.to_rows], position[source.to_rows] = index, source.from_rows
    step = max(1, BLOCK_BYTES // (4 * max(1, sum(feature.shape[1] for feature in features.values()))))
    with _OpenSources(sources) as opened:
        for start in range(0, rows, step):
            block = slice(start, min(start + step, rows))
            values = {
                name: np.empty((block.stop - start, feature.shape[1]), np.float32) for name, feature in features.items()
            }
            for index in dict.fromkeys(number[block].tolist()):
                places = np.flatnonzero(number[block] == index)
                # Datasets are read in the order of their rows, because a chunk must be read only once.
                order = np.argsort(position[block][places], kind="stable")
                opened.read(index, position[block][places[order]], places[order], values)
            for name, feature in features.items():
                feature[block] = convert_dtype(values[name], feature)


class _OpenSources:
    """The sources that were read last. They are still open."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._files: dict[int, h5py.File] = {}

    def __enter__(self) -> "_OpenSources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def read(self, number: int, rows: np.ndarray, places: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Read sorted rows of a source into the rows ``places`` of each array in ``values``, by feature name."""
        path = self._sources[number].path
        with source_errors(path):
            file = self._files.pop(number, None) or open_untrusted(path, StoreError)
            self._files[number] = file
            if len(self._files) > MOST_OPEN:
                self._files.pop(next(iter(self._files))).close()
            for name, array in values.items():
                self._read_feature(file[f"features/{name}"], rows, places, array)

    @staticmethod
    def _read_feature(dataset: h5py.Dataset, rows: np.ndarray, places: np.ndarray, array: np.ndarray) -> None:
        low, first, count = int(rows[0]), int(places[0]), len(rows)
        adjacent = bool((np.diff(places) == 1).all())
        found = array[first : first + count] if adjacent else np.empty((count, array.shape[1]), np.float32)
        if (np.diff(rows) == 1).all():
            dataset.read_direct(found, np.s_[low : low + count])
        else:
            read_rows(dataset, rows, found)
        if dataset.is_virtual:
            virtual.check_not_missing(found, f"{dataset.name} of {dataset.file.filename}", ())
        if not adjacent:
            array[places] = found
