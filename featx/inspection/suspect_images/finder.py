"""Suspects: images of a store that deserve a look."""

from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.heads import BlockNormalizer
from featx.inspection.suspect_images.findings import Confused, Failed, Mislabeled, NearDuplicate, Outlier, Suspects
from featx.inspection.suspect_images.labels import score_labels
from featx.inspection.suspect_images.naming import Images
from featx.inspection.suspect_images.neighbors import MIN_ROWS, find_neighbors
from featx.store import Store

__all__ = ["Confused", "Failed", "Mislabeled", "NearDuplicate", "Outlier", "Suspects", "suspects"]


def suspects(store: str | Path, *, split_column: str | None = None, folds: int = 5, random_state: int = 0) -> Suspects:
    """Find likely wrong labels, near-duplicates, classes that are confused, outliers and images that failed.

    All of the store's features are used, power-normalized, of the plain view of each image. See
    `featx.inspection.suspect_images.labels.score_labels` and `featx.inspection.suspect_images.neighbors.find_neighbors` for the methods.

    Parameters
    ----------
    store : path
        With labels, or without: what cannot be looked for then is said in the result's notes.
    split_column : str, optional
        The split column across which near-duplicates are looked for; by default all whose names begin with ``split``.
    folds, random_state : int
        Of the cross-validation by which labels are checked.

    Raises
    ------
    StoreError
        If the store cannot be read.
    SpecError
        If folds are fewer than 2.
    DataError
        If there is no such split column.
    EngineError
        If labels are to be checked and cleanlab is not installed.
    """
    with Store(store) as opened:
        images = Images.read(opened, split_column)
        normalizer = BlockNormalizer(tuple(opened.spec.widths.values()))
        X = normalizer.fit_transform(opened.read(opened.spec.widths, np.flatnonzero(opened.view_index == 0)))
    notes = []
    near = verdicts = None
    if len(X) < MIN_ROWS:
        notes.append(f"near-duplicates and outliers show among {MIN_ROWS} images or more, got {len(X)}")
    else:
        near = find_neighbors(X)
    try:
        rows, groups = images.labeled, np.arange(len(X)) if near is None else near.groups
        labeled = X if len(rows) == len(X) else X[rows]
        verdicts = score_labels(labeled, images.names, groups[rows], folds, random_state)
    except DataError as error:
        notes.append(f"labels are not checked: {error}")
    return Suspects(
        store=str(store),
        images=len(X),
        cosine=near.threshold if near else None,
        mislabeled=images.mislabeled(verdicts) if verdicts else (),
        near_duplicates=images.near_duplicates(near) if near else (),
        confused=images.confused(verdicts) if verdicts else (),
        outliers=images.outliers(near) if near else (),
        failed=images.failed,
        notes=tuple(notes),
    )
