"""The rows of a store that a head is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError
from featx.heads.rows import fingerprint, holdout
from featx.spec import ExtractSpec
from featx.store import Store


@dataclass(frozen=True)
class Training:
    """The rows to fit on: features (rows, columns) of ``spec``, class names a row, and groups that stay together."""

    spec: ExtractSpec
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    selection: dict[str, Any]
    store: str


def read_training(
    path: str | Path,
    *,
    blocks: Sequence[int] | None = None,
    pools: Sequence[str] | None = None,
    column: str | None = None,
    test_size: float | None = None,
    seed: int = 0,
) -> Training:
    """Read a store's training rows; see `featx.fit.fit` for the parameters and errors."""
    with Store(path) as store:
        labels, digests, classes = store.labels, store.digests, np.array(store.classes)
        if not (labels >= 0).any():
            raise DataError(f"{path} has no labels; extract a folder with one sub-folder a class, or a manifest")
        selection = _selection(store, column, test_size, seed)
        if "test_size" in selection:
            rows = holdout(labels, digests, selection["test_size"], seed)[0]
        else:
            rows = store.rows_of("train" if "column" in selection else None, selection.get("column", ""))
            rows = rows[labels[rows] >= 0]
        spec = store.spec.select(blocks, pools)
        _, groups = np.unique(np.array(digests)[rows], return_inverse=True)
        X = store.read(spec.widths, rows)
        return Training(spec, X, classes[labels[rows]], groups, selection, fingerprint(digests))


def _selection(store: Store, column: str | None, test_size: float | None, seed: int) -> dict[str, Any]:
    """How the training rows are told from the others; a model keeps it, so that `evaluate` finds the others."""
    if test_size is not None:
        return {"test_size": test_size, "seed": seed}
    columns = list(store.splits)
    if column is None and not columns:
        return {}
    if column is None and "split" not in columns:
        raise DataError(f"{store.path} has several split columns; give --split-column, one of {', '.join(columns)}")
    return {"column": column or "split"}
