"""The rows of a store that a head is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import DataError
from featx.heads import compact_ids, fingerprint, holdout
from featx.spec import ExtractSpec
from featx.store import Store

DECIDING_PACKAGES = ("scikit-learn", "numpy")
"""A model records their versions, because they decide its weights."""


@dataclass(frozen=True)
class Training:
    """The rows to fit on.

    Features (rows, columns) of ``spec``, of all views of each image, of which ``plain`` marks the first; the class name
    of each row, or, of a store whose images have several labels, an indicator int64 (rows, classes); the names of the
    classes; groups that stay together; what each row counts, None for all alike; and the rows' numbers in
    the store. ``images`` are the marks of their images (`featx.heads.image_ids.compact_ids`), sorted.
    """

    spec: ExtractSpec
    X: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray
    plain: np.ndarray
    sample_weight: np.ndarray | None
    rows: np.ndarray
    selection: dict[str, Any]
    store: str
    images: NDArray[np.uint64]


def read_training(
    path: str | Path,
    *,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split_column: str | None = None,
    test_size: float | None = None,
    random_state: int = 0,
    sample_weight: ArrayLike | None = None,
    weight_column: str | None = None,
) -> Training:
    """Read a store's training rows; see `featx.fit.fit` for the parameters and errors."""
    with Store(path) as store:
        digests = store.digests
        rows, selection = choose_rows(store, digests, split_column, test_size, random_state)
        spec = store.spec.plain.select(blocks, pools)
        _, groups = np.unique(np.array(digests)[rows], return_inverse=True)
        weight = _weights(store, sample_weight, weight_column)
        weight = None if weight is None else _check_weights(store, weight[rows], rows)
        X = store.read(spec.widths, rows)
        y, classes = targets_of(store, rows)
        plain, whole = store.view_index[rows] == 0, fingerprint(digests[:: store.spec.n_views])
        return Training(spec, X, y, classes, groups, plain, weight, rows, selection, whole, images_of(digests, rows))


def describe_store(store: Store, spec: ExtractSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``Model.info`` says of the store, and the reference features of ``spec``."""
    facts: dict[str, Any] = {"store_rows": store.n_rows}
    if store.spec.n_views > 1:
        # The names are those in the files of every version.
        names = {"views": "n_views", "augment": "augment", "fill": "fill", "view_seed": "view_seed"}
        facts["augmentation"] = {key: getattr(store.spec, name) for key, name in names.items()}
    return facts, {name: values for name, values in store.reference_features.items() if name in spec.widths}


def images_of(digests: Sequence[str], rows: np.ndarray) -> NDArray[np.uint64]:
    """The marks of the images that some rows are of, sorted, each once."""
    found: NDArray[np.uint64] = np.unique(compact_ids(digests)[rows])
    return found


def choose_rows(
    store: Store, digests: Sequence[str], split_column: str | None, test_size: float | None, random_state: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """The labeled rows to fit on, sorted, and how they were chosen; ``DataError`` if there are none."""
    labels = store.labels
    if not (labels >= 0).any():
        raise DataError(f"{store.path} has no labels; extract a folder with one sub-folder a class, or a manifest")
    selection = _selection(store, split_column, test_size, random_state)
    if "test_size" in selection:
        return holdout(store.targets, digests, selection["test_size"], random_state)[0], selection
    rows = store.rows_in_split("train" if "column" in selection else None, selection.get("column", ""))
    return rows[labels[rows] >= 0], selection


def targets_of(store: Store, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class names a row, or an indicator, and the names of the classes that the rows have."""
    targets, names = store.targets[rows], np.array(store.classes)
    if targets.ndim == 1:
        y = names[targets]
        return y, tuple(np.unique(y).tolist())
    used = targets.any(axis=0)
    return targets[:, used].astype(np.int64), tuple(names[used].tolist())


def _weights(store: Store, given: ArrayLike | None, column: str | None) -> np.ndarray | None:
    """What each row of the store counts: None for all alike, NaN where a column has no number."""
    if column is None:
        weights = None if given is None else np.asarray(given, dtype=np.float64)
        if weights is not None and weights.shape != (store.n_rows,):
            raise DataError(f"sample_weight of fit must be one number a row of {store.path}, {store.n_rows}, got shape "
                            f"{weights.shape}")  # fmt: skip
        return weights
    if given is not None:
        raise DataError("fit takes sample_weight or weight_column, got both; leave one out")
    columns = store.columns
    if column not in columns:
        known = ", ".join(columns) or "none"
        raise DataError(
            f"--weight-column of fit must be among the columns of {store.path} ({known}), got {column}; "
            "extract keeps a manifest's columns that begin with weight"
        )
    return np.array([_number(text) for text in columns[column]])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _check_weights(store: Store, weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(~((weight > 0) & np.isfinite(weight)))
    if len(wrong):
        path = store.paths[rows[wrong[0]]]
        raise DataError(f"weights of the rows to fit must be finite numbers above 0, but {len(wrong)} are not, the "
                        f"first that of {path!r}; mend them, or leave those rows out by a split column")  # fmt: skip
    return weight


def _selection(store: Store, split_column: str | None, test_size: float | None, random_state: int) -> dict[str, Any]:
    """How the training rows are told from the others; a model keeps it, so that `evaluate` finds the others."""
    if test_size is not None:
        if split_column is not None:
            raise DataError(f"--test-size takes the place of a split column, got --split-column {split_column} too; leave "
                            "one out")  # fmt: skip
        return {"test_size": test_size, "seed": random_state}
    columns = [name for name in store.columns if name.startswith("split")]
    if split_column is None and not columns:
        return {}
    if split_column is None and "split" not in columns:
        raise DataError(f"no split column of {store.path} is called split; give --split-column, one of "
                        f"{', '.join(columns)}")  # fmt: skip
    return {"column": split_column or "split"}
