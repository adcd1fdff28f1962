"""Load the features of a store in the form in which scikit-learn's ``load_*`` functions return data sets."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import FeatxWarning, SpecError
from featx.heads import combine_groups
from featx.runtime import pluralize
from featx.store import Store

UNLABELED = ("drop", "keep")


def load_features(
    path: str | Path,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split: str | None = None,
    split_column: str = "split",
    *,
    unlabeled: str = "drop",
) -> Bunch:
    """Load features and labels from a store.

    ``data`` and ``target`` can be given to an estimator of scikit-learn as they are: rows without a label are left out,
    with a warning that counts them. If no row has a label, all rows are loaded.

    Parameters
    ----------
    path : str or Path
        The store.
    blocks, pools : sequence, str or single value, optional
        The blocks and poolings to load. Blocks are given like ``(3, 4)`` or ``"3-5"``, and poolings like ``"avg,max"``.
        By default all blocks and poolings of the store are loaded.
    split : str, optional
        Load only the rows that have this value in the column ``split_column``, such as ``"train"``. By default all rows
        are loaded.
    split_column : str
        The name of the column with the splits.
    unlabeled : {"drop", "keep"}
        What to do with rows without a label if other rows have one. ``keep`` loads them with the target -1, as
        scikit-learn's semi-supervised estimators expect it. Other estimators would take -1 for a class.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - ``data``: the features, float32 (rows, columns). The columns are sorted by block, then by pooling.
        - ``target``: the index of each row's class in ``target_names``, int64 (rows,). If images have several labels,
          it is int64 (rows, classes) with 0 or 1 for each class; an unlabeled row that is kept has only -1. It is None
          if no row has a label.
        - ``target_names``: the class names.
        - ``feature_names``: the names of the columns, such as ``block3_avg_0``.
        - ``features``: dictionary from the name of a feature, such as ``block3_avg``, to the slice of its columns.
        - ``filenames``: the image file of each row.
        - ``groups``: a group number for each row, int64 (rows,). Files with equal bytes, augmented copies of one image,
          and rows with the same value in the store's column ``group`` have the same number.
        - ``view_index``: the number of the augmented copy, int32 (rows,). It is 0 for the plain image.
        - ``rows``: the number of each row in the store, int64 (rows,).
        - ``n_unlabeled``: the number of rows of the split that have no label. They are left out or kept, as
          ``unlabeled`` says.
        - ``spec``: the `ExtractSpec` of the features.

    Raises
    ------
    StoreError
        If the file is not a store or is damaged.
    SpecError
        If a block or pooling was not extracted, or if ``unlabeled`` is not one of the choices.
    DataError
        If the store has no column ``split_column``, or if the value ``split`` does not occur in it.
    """
    if unlabeled not in UNLABELED:
        raise SpecError(f"unlabeled of load_features must be {' or '.join(UNLABELED)}, got {unlabeled!r}")
    with Store(path) as store:
        spec = store.spec.select(blocks, pools)
        rows = store.rows_in_split(split, split_column)
        labeled = store.labels[rows] >= 0
        missing = int((~labeled).sum())
        if unlabeled == "drop" and labeled.any() and missing:
            warnings.warn(
                f"{pluralize(missing, 'row')} of {path} without a label left out; "
                'to keep them with the target -1, give unlabeled="keep"',
                FeatxWarning,
                stacklevel=2,
            )
            rows = rows[labeled]
        groups = combine_groups(np.array(store.digests)[rows], _given_groups(store, rows))
        return Bunch(
            data=store.read(spec.widths, rows),
            target=_read_target(store, rows) if labeled.any() else None,
            target_names=np.array(store.classes, object),
            feature_names=spec.column_names,
            features=spec.slices,
            filenames=np.array(store.paths, object)[rows],
            groups=groups,
            view_index=store.view_index[rows],
            rows=rows,
            n_unlabeled=missing,
            spec=spec,
        )


def _read_target(store: Store, rows: np.ndarray) -> np.ndarray:
    """Return the targets of some rows. Those of rows without a label are -1."""
    labels = store.labels[rows]
    target: np.ndarray = store.targets[rows].astype(np.int64)
    target[labels < 0] = -1
    return target


def _given_groups(store: Store, rows: np.ndarray) -> np.ndarray | None:
    columns = store.columns
    return np.array(columns["group"])[rows] if "group" in columns else None
