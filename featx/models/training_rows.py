"""Read the rows of a store that a head is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import DataError
from featx.heads import compact_ids, fingerprint, hold_out
from featx.models.row_groups import GroupOptions, group_rows
from featx.models.saved_model import Model
from featx.runtime import pluralize, shorten_list
from featx.spec import ExtractSpec
from featx.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class TrainingRows:
    """The rows of a store that a head is fitted on, and how they were selected.

    Parameters
    ----------
    spec : ExtractSpec
        Spec of the features, without augmentation.
    X : float32 array (rows, columns)
        Features of all copies of the training images.
    y : str array (rows,), or int64 array (rows, classes)
        Class name of each row. For a multi-label store, 1 where a row has the class, else 0.
    classes : tuple of str
        Class names that occur in the rows, sorted.
    groups : int array (rows,)
        Rows with equal numbers are copies of one image, of files with equal bytes, or of one group of the user. Folds
        keep them together.
    plain : bool array (rows,)
        False for augmented copies.
    sample_weight : float array (rows,), optional
        Weight of each row. None weights all rows equally.
    row_index : int array (rows,)
        Number of each row in the store.
    selection : dict
        How the rows were selected. A model keeps it, so that `featx.evaluate` finds the other rows.
    store_fingerprint : str
        Digest of all images of the store.
    image_ids : uint64 array
        Identifiers of the images (`featx.heads.compact_ids`), sorted.
    grouping : dict
        How the groups were made, in the form that a model stores. It is empty if only equal files were grouped.
    notes : tuple of str
        What a person should know about the groups and the held-out rows, one phrase each.
    """

    spec: ExtractSpec
    X: NDArray[np.float32]
    y: NDArray[Any]
    classes: tuple[str, ...]
    groups: NDArray[np.intp]
    plain: NDArray[np.bool_]
    sample_weight: NDArray[np.float64] | None
    row_index: NDArray[np.intp]
    selection: dict[str, Any]
    store_fingerprint: str
    image_ids: NDArray[np.uint64]
    grouping: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What stays on one side of every fold, in words: an image, or a group of images."""
        return "group" if self.grouping else "image"

    def __repr__(self) -> str:
        rows, columns = self.X.shape
        return (
            f"TrainingRows({pluralize(rows, 'row')} of {pluralize(len(self.image_ids), 'image')}, {columns:,} columns, "
            f"{pluralize(len(self.classes), 'class', 'classes')})"
        )


def read_training_rows(
    path: str | Path,
    *,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split_column: str | None = None,
    test_size: float | None = None,
    random_state: int = 0,
    sample_weight: ArrayLike | None = None,
    weight_column: str | None = None,
    groups: GroupOptions | None = None,
    image_ids: NDArray[np.uint64] | None = None,
) -> TrainingRows:
    """Read the training rows of a store. `featx.fit` describes the parameters and errors.

    If ``image_ids`` (`featx.heads.compact_ids`) are given, these are the training images, and no hold-out is drawn.
    """
    with Store(path) as store:
        digests = store.digests
        rows, selection = select_labeled_rows(store, split_column, test_size, random_state)
        grouped = group_rows(store, digests, groups or GroupOptions(), rows)
        if image_ids is None:
            rows = leave_out_held_rows(store, rows, grouped.groups, selection)
        else:
            rows = rows[np.isin(compact_ids(digests)[rows], image_ids)]
        spec = store.spec.plain.select(blocks, pools)
        weights = _read_weights(store, sample_weight, weight_column)
        if weights is not None:
            weights = _check_weights(store, weights[rows], rows)
        X = store.read(spec.widths, rows)
        y, classes = read_targets(store, rows)
        return TrainingRows(
            spec, X, y, classes, grouped.groups[rows], store.view_index[rows] == 0, weights, rows, selection,
            fingerprint(digests[:: store.spec.n_views]), image_ids_of(digests, rows), grouped.describe(rows),
            (*grouped.notes, *describe_held_out(store, rows, selection)),
        )  # fmt: skip


def read_fitted_rows(path: str | Path, model: Model) -> TrainingRows:
    """Read the rows of a store that a model was fitted on.

    Sample weights that are in no column of the store are left out.
    """
    info = model.info
    selection, weights = info.get("selection", {}), info.get("sample_weight", "given")
    return read_training_rows(
        path, blocks=model.spec.blocks, pools=model.spec.pools, split_column=selection.get("column"),
        test_size=selection.get("test_size"), random_state=selection.get("seed", 0),
        weight_column=None if weights == "given" else weights, groups=GroupOptions.of_model(info),
        image_ids=model.fitted_image_ids,
    )  # fmt: skip


