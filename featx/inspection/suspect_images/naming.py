"""From the numbers of rows to findings with names: paths, classes, split columns."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import DataError
from featx.inspection.suspect_images.findings import Confused, Failed, Mislabeled, NearDuplicate, Outlier
from featx.inspection.suspect_images.labels import LabelQuality
from featx.inspection.suspect_images.neighbors import Neighborhood
from featx.store import Store


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a store, a plain row each: ``targets`` are its labels (rows,), -1 for none, or an indicator (rows,
    classes) where images have several; ``splits`` has a value a row for each split column that is asked for."""

    store: Path
    paths: list[str]
    classes: list[str]
    targets: NDArray[np.integer | np.bool_]
    splits: dict[str, NDArray[np.str_]]
    failures: list[tuple[str, str]]

    @classmethod
    def read(cls, store: Store, column: str | None) -> "Images":
        """Those of an open store; ``DataError`` if it has no such split column."""
        plain = store.view_index == 0
        splits = {
            name: np.array(values)[plain]
            for name, values in store.columns.items()
            if (name.startswith("split") if column is None else name == column)
        }
        if column is not None and not splits:
            known = ", ".join(store.columns) or "none: extract a manifest that has one"
            raise DataError(f"--split-column of suspects must be one that {store.path} has ({known}), got {column}")
        paths = np.array(store.paths, object)[plain].tolist()
        return cls(store.path, paths, store.classes, store.targets[plain], splits, store.failures)

    @property
    def names(self) -> NDArray[np.str_]:
        """The classes of the labeled rows."""
        return np.array(self.classes)[self.targets[self.labeled].astype(np.intp)]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each row has a label."""
        return np.asarray(self.targets >= 0 if self.targets.ndim == 1 else self.targets.any(axis=1))

    @cached_property
    def labeled(self) -> NDArray[np.intp]:
        """The rows with a label; ``DataError`` if there are none, or some have several."""
        if self.targets.ndim == 2:
            raise DataError(f"images of {self.store} have several labels each")
        if not self.known.any():
            raise DataError(f"{self.store} has no labels; extract a folder with one sub-folder a class, or a manifest")
        return np.flatnonzero(self.known)

    @property
    def failed(self) -> tuple[Failed, ...]:
        """The images that could not be read."""
        return tuple(Failed(path, reason) for path, reason in self.failures)

    def near_duplicates(self, found: Neighborhood) -> tuple[NearDuplicate, ...]:
        """Pairs of paths, closest first; labels conflict where both images have some."""
        known = self.known
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

    def outliers(self, found: Neighborhood) -> tuple[Outlier, ...]:
        """Paths, farthest first."""
        return tuple(Outlier(self.paths[row], float(found.remoteness[row])) for row in found.outliers)

    def mislabeled(self, found: LabelQuality) -> tuple[Mislabeled, ...]:
        """Paths and labels, least probable first."""
        return tuple(
            Mislabeled(
                self.paths[self.labeled[row]],
                str(found.labels[row]),
                str(found.suggested[row]),
                float(found.probability[row].max()),
                float(found.quality[row]),
            )
            for row in found.wrong
        )

    def confused(self, found: LabelQuality) -> tuple[Confused, ...]:
        """Pairs of classes, most often confused first."""
        return tuple(Confused(*confusion) for confusion in found.confusions)
