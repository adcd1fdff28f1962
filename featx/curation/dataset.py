"""`load_features`: a store as scikit-learn's own ``load_*`` functions give their data sets."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from featx.backbones import WhichBlocks, WhichPools
from featx.store import Store


def load_features(
    path: str | Path,
    blocks: WhichBlocks | None = None,
    pool: WhichPools | None = None,
    split: str | None = None,
    split_column: str = "split",
) -> Bunch:
    """Load features from a store, and nothing that is not asked for.

    Parameters
    ----------
    path : str or Path
        The store.
    blocks, pool : sequence or single, optional
        Which blocks and pools to load, also as ``"3-5"`` and ``"avg,max"``; all that the store has by default.
    split : str, optional
        Only rows whose value in ``split_column`` is this one.
    split_column : str
        Which of the manifest's split columns ``split`` means.

    Returns
    -------
    sklearn.utils.Bunch
        ``data`` float32 (rows, columns), by block, then by pool; ``target`` int64 (rows,), indices into
        ``target_names``, or None if nothing has a label; where an image has several labels, ``target`` is an
        indicator int64 (rows, classes); ``target_names``; ``feature_names`` (``block3_avg_0``);
        ``features``, a dictionary from ``block3_avg`` to its slice of columns; ``filenames``; ``groups`` int64
        (rows,), equal for files of equal bytes; ``views`` int32 (rows,), 0 for the plain view of an image; ``spec``.

    Raises
    ------
    StoreError
        If the file is no store, or is damaged.
    SpecError
        If a block or pool was not extracted.
    DataError
        If the split column is not there or no row has that value.
    """
    with Store(path) as store:
        spec = store.spec.select(blocks, pool)
        rows = store.rows_in_split(split, split_column)
        several, labels = store.multilabel_targets, store.labels[rows].astype(np.int64)
        target = labels if several is None else several[rows].astype(np.int64)
        _, groups = np.unique(np.array(store.digests)[rows], return_inverse=True)
        return Bunch(
            data=store.read(spec.widths, rows),
            target=target if (labels >= 0).any() else None,
            target_names=np.array(store.classes, object),
            feature_names=spec.column_names,
            features=spec.slices,
            filenames=np.array(store.paths, object)[rows],
            groups=groups,
            views=store.view_index[rows],
            spec=spec,
        )
