"""Load a store as scikit-learn's ``load_*`` functions load their data sets."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from featx.backbones import WhichBlocks, WhichPools
from featx.store import Store


def load_features(
    path: str | Path,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split: str | None = None,
    split_column: str = "split",
) -> Bunch:
    """Load features and labels from a store.

    Parameters
    ----------
    path : str or Path
        The store.
    blocks, pools : sequence, str or single value, optional
        The blocks and poolings to load, such as ``(3, 4)`` or ``"3-5"`` and ``"avg,max"``; by default all of the store.
    split : str, optional
        Load only rows with this value in ``split_column``, such as ``"train"``; by default all rows.
    split_column : str
        The split column that ``split`` refers to.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - ``data``: float32 (rows, columns), sorted by block, then by pooling.
        - ``target``: int64 (rows,), index into ``target_names``, -1 for no label; for multi-label images int64 (rows,
          classes), 0 or 1; None if no image has a label.
        - ``target_names``: the class names.
        - ``feature_names``: the names of the columns, such as ``block3_avg_0``.
        - ``features``: dictionary from ``block3_avg`` and so on to the slice of its columns.
        - ``filenames``: the image file of each row.
        - ``groups``: int64 (rows,), equal for files of equal bytes and for augmented copies of one image.
        - ``view_index``: int32 (rows,), number of the augmented copy, 0 for the plain image.
        - ``spec``: the `ExtractSpec` of the features.

    Raises
    ------
    StoreError
        If the file is not a store or is damaged.
    SpecError
        If a block or pooling was not extracted.
    DataError
        If the store lacks the split column, or the value does not occur in it.
    """
    with Store(path) as store:
        spec = store.spec.select(blocks, pools)
        rows = store.rows_in_split(split, split_column)
        indicator, labels = store.multilabel_targets, store.labels[rows].astype(np.int64)
        target = labels if indicator is None else indicator[rows].astype(np.int64)
        _, groups = np.unique(np.array(store.digests)[rows], return_inverse=True)
        return Bunch(
            data=store.read(spec.widths, rows),
            target=target if (labels >= 0).any() else None,
            target_names=np.array(store.classes, object),
            feature_names=spec.column_names,
            features=spec.slices,
            filenames=np.array(store.paths, object)[rows],
            groups=groups,
            view_index=store.view_index[rows],
            spec=spec,
        )
