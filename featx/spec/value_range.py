"""Parse the range of values that images of more than 8 bits are scaled from: ``auto``, ``dtype`` or ``LOW:HIGH``."""

import math
from dataclasses import dataclass

RANGE_FORMS = "auto, dtype or LOW:HIGH with LOW below HIGH, such as 0:4095"
"""The allowed values, in words."""


@dataclass(frozen=True)
class ValueRange:
    """Which values of an image of more than 8 bits are black and white.

    Attributes
    ----------
    limits : (float, float) or None
        The values that become black and white. None stands for the whole range of the image's type.
    automatic : bool
        If True, ``limits`` hold only for types that do not say which values are black and white: signed integers,
        32-bit integers and floats. Unsigned integers of up to 16 bits have the whole range of their type.
    """

    limits: tuple[float, float] | None = None
    automatic: bool = True

    @classmethod
    def parse(cls, text: str) -> "ValueRange":
        """Parse ``auto``, ``dtype``, ``LOW:HIGH`` or ``auto:LOW:HIGH``; ``ValueError`` if the text is another one."""
        if text in ("auto", "dtype"):
            return cls(None, text == "auto")
        automatic = text.startswith("auto:")
        parts = text.removeprefix("auto:").split(":")
        try:
            low, high = map(float, parts)
        except ValueError:
            low = high = 0.0
        if not (low < high and math.isfinite(high - low)):
            raise ValueError(f"must be {RANGE_FORMS}, got {text!r}")
        return cls((low, high), automatic)

    def __str__(self) -> str:
        """Return the text that `parse` takes. Equal ranges have equal texts."""
        if self.limits is None:
            return "auto" if self.automatic else "dtype"
        return "auto:" * self.automatic + format_limits(*self.limits)


def format_limits(low: float, high: float) -> str:
    """Format two limits as ``LOW:HIGH``, without rounding."""
    return ":".join(str(int(value)) if float(value).is_integer() else repr(float(value)) for value in (low, high))
