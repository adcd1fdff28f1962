"""The table that every format writes: what is known of each row, and its features a block at a time."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from featx.backbones import WhichBlocks, WhichPools
from featx.spec import ExtractSpec
from featx.store import Store
from featx.table import LABEL_SEPARATOR, CategoricalArray, ImageTable, LabelNames, StringArray, encode_text

BLOCK_BYTES = 1 << 24
"""Features in memory at a time."""


class FeatureTable:
    """Rows of an open store: ``numbers`` int64 (rows,) of those that are meant, and their columns."""

    def __init__(self, store: Store, spec: ExtractSpec, numbers: np.ndarray) -> None:
        self._store, self.spec, self._numbers = store, spec, numbers
        images, digests = store.image_table()
        self._rows: ImageTable = images.take(numbers // store.spec.n_views)
        self.digests = StringArray.from_bytes(digests[numbers // store.spec.n_views].tolist())
        self.views = store.view_index[numbers]
        self.several = store.multilabel_targets is not None

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def width(self) -> int:
        """Columns of all features."""
        return self.spec.width

    @property
    def paths(self) -> StringArray:
        """Each row's path."""
        return self._rows.paths

    @property
    def labels(self) -> CategoricalArray[LabelNames]:
        """The names of each row's classes."""
        return self._rows.labels

    @property
    def label_texts(self) -> CategoricalArray[str]:
        """Each row's classes as one text, as in a manifest."""
        return CategoricalArray([LABEL_SEPARATOR.join(names) for names in self.labels.categories], self.labels.codes)

    @property
    def splits(self) -> dict[str, CategoricalArray[str]]:
        """The split columns."""
        return dict(self._rows.columns)

    @property
    def columns(self) -> dict[str, Sequence[object]]:
        """What is known of each row, by column, as plain values."""
        known: dict[str, Sequence[object]] = {
            "path": self.paths, "label": self.label_texts, "digest": self.digests, "view": self.views.tolist(),
        }  # fmt: skip
        return {**known, **self.splits}

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The first row of each block, and its features side by side, float32 (rows of the block, columns)."""
        step = max(1, BLOCK_BYTES // (4 * self.width))
        for first in range(0, len(self), step):
            yield first, self._store.read(self.spec.widths, self._numbers[first : first + step])

    def write_rows(self, path: Path) -> None:
        """What is known of each row, as CSV."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = self.columns
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))


@contextmanager
def open_table(
    path: str | Path,
    blocks: WhichBlocks | None,
    pools: WhichPools | None,
    split: str | None,
    split_column: str,
) -> Iterator[FeatureTable]:
    """The table of a store, or of one of its splits; errors as `featx.load_features`."""
    with Store(path) as store:
        yield FeatureTable(store, store.spec.select(blocks, pools), store.rows_in_split(split, split_column))


def escaped(text: str) -> str:
    """A file's name as text that is UTF-8: bytes that are not are escaped."""
    return encode_text(text).decode("utf-8", "backslashreplace")
