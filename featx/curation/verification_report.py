"""Report how much the features of a store differ from newly computed features of its images."""

from dataclasses import dataclass

from featx.errors import SpecMismatch
from featx.runtime import pluralize


@dataclass(frozen=True)
class Difference:
    """A row of the store whose features differ from those that its image gives now.

    Attributes
    ----------
    path : str
        The path of the image.
    view_index : int
        Number of the augmented copy. It is 0 for the plain image.
    feature : str
        The feature with the largest error.
    error : float
        The relative error of this feature.
    """

    path: str
    view_index: int
    feature: str
    error: float


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    The relative error of a feature in one row is ``|a - b| / |b|``. Here, ``a`` holds the values that were extracted
    again, ``b`` holds the values in the store, and the norm is the Euclidean norm over the columns of the feature.

    Attributes
    ----------
    store : str
        File of the store.
    images, rows : int
        Number of images that were extracted again, and number of their rows in the store.
    precision : str
        The precision class of the spec.
    tolerance : float
        The relative error that is allowed for the precision class and the dtype of the store.
    reference_error, largest_error : float
        The largest relative error over the reference images, and over the rows.
    differing : tuple of Difference
        The rows with an error above the tolerance. The row with the largest error is the first one.
    failed : tuple of (path, reason)
        Images that can no longer be decoded, although their bytes have not changed.
    changed : tuple of str
        Images whose bytes have changed.
    missing : tuple of (path, reason)
        Images that cannot be read.
    made_by, verified_by : dict of str to str
        Versions of the packages that features depend on. ``made_by`` holds those of the machine that made the store,
        and ``verified_by`` those of this machine.
    """

    store: str
    images: int
    rows: int
    precision: str
    tolerance: float
    reference_error: float
    largest_error: float
    differing: tuple[Difference, ...]
    failed: tuple[tuple[str, str], ...]
    changed: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    made_by: dict[str, str]
    verified_by: dict[str, str]

    @property
    def machine_agrees(self) -> bool:
        """Whether this machine computes the same reference features as the machine that made the store."""
        return self.reference_error <= self.tolerance

    @property
    def other_versions(self) -> tuple[str, ...]:
        """The packages that had another version when the store was made, such as ``pillow 11.0 there, 12.0 here``."""
        here = self.verified_by
        return tuple(
            f"{name} {made} there, {here.get(name, 'none')} here"
            for name, made in self.made_by.items()
            if made != here.get(name)
        )

    def check(self) -> None:
        """Raise ``SpecMismatch`` if a feature differs or an image can no longer be decoded.

        Images that have changed or are missing do not cause an error.
        """
        allowed = f"but {self.precision} allows {self.tolerance:.2g}"
        if not self.machine_agrees:
            raise SpecMismatch(
                f"the reference images of {self.store} differ by {self.reference_error:.2g} from those computed here, "
                f"{allowed}; {pluralize(len(self.differing), 'row')} of {self.rows:,} also differ. This machine or "
                "version computes other features: verify the store on the machine and with the versions that made it"
            )
        if self.differing:
            worst = self.differing[0]
            raise SpecMismatch(
                f"{len(self.differing):,} of {pluralize(self.rows, 'row')} of {self.store} differ from what their "
                f"images give: {worst.feature} of {worst.path}, view {worst.view_index}, differs by {worst.error:.2g}, "
                f"{allowed}. The reference images agree, so the rows were altered, or images are decoded differently "
                "here; extract the store again with --overwrite"
            )
        if self.failed:
            path, reason = self.failed[0]
            raise SpecMismatch(
                f"{pluralize(len(self.failed), 'image')} of {self.store} gave features when it was made but cannot be "
                f"decoded here, although the bytes are the same: {path}: {reason}"
            )
