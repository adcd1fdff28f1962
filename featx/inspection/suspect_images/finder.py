"""Find the images of a store that a person should look at."""

from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.heads import BlockNormalizer, combine_groups, find_near_duplicates
from featx.inspection.suspect_images.findings import Suspects
from featx.inspection.suspect_images.label_quality import score_labels
from featx.inspection.suspect_images.outliers import score_outliers
from featx.inspection.suspect_images.plain_images import PlainImages
from featx.models import compared_features
from featx.runtime import pluralize, shorten_list
from featx.store import Store

MIN_IMAGES = 32
"""Smallest number of images in which near-duplicates and outliers are searched."""


def suspects(
    store: str | Path, *, split_column: str | None = None, folds: int = 5, random_state: int = 0
) -> Suspects:  # fmt: skip
    """Find wrong labels, near-duplicates, confused classes, outliers and failed images in a store.

    All features of the plain images are used, power-normalized. Labels are checked by confident learning on
    cross-validated probabilities of a softmax head. The folds keep near-duplicates together, and images with equal
    values in the column ``group`` of the store. Near-duplicates are found as in `featx.fit`. Outliers are found by the
    distances to their nearest neighbors.

    Parameters
    ----------
    store : path
        A store with or without labels. The notes of the result say what could not be checked.
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
        widths, slices = opened.spec.widths, opened.spec.slices
        normalizer = BlockNormalizer(tuple(widths.values()))
        X = normalizer.fit_transform(opened.read(widths, np.flatnonzero(opened.view_index == 0)))
        compared = np.concatenate([np.arange(X.shape[1])[slices[name]] for name in compared_features(opened.spec)])
    notes = []
    near = z_scores = quality = None
    if len(X) < MIN_IMAGES:
        notes.append(f"near-duplicates and outliers need at least {MIN_IMAGES} images, got {len(X)}")
    else:
        near = find_near_duplicates(X if len(compared) == X.shape[1] else X[:, compared])
        z_scores = score_outliers(X)
    try:
        rows = images.labeled
        groups = images.groups if near is None else combine_groups(near.groups, images.groups)
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
        min_cosine=near.min_cosine if near else None,
        mislabeled=images.mislabeled(quality) if quality else (),
        near_duplicates=images.near_duplicates(near) if near else (),
        confused=images.confused(quality) if quality else (),
        outliers=() if z_scores is None else images.outliers(z_scores),
        failed=images.failed,
        notes=tuple(notes),
    )
