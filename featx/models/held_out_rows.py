"""Find the rows of a store that a model was not fitted on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import DataError
from featx.heads import compact_ids, fingerprint, hold_out
from featx.models.saved_model import Model
from featx.store import Store


def find_held_out_rows(model: Model, store: Store, split_column: str | None = None) -> NDArray[np.intp] | None:
    """Return the numbers of the rows that a model was not fitted on, or None if there are none.

    Images are identified by the bytes of their files, so the result is still right after images or labels of the store
    have changed. A store that holds most of the training images counts as the model's own store. In any other store,
    the held-out rows are all rows that were not fitted, with or without a label. In the model's own store, they depend
    on the fit. After a fit with a split column, they are the labeled rows that the column marks ``test``. If no
    ``test`` row has a label, they are the labeled rows that are marked neither ``test`` nor ``train``. After a fit
    without a split column, they are all labeled rows that were not fitted.

    Parameters
    ----------
    model : Model
    store : Store
        Open store.
    split_column : str, optional
        Split column to use in any store. By default, the split column of the fit is used in the model's own store.

    Raises
    ------
    DataError
        If the store has no such column, or the column marks no rows that could be scored.
    """
    selection = model.info.get("selection", {})
    if model.fitted_image_ids is None:
        return _held_out_in_equal_store(model, store, selection, split_column)
    image_ids = compact_ids(store.digests)
    fitted = np.isin(image_ids, model.fitted_image_ids)
    is_own_store = 2 * np.isin(model.fitted_image_ids, image_ids).sum() > len(model.fitted_image_ids)
    column = split_column or (selection.get("column") if is_own_store else None)
    if split_column or column in store.columns:
        rows = _test_rows(store, column or "", required=split_column is not None)
    elif is_own_store:
        rows = np.flatnonzero(store.labels >= 0)
    else:
        rows = np.arange(store.n_rows)
    rows = rows[~fitted[rows]]
    return rows if len(rows) else None


def _test_rows(store: Store, column: str, *, required: bool) -> NDArray[np.intp]:
    """Return the rows that a split column marks ``test``.

    In the data of a contest, the ``test`` rows have no labels. A folder with ``train`` and ``val`` has no ``test``
    rows. In both cases, return the labeled rows that are marked neither ``test`` nor ``train``. If there are no such
    rows either, raise ``DataError`` if ``required`` is true, else return no rows.
    """
    values, labeled = np.array(store.columns.get(column, ()), str), store.labels >= 0
    if not len(values):
        return store.rows_in_split("test", column)
    test = values == "test"
    if (test & labeled).any():
        return np.flatnonzero(test)
    others = np.flatnonzero(labeled & ~test & (values != "train"))
    if len(others) or not required:
        return others
    if test.any():
        raise DataError(
            f"no row that {column} of {store.path} marks test has a label, and all labeled rows are marked train; give "
            "another --split-column, or fit with --test-size 0.2"
        )
    return store.rows_in_split("test", column)


def _held_out_in_equal_store(
    model: Model, store: Store, selection: Mapping[str, Any], split_column: str | None
) -> NDArray[np.intp] | None:
    """Find the held-out rows of a model that the first version of featx wrote.

    Such a model holds one digest of all images in its store. So it recognizes the store only if all images are the
    same.
    """
    if fingerprint(store.digests[:: store.spec.n_views]) != model.info.get("store"):
        return np.arange(store.n_rows)
    if "column" in selection:
        rows = _test_rows(store, split_column or selection["column"], required=split_column is not None)
        return rows if len(rows) else None
    if "test_size" not in selection:
        return None
    return hold_out(store.targets, store.digests, selection["test_size"], selection["seed"])[1]
