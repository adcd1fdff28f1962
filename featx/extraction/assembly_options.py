"""Define the options that decide how the parts of an extraction become a store."""

from dataclasses import dataclass

from featx.errors import SpecError
from featx.runtime import short_repr
from featx.store import check_assembly

MISSING_IMAGES = ("error", "drop", "keep")


@dataclass(frozen=True, repr=False)
class AssemblyOptions:
    """Options that decide how the parts of an extraction become a store.

    Parameters
    ----------
    missing_images : {"error", "drop", "keep"}
        What to do with rows of the existing store whose images are no longer in the source: raise an error, drop the
        rows, or keep them.
    assemble : {"copy", "virtual"}, optional
        ``copy`` writes the features into the store. With ``virtual``, the store refers to the files of the parts. The
        default is that of the existing store, or ``copy`` if there is no store.
    dtype : {"float32", "float16"}, optional
        The dtype of the stored features. float16 rounds them to 11 binary digits. The default is the dtype of the
        existing store, or float32 if there is no store.

    Raises
    ------
    SpecError
        If a value is not among the choices.

    Examples
    --------
    >>> from featx import AssemblyOptions
    >>> AssemblyOptions(missing_images="drop", dtype="float16")
    AssemblyOptions(missing_images='drop', dtype='float16')
    """

    missing_images: str = "error"
    assemble: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.missing_images not in MISSING_IMAGES:
            choices = ", ".join(MISSING_IMAGES)
            raise SpecError(f"missing_images of AssemblyOptions must be one of {choices}, got {self.missing_images!r}")
        check_assembly(self.assemble, self.dtype)

    def __repr__(self) -> str:
        return short_repr(self)
