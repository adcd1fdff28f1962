"""Find the images of a store that a person should look at."""

from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.heads import BlockNormalizer, combine_groups
from featx.inspection.suspect_images.findings import Suspects
from featx.inspection.suspect_images.label_quality import score_labels
from featx.inspection.suspect_images.neighbors import MIN_ROWS, find_neighbors
from featx.inspection.suspect_images.plain_images import PlainImages
from featx.runtime import pluralize, shorten_list
from featx.store import Store


def suspects(
    store: str | Path, *, split_column: str | None = None, folds: int = 5, random_state: int = 0
) -> Suspects:  # fmt: skip
    """Find wrong labels, near-duplicates, confused classes, outliers and failed images of a store.

    All features of the plain images are used, power-normalized. Labels are checked by confident learning on
    cross-validated probabilities of a softmax head. The folds keep near-duplicates together, and images with equal
    values in the column ``group`` of the store. Near-duplicates and outliers are found by the distances of whitened
    features.

    Parameters
    ----------
    store : path
        A store with or without labels. The notes of the result say what could not be looked for.
    split_column : str, optional
        Report near-duplicates with different values in this split column. By default, every column whose name begins
        with ``split`` is used.
    folds : int
        Folds of the cross-validation that checks labels.
    random_state : int
        Seed of the folds.

    Returns
    -------
    Suspects

    Raises
    ------
    StoreError
        If the store cannot be read.
    SpecError
        If ``folds`` is less than 2.
    DataError
        If the store has no such split column.
    EngineError
        If the store has labels to check and cleanlab is not installed.
    """
    with Store(store) as opened:
        images = PlainImages.read(opened, split_column)
        normalizer = BlockNormalizer(tuple(opened.spec.widths.values()))
        X = normalizer.fit_transform(opened.read(opened.spec.widths, np.flatnonzero(opened.view_index == 0)))
    notes = []
    neighbors = quality = None
    if len(X) < MIN_ROWS:
        notes.append(f"near-duplicates and outliers need at least {MIN_ROWS} images, got {len(X)}")
    else:
        neighbors = find_neighbors(X)
    try:
        rows = images.labeled
        groups = combine_groups(np.arange(len(X)), images.groups, neighbors.pairs if neighbors else None)
        labeled = X if len(rows) == len(X) else X[rows]
        quality = score_labels(labeled, images.label_names, groups[rows], folds, random_state)
        if unchecked := len(rows) - len(quality.rows):
            of = f", those of {shorten_list(quality.unchecked)}" if quality.unchecked else ""
            notes.append(
                f"{pluralize(unchecked, 'label was', 'labels were')} not checked{of}: without the image or its group, "
                "no image of the class is left to train on"
            )
    except DataError as error:
        notes.append(f"labels were not checked: {error}")
    return Suspects(
        store=str(store),
        images=len(X),
        min_cosine=neighbors.min_cosine if neighbors else None,
        mislabeled=images.mislabeled(quality) if quality else (),
        near_duplicates=images.near_duplicates(neighbors) if neighbors else (),
        confused=images.confused(quality) if quality else (),
        outliers=images.outliers(neighbors) if neighbors else (),
        failed=images.failed,
        notes=tuple(notes),
    )
