"""Turn row numbers into findings with paths, classes and split columns."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import DataError
from featx.heads import NearDuplicates
from featx.inspection.suspect_images.findings import (
    ConfusedClasses,
    FailedImage,
    MislabeledImage,
    NearDuplicate,
    Outlier,
)
from featx.inspection.suspect_images.label_quality import LabelQuality
from featx.inspection.suspect_images.outliers import list_outliers
from featx.models import GroupOptions, group_rows
from featx.store import Store


@dataclass(frozen=True, eq=False)
class PlainImages:
    """The images of a store without augmented copies, one row per image.

    Parameters
    ----------
    store : Path
    paths : list of str
    classes : list of str
    targets : int array (rows,) or bool array (rows, classes)
        Class numbers, with -1 for no label. For a multi-label store, it is an indicator matrix.
    splits : dict
        One value per row for each split column to compare.
    failures : list of (path, reason)
    groups : int array (rows,)
        Rows with equal numbers are equal files, or are in one group of the user.
    """

    store: Path
    paths: list[str]
    classes: list[str]
    targets: NDArray[np.integer | np.bool_]
    splits: dict[str, NDArray[np.str_]]
    failures: list[tuple[str, str]]
    groups: NDArray[np.intp]

    @classmethod
    def read(cls, store: Store, split_column: str | None) -> "PlainImages":
        """Read an open store, with one split column or all. Raise ``DataError`` if there is no such split column."""
        plain = store.view_index == 0
        splits = {
            name: np.array(values)[plain]
            for name, values in store.columns.items()
            if (name.startswith("split") if split_column is None else name == split_column)
        }
        if split_column is not None and not splits:
            available = ", ".join(store.columns) or "none: extract a manifest that has one"
            raise DataError(
                f"--split-column of suspects must be a split column of {store.path} ({available}), got {split_column}"
            )
        paths = np.array(store.paths, object)[plain].tolist()
        groups = group_rows(store, store.digests, GroupOptions()).groups[plain]
        return cls(store.path, paths, store.classes, store.targets[plain], splits, store.failures, groups)

    @property
    def label_names(self) -> NDArray[np.str_]:
        """The class names of the labeled rows."""
        return np.array(self.classes)[self.targets[self.labeled].astype(np.intp)]

    @property
    def has_label(self) -> NDArray[np.bool_]:
        """Whether each row has a label."""
        return np.asarray(self.targets >= 0 if self.targets.ndim == 1 else self.targets.any(axis=1))

    @cached_property
    def labeled(self) -> NDArray[np.intp]:
        """The rows with a label. Raises ``DataError`` if no row has a label, or the store is multi-label."""
        if self.targets.ndim == 2:
            raise DataError(f"{self.store} is multi-label")
        if not self.has_label.any():
            raise DataError(
                f"{self.store} has no labels; extract a folder with one sub-folder per class, or a manifest"
            )
        return np.flatnonzero(self.has_label)

    @property
    def failed(self) -> tuple[FailedImage, ...]:
        """The images that could not be read."""
        return tuple(FailedImage(path, reason) for path, reason in self.failures)

    def near_duplicates(self, found: NearDuplicates) -> tuple[NearDuplicate, ...]:
        """Name the images of each pair, closest first. Labels can differ only if both images have a label."""
        known = self.has_label
        return tuple(
            NearDuplicate(
                self.paths[first],
                self.paths[second],
                cosine,
                tuple(name for name, values in self.splits.items() if values[first] != values[second]),
                bool(known[first] and known[second] and (self.targets[first] != self.targets[second]).any()),
            )
            for (first, second), cosine in zip(found.pairs.tolist(), found.cosines.tolist(), strict=True)
        )

    def outliers(self, z_scores: NDArray[np.float64]) -> tuple[Outlier, ...]:
        """Name the outliers, most distant first."""
        return tuple(Outlier(self.paths[row], float(z_scores[row])) for row in list_outliers(z_scores))

    def mislabeled(self, found: LabelQuality) -> tuple[MislabeledImage, ...]:
        """Name the images that are probably mislabeled, least probable label first."""
        return tuple(
            MislabeledImage(
                self.paths[self.labeled[found.rows[row]]],
                str(found.labels[row]),
                str(found.suggested[row]),
                float(found.probability[row].max()),
                float(found.quality[row]),
            )
            for row in found.mislabeled
        )

    def confused(self, found: LabelQuality) -> tuple[ConfusedClasses, ...]:
        """List the pairs of confused classes, most frequent first."""
        return tuple(ConfusedClasses(*confusion) for confusion in found.confusions)
