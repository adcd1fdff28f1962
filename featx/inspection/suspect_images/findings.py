"""The result of `featx.suspects`, as dataclasses that can be written as JSON."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MislabeledImage:
    """An image that probably has a wrong label.

    ``probability`` is the probability of ``suggested``, the most probable class. ``quality`` is the probability of
    ``label``. Both come from a head that was fitted without this image.
    """

    path: str
    label: str
    suggested: str
    probability: float
    quality: float


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that show the same photograph, scene or object.

    ``cosine`` is the cosine of their whitened features: 1 for equal images, about 0 for different images.
    ``split_columns`` names the split columns in which the two images have different values. ``labels_differ`` says
    whether their labels are different.
    """

    first: str
    second: str
    cosine: float
    split_columns: tuple[str, ...]
    labels_differ: bool


@dataclass(frozen=True)
class ConfusedClasses:
    """The number of images of class ``label`` that other folds' heads predict as ``predicted``."""

    label: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Outlier:
    """An image far from all others. ``score`` is the robust z-score of the distance to its nearest neighbors."""

    path: str
    score: float


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be read in the extraction."""

    path: str
    reason: str


@dataclass(frozen=True, repr=False)
class Suspects:
    """Images of a store that a person should look at. Each kind starts with the most suspicious image.

    Parameters
    ----------
    store : str
    images : int
        Images that were compared.
    min_cosine : float or None
        Smallest cosine of near-duplicates. None if there are too few images to find near-duplicates.
    mislabeled : tuple of MislabeledImage
    near_duplicates : tuple of NearDuplicate
    confused : tuple of ConfusedClasses
    outliers : tuple of Outlier
    failed : tuple of FailedImage
    notes : tuple of str
        What could not be checked, and why.
    """

    store: str
    images: int
    min_cosine: float | None
    mislabeled: tuple[MislabeledImage, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    confused: tuple[ConfusedClasses, ...]
    outliers: tuple[Outlier, ...]
    failed: tuple[FailedImage, ...]
    notes: tuple[str, ...]

    @property
    def pairs_across_splits(self) -> dict[str, int]:
        """Number of near-duplicate pairs with different values, for each split column that has such pairs."""
        columns = sorted({column for pair in self.near_duplicates for column in pair.split_columns})
        return {column: sum(column in pair.split_columns for pair in self.near_duplicates) for column in columns}

    def __repr__(self) -> str:
        counts = {
            "probably mislabeled": self.mislabeled, "near-duplicate pairs": self.near_duplicates,
            "pairs of confused classes": self.confused, "outliers": self.outliers, "failed": self.failed,
        }  # fmt: skip
        found = ", ".join(f"{len(items)} {kind}" for kind, items in counts.items())
        return "\n  ".join((f"Suspects({self.store}: {self.images} images)", found, *self.notes))