def describe_held_out(store: Store, rows: NDArray[np.intp], selection: dict[str, Any]) -> list[str]:
    """Name the classes that have no held-out image to test. The list has one phrase, or none."""
    if "test_size" not in selection:
        return []
    targets, names = store.targets, np.array(store.classes)
    held = np.setdiff1d(np.flatnonzero(store.labels >= 0), rows)
    if targets.ndim == 1:
        absent = names[np.setdiff1d(targets[rows], targets[held])]
    else:
        absent = names[targets[rows].any(axis=0) & ~targets[held].any(axis=0)]
    if not len(absent):
        return []
    what = pluralize(len(absent), "class has", "classes have")
    return [f"{what} too few images or groups to hold one out, so evaluate does not score them: {shorten_list(absent)}"]


def image_ids_of(digests: Sequence[str], rows: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return the identifiers of the images in some rows, sorted and without duplicates."""
    found: NDArray[np.uint64] = np.unique(compact_ids(digests)[rows])
    return found


def select_labeled_rows(
    store: Store, split_column: str | None, test_size: float | None, random_state: int
) -> tuple[NDArray[np.intp], dict[str, Any]]:
    """Return the numbers of the labeled rows to fit on or to hold out, sorted, and how they are selected.

    Raises
    ------
    DataError
        If the store has no labels, if both a split column and ``test_size`` are given, or if the column is missing.
    """
    labels = store.labels
    if not (labels >= 0).any():
        raise DataError(f"{store.path} has no labels; extract a folder with one sub-folder per class, or a manifest")
    selection = _selection(store, split_column, test_size, random_state)
    rows = store.rows_in_split("train" if "column" in selection else None, selection.get("column", ""))
    return rows[labels[rows] >= 0], selection


def leave_out_held_rows(
    store: Store, rows: NDArray[np.intp], groups: NDArray[np.intp], selection: dict[str, Any]
) -> NDArray[np.intp]:
    """Return the labeled rows that are not held out. Rows with equal ``groups`` (rows of the store,) stay together."""
    if "test_size" not in selection:
        return rows
    return hold_out(store.targets, groups, selection["test_size"], selection["seed"])[0]


def _selection(store: Store, split_column: str | None, test_size: float | None, random_state: int) -> dict[str, Any]:
    """Return the selection under the names that model files use."""
    if test_size is not None:
        if split_column is not None:
            raise DataError(
                f"--test-size of fit is used instead of a split column, got --split-column {split_column} too; "
                "leave one out"
            )
        return {"test_size": test_size, "seed": random_state}
    columns = [name for name in store.columns if name.startswith("split")]
    if split_column is None and not columns:
        return {}
    if split_column is None and "split" not in columns:
        raise DataError(
            f"no split column of {store.path} is called split; give --split-column, one of {', '.join(columns)}"
        )
    return {"column": split_column or "split"}


def read_targets(store: Store, rows: NDArray[np.intp]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the targets of some rows, as `TrainingRows` has them in ``y``, and the classes that occur in them."""
    targets, names = store.targets[rows], np.array(store.classes)
    if targets.ndim == 1:
        y = names[targets]
        return y, tuple(np.unique(y).tolist())
    used = targets.any(axis=0)
    return targets[:, used].astype(np.int64), tuple(names[used].tolist())


def _read_weights(store: Store, given: ArrayLike | None, column: str | None) -> NDArray[np.float64] | None:
    """Return the weight of each row of the store, or None without weights. A weight that is not a number is NaN."""
    if column is None:
        weights = None if given is None else np.asarray(given, dtype=np.float64)
        if weights is not None and weights.shape != (store.n_rows,):
            raise DataError(
                f"sample_weight of fit must have one number per row of {store.path}, shape ({store.n_rows},), "
                f"got shape {weights.shape}"
            )
        return weights
    if given is not None:
        raise DataError("fit takes either sample_weight or weight_column, got both; leave one out")
    columns = store.columns
    if column not in columns:
        known = ", ".join(columns) or "none"
        raise DataError(
            f"--weight-column of fit must be one of the columns of {store.path} ({known}), got {column}; "
            "extract keeps the columns of a manifest whose names begin with weight"
        )
    return np.array([_to_number(text) for text in columns[column]])


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _check_weights(store: Store, weights: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    wrong = np.flatnonzero(~((weights > 0) & np.isfinite(weights)))
    if len(wrong):
        path = store.paths[rows[wrong[0]]]
        raise DataError(
            f"weights of the training rows must be finite numbers above 0, but {len(wrong)} are not, the first that of "
            f"{path!r}; correct them, or exclude those rows with a split column"
        )
    return weights


def describe_store(store: Store, spec: ExtractSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``Model.info`` stores about the store, and the reference features of ``spec``."""
    facts: dict[str, Any] = {"store_rows": store.n_rows}
    if store.spec.n_views > 1:
        # Files of all versions of featx use these names.
        names = {"views": "n_views", "augment": "augment", "fill": "fill", "view_seed": "view_seed"}
        facts["augmentation"] = {key: getattr(store.spec, name) for key, name in names.items()}
    return facts, {name: values for name, values in store.reference_features.items() if name in spec.widths}
