"""Load the features of a store in the form in which scikit-learn's ``load_*`` functions return data sets."""

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
        The blocks and poolings to load. Blocks are given like ``(3, 4)`` or ``"3-5"``, and poolings like ``"avg,max"``.
        By default all blocks and poolings of the store are loaded.
    split : str, optional
        Load only the rows that have this value in the column ``split_column``, such as ``"train"``. By default all rows
        are loaded.
    split_column : str
        The name of the column with the splits.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - ``data``: the features, float32 (rows, columns). The columns are sorted by block, then by pooling.
        - ``target``: the index of each row's class in ``target_names``, int64 (rows,). It is -1 for a row without a
          label. If images have several labels, ``target`` is int64 (rows, classes) with 0 or 1 for each class. It is
          None if no image has a label.
        - ``target_names``: the class names.
        - ``feature_names``: the names of the columns, such as ``block3_avg_0``.
        - ``features``: dictionary from the name of a feature, such as ``block3_avg``, to the slice of its columns.
        - ``filenames``: the image file of each row.
        - ``groups``: a group number for each row, int64 (rows,). Files with equal bytes and augmented copies of one
          image have the same number.
        - ``view_index``: the number of the augmented copy, int32 (rows,). It is 0 for the plain image.
        - ``spec``: the `ExtractSpec` of the features.

    Raises
    ------
    StoreError
        If the file is not a store or is damaged.
    SpecError
        If a block or pooling was not extracted.
    DataError
        If the store has no column ``split_column``, or if the value ``split`` does not occur in it.
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
