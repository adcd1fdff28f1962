"""What a verification found."""

from dataclasses import dataclass

from featx.errors import SpecMismatch
from featx.runtime import pluralize


@dataclass(frozen=True)
class Difference:
    """A row that its image does not give: which view it is, and its worst feature with the relative error of that."""

    path: str
    view: int
    feature: str
    error: float


@dataclass(frozen=True)
class Verification:
    """What became of a sample of a store's images.

    ``images`` were computed anew, with all their ``rows``; errors are relative, ``|a - b| / |b|`` over a row of one
    feature, and ``tolerance`` is what the spec's precision allows. ``golden`` is the largest error of the golden
    images, ``largest`` that of the rows. Rows and images that do not agree are in one of four lists: ``differing``,
    the worst first; ``failed``, whose bytes are the same and no longer give features, with the reason; ``changed``,
    whose bytes are others; ``gone``, which cannot be read, with the reason. ``made_by`` and ``verified_by`` are the
    versions of what decides features, where the store was assembled and here.
    """

    store: str
    images: int
    rows: int
    precision: str
    tolerance: float
    golden: float
    largest: float
    differing: tuple[Difference, ...]
    failed: tuple[tuple[str, str], ...]
    changed: tuple[str, ...]
    gone: tuple[tuple[str, str], ...]
    made_by: dict[str, str]
    verified_by: dict[str, str]

    @property
    def machine_agrees(self) -> bool:
        """Whether this machine and version compute the golden features that the store has."""
        return self.golden <= self.tolerance

    @property
    def other_versions(self) -> tuple[str, ...]:
        """What has another version here than where the store was assembled, as far as that is known."""
        here = self.verified_by
        return tuple(f"{name} {made} there, {here.get(name, 'none')} here" for name, made in self.made_by.items()
                     if made != here.get(name))  # fmt: skip

    def check(self) -> None:
        """Raise ``SpecMismatch`` if any feature differs, naming the worst; images that are gone or changed do not."""
        allowed = f"where {self.precision} allows {self.tolerance:.2g}"
        if not self.machine_agrees:
            raise SpecMismatch(
                f"the golden images of {self.store} are {self.golden:.2g} away from what is computed here, {allowed}, "
                f"and so are {pluralize(len(self.differing), 'row')} of {self.rows:,}: this machine or version computes "
                "other features; verify it on the machine and with the versions that made it"
            )
        if self.differing:
            worst = self.differing[0]
            raise SpecMismatch(
                f"{len(self.differing):,} of {pluralize(self.rows, 'row')} of {self.store} are not what their images give: "
                f"{worst.feature} of {worst.path}, view {worst.view}, is {worst.error:.2g} away, {allowed}. The golden "
                "images agree, so the rows were altered, or images are decoded in another way here; extract anew with "
                "--overwrite"
            )
        if self.failed:
            path, reason = self.failed[0]
            raise SpecMismatch(
                f"{pluralize(len(self.failed), 'image')} of {self.store} gave features when it was made, and none now, "
                f"though of the same bytes: {path}: {reason}"
            )
