"""Read a store as the table that every export format writes. Features are read in blocks of rows."""

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
"""Maximum number of bytes of features that are in memory at once."""


class FeatureTable:
    """A table of some rows and some features of an open store.

    Parameters
    ----------
    store : Store
        The store.
    spec : ExtractSpec
        Describes the features of the table.
    rows : int64 (n,)
        The rows of the store that the table has.
    """

    def __init__(self, store: Store, spec: ExtractSpec, rows: np.ndarray) -> None:
        self._store, self.spec, self._rows = store, spec, rows
        images, digests = store.image_table()
        numbers = rows // store.spec.n_views
        self._images: ImageTable = images.take(numbers)
        self.digests = StringArray.from_bytes(digests[numbers].tolist())
        self.view_index = store.view_index[rows]
        self.multilabel = store.multilabel_targets is not None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def width(self) -> int:
        """Number of feature columns."""
        return self.spec.width

    @property
    def paths(self) -> StringArray:
        """The image file of each row."""
        return self._images.paths

    @property
    def labels(self) -> CategoricalArray[LabelNames]:
        """The class names of each row."""
        return self._images.labels

    @property
    def label_texts(self) -> CategoricalArray[str]:
        """The class names of each row, joined to one text as in a manifest."""
        texts = [LABEL_SEPARATOR.join(names) for names in self.labels.categories]
        return CategoricalArray(texts, self.labels.codes)

    @property
    def store_columns(self) -> dict[str, CategoricalArray[str]]:
        """The split and weight columns of the store."""
        return dict(self._images.columns)

    @property
    def columns(self) -> dict[str, Sequence[object]]:
        """All columns except the features, as plain values."""
        known: dict[str, Sequence[object]] = {
            "path": self.paths,
            "label": self.label_texts,
            "digest": self.digests,
            "view": self.view_index.tolist(),
        }
        return {**known, **self.store_columns}

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the table in blocks of rows.

        Each item is the number of the first row of the block, and its features, float32 (rows of the block, columns).
        """
        step = max(1, BLOCK_BYTES // (4 * self.width))
        for first in range(0, len(self), step):
            yield first, self._store.read(self.spec.widths, self._rows[first : first + step])

    def write_rows(self, path: Path) -> None:
        """Write all columns except the features as CSV."""
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
    """Open the table of a store or of one of its splits.

    The parameters and errors are those of `featx.load_features`.
    """
    with Store(path) as store:
        yield FeatureTable(store, store.spec.select(blocks, pools), store.rows_in_split(split, split_column))


def escape_non_utf8(text: str) -> str:
    r"""Return a file name as valid UTF-8. Bytes that are not valid are written like ``\xff``."""
    return encode_text(text).decode("utf-8", "backslashreplace")
