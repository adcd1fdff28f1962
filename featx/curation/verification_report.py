"""The report of a verification."""

from dataclasses import dataclass

from featx.errors import SpecMismatch
from featx.runtime import pluralize


@dataclass(frozen=True)
class Difference:
    """A row of the store that differs from what its image gives now.

    Attributes
    ----------
    path : str
    view_index : int
        Number of the augmented copy, 0 for the plain image.
    feature : str
        The feature with the largest error.
    error : float
        Its relative error.
    """

    path: str
    view_index: int
    feature: str
    error: float


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    The relative error of a row of one feature is ``|a - b| / |b|``, with the Euclidean norm over the feature's columns.

    Attributes
    ----------
    store : str
    images, rows : int
        Images that were extracted again, and their rows in the store.
    precision : str
        Precision class of the spec.
    tolerance : float
        Relative error that the precision class allows.
    reference_error, largest_error : float
        The largest relative error of the reference images, and of the rows.
    differing : tuple of Difference
        Rows beyond the tolerance, the largest error first.
    failed : tuple of (path, reason)
        Images with unchanged bytes that can no longer be decoded.
    changed : tuple of str
        Images whose bytes have changed.
    missing : tuple of (path, reason)
        Images that cannot be read.
    made_by, verified_by : dict of str to str
        Versions of the packages that decide features, where the store was made and here.
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
        """Whether this machine computes the same reference features as the one that made the store."""
        return self.reference_error <= self.tolerance

    @property
    def other_versions(self) -> tuple[str, ...]:
        """Packages whose version differs from the one that made the store, such as ``pillow 11.0 there, 12.0 here``."""
        here = self.verified_by
        return tuple(
            f"{name} {made} there, {here.get(name, 'none')} here"
            for name, made in self.made_by.items()
            if made != here.get(name)
        )

    def check(self) -> None:
        """Raise ``SpecMismatch`` if a feature differs or an image can no longer be decoded.

        Images that have changed or are missing raise nothing.
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
