"""What `featx.suspects.suspects` finds, as values that JSON holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mislabeled:
    """An image that was probably given a wrong label.

    ``probability`` is that of ``suggested``, the likeliest class, and ``quality`` that of ``label``, both from a head
    that was fitted without this image.
    """

    path: str
    label: str
    suggested: str
    probability: float
    quality: float


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that are one photograph, or nearly.

    ``cosine`` is between their whitened features, 1 for copies. ``across`` names the split columns that put the two on
    different sides, ``conflict`` says that their labels differ.
    """

    first: str
    second: str
    cosine: float
    across: tuple[str, ...]
    conflict: bool


@dataclass(frozen=True)
class Confused:
    """How many images of class ``label`` a head that was fitted without them takes for ``taken_for``."""

    label: str
    taken_for: str
    count: int


@dataclass(frozen=True)
class Outlier:
    """An image unlike all others: ``score`` is the robust z of how far its nearest neighbors are."""

    path: str
    score: float


@dataclass(frozen=True)
class Failed:
    """An image that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class Suspects:
    """Images of a store that deserve a look, each kind with the most suspicious first.

    ``images`` is how many were compared, ``cosine`` from which on two count as near-duplicates (None if there are too
    few to say), and ``notes`` say what could not be looked for, and why.
    """

    store: str
    images: int
    cosine: float | None
    mislabeled: tuple[Mislabeled, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    confused: tuple[Confused, ...]
    outliers: tuple[Outlier, ...]
    failed: tuple[Failed, ...]
    notes: tuple[str, ...]

    @property
    def straddling(self) -> dict[str, int]:
        """How many near-duplicates each split column puts on different sides, of those that put any."""
        columns = sorted({column for pair in self.near_duplicates for column in pair.across})
        return {column: sum(column in pair.across for pair in self.near_duplicates) for column in columns}
