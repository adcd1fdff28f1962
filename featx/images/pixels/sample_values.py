"""Scale images of more than 8 bits to 8 bits, by one range of values for all images of a data set.

The file says what its numbers mean: how many bits they have, whether they have a sign or are floats, and whether 0 is
black or white. ``ExtractSpec.range`` says which values become black and white.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntFlag
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError
from featx.runtime import pluralize
from featx.spec import ValueRange, format_limits

Limits = tuple[float, float]
Numbers = NDArray[Any]

DEFAULT_RANGE = ValueRange()
NARROW_SHARE = 1 / 8
"""An image whose values fill a smaller share of the range than this is nearly of one color."""
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes for gray images of more than 8 bits."""
USUAL_INTEGERS, USUAL_FLOATS = (0.0, 65535.0), (0.0, 1.0)
"""Black and white for types that do not define them, if all values are between these two numbers."""
CHUNK_PIXELS = 1 << 20
"""Number of pixels that are scaled at once, so that a large image needs little memory."""
ALL_16_BIT = np.arange(1 << 16, dtype=np.uint16)
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags."""
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
"""Values of the TIFF tag ``SampleFormat``."""
_SIZ = re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL)
"""The start of a JPEG 2000 code stream, up to the byte with the precision and sign of the first component."""
_FITS_SCALE = re.compile(rb"(BZERO|BSCALE) *= *([-+.\dEeDd]+)")


class PixelRemark(IntFlag):
    """What a person should know about the conversion of an image's values to pixels."""

    NARROW = 1
    """The values fill less than an eighth of the range, so the image is nearly of one color."""
    CLIPPED = 2
    """Values outside the range became black or white."""
    TRANSPARENT = 4
    """All pixels were fully transparent, so the transparency was ignored."""
    NOT_FINITE = 8
    """Values that are NaN or infinite became black."""
    PAGES = 16
    """Only the first of several pages or frames was used."""


NO_REMARK = PixelRemark(0)
_REMARK_TEXTS = {
    PixelRemark.NARROW: (
        "fills", "fill", "less than an eighth of the range of values, so that little is visible",
        "for values from 0 to 4095, for example, --range 0:4095 --overwrite uses the whole range",
    ),
    PixelRemark.CLIPPED: (
        "has", "have", "values outside the range, which became black or white",
        "--range LOW:HIGH --overwrite sets another range",
    ),
    PixelRemark.TRANSPARENT: ("is", "are", "fully transparent everywhere: the transparency was ignored", ""),
    PixelRemark.PAGES: (
        "has", "have", "several pages or frames, of which only the first was used",
        "to use the others, save each as a file of its own",
    ),
    PixelRemark.NOT_FINITE: ("has", "have", "values that are NaN or infinite, which became black", ""),
}  # fmt: skip
"""The verb for one image, the verb for several images, the text of the remark, and what a user of `featx.extract` can
do."""


def remark_names(remarks: int) -> tuple[str, ...]:
    """Return the names of the remarks on an image, in lower case."""
    return tuple(str(each.name).lower() for each in PixelRemark if remarks & each)


def count_remarks(remarks: NDArray[np.uint8]) -> dict[str, int]:
    """Count the images with each remark, by the name of the remark in lower case. Remarks without images are left out.

    ``remarks`` has the bits of `PixelRemark`, one value per image.
    """
    counts = {str(each.name).lower(): int(np.count_nonzero(remarks & np.uint8(each))) for each in PixelRemark}
    return {name: count for name, count in counts.items() if count}


def describe_remarks(counts: Mapping[str, int], *, remedies: bool = True) -> list[str]:
    """Describe the result of `count_remarks`, one phrase per remark.

    With ``remedies``, say which options of ``featx extract`` help.
    """
    lines = []
    for name, count in counts.items():
        singular, plural, text, remedy = _REMARK_TEXTS[PixelRemark[name.upper()]]
        line = f"{pluralize(count, 'image')} {singular if count == 1 else plural} {text}"
        lines.append(f"{line}; {remedy}" if remedies and remedy else line)
    return lines


@dataclass(frozen=True)
class SampleType:
    """What the numbers that Pillow reads from a gray image mean.

    Attributes
    ----------
    low, high : float
        The smallest and the largest value of the type; 0 and 1 for floats.
    has_range : bool
        Whether the type itself says that ``low`` is black and ``high`` is white, or the reverse. It is true for
        unsigned integers of up to 16 bits.
    usual : (float, float)
        Black and white for other types, if all values are between these two.
    factor, offset : float
        A value of the file is ``factor * number + offset``.
    white_is_zero : bool
        Whether small values are white.
    view : str
        The numpy type of the numbers in the file, if Pillow reads the bytes as another type.
    """

    low: float
    high: float
    has_range: bool = False
    usual: Limits = USUAL_INTEGERS
    factor: float = 1.0
    offset: float = 0.0
    white_is_zero: bool = False
    view: str = ""

    @classmethod
    def integers(cls, bits: int, *, signed: bool = False) -> "SampleType":
        """Return the type of integers of some number of bits."""
        low = -(2.0 ** (bits - 1)) if signed else 0.0
        return cls(low, low + 2.0**bits - 1, has_range=bits <= 8 or (bits <= 16 and not signed))

    def numbers(self, image: Image.Image) -> Numbers:
        """Return the numbers of a loaded image, as an array (height, width) in the byte order of the machine."""
        numbers = np.asarray(image)
        numbers = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("="))
        return numbers.view(self.view) if self.view else numbers

    def values(self, numbers: Numbers) -> NDArray[np.float64]:
        """Return the values of the file for numbers that Pillow reads."""
        values = numbers.astype(np.float64)
        return values if (self.factor, self.offset) == (1, 0) else values * self.factor + self.offset


FLOATS = SampleType(*USUAL_FLOATS, usual=USUAL_FLOATS)


def sample_type(image: Image.Image) -> SampleType | None:
    """Find out what the numbers of an opened image mean. Return None if Pillow loads them with 8 bits.

    Call this before Pillow loads the pixels, because loading drops this information for some formats.
    """
    if image.mode not in WIDE_MODES and not (image.mode == "L" and image.format == "TIFF"):
        return None
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return _tiff_type(tags, image.mode)
    if image.mode == "F":
        kind = FLOATS
    elif image.mode == "I":
        kind = SampleType.integers(32, signed=True)
    else:
        kind = SampleType.integers(16)
    header = _HEADERS.get(image.format or "")
    return header(image, kind) if header else kind


def _tiff_type(tags: Mapping[int, Any], mode: str) -> SampleType | None:
    bits, form = _first(tags.get(BITS), 1), _first(tags.get(SAMPLE_FORMAT), UNSIGNED)
    if mode == "L" and form != SIGNED:
        return None  # Pillow scales and inverts unsigned integers of up to 8 bits.
    kind = FLOATS if form == FLOAT else SampleType.integers(bits, signed=form == SIGNED)
    view = {(8, SIGNED): "i1", (32, UNSIGNED): "u4", (16, FLOAT): "f2"}.get((bits, form), "")
    return replace(kind, white_is_zero=_first(tags.get(PHOTOMETRIC), 0) == 0, view=view)


def _first(values: Any, default: int) -> int:
    value = values[0] if isinstance(values, tuple) and values else values
    return value if isinstance(value, int) else default


def _pgm_type(image: Image.Image, kind: SampleType) -> SampleType:
    """Return the type of a PGM: integers up to its maximum, which Pillow scales to 65535."""
    tiles = getattr(image, "tile", ())
    if image.mode != "I" or not tiles:
        return kind
    arguments = tiles[0][3]
    maximum = arguments[-1] if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 0
    # Files with the maximum 65535 have a decoder with other arguments.
    maximum = maximum if maximum > 255 else 65535
    return SampleType(0.0, float(maximum), has_range=True, factor=maximum / 65535)


def _jpeg2000_type(image: Image.Image, kind: SampleType) -> SampleType:
    """Return the type of a JPEG 2000. Pillow makes its values positive, and shifts them up to 16 bits."""
    size = _SIZ.search(_file_bytes(image))
    if size is None:
        return kind
    precision, signed = (size[1][0] & 127) + 1, bool(size[1][0] & 128)
    kind = SampleType.integers(precision, signed=signed)
    return replace(kind, factor=2.0 ** (precision - 16), offset=kind.low)


def _fits_type(image: Image.Image, kind: SampleType) -> SampleType:
    """Return the type of a FITS file, whose header gives a factor and an offset.

    Its integers have a sign; by convention, the offset 32768 stands for 16 bits without a sign.
    """
    scale = {b"BSCALE": 1.0, b"BZERO": 0.0}
    tiles = getattr(image, "tile", ())
    for name, number in _FITS_SCALE.findall(_file_bytes(image)[: tiles[0][2] if tiles else 0]):
        with suppress(ValueError):
            scale[name] = float(number.upper().replace(b"D", b"E"))
    factor, offset = scale[b"BSCALE"] or 1.0, scale[b"BZERO"]
    if kind is not FLOATS:
        bits = 16 if kind.has_range else 32
        kind = replace(SampleType.integers(bits, signed=True), view=f"i{bits // 8}")
        ends = sorted((factor * kind.low + offset, factor * kind.high + offset))
        kind = replace(kind, low=ends[0], high=ends[1], has_range=(bits, *ends) == (16, *USUAL_INTEGERS))
    return replace(kind, factor=factor, offset=offset)


_HEADERS: dict[str, Callable[[Image.Image, SampleType], SampleType]] = {
    "PPM": _pgm_type, "JPEG2000": _jpeg2000_type, "FITS": _fits_type,
}  # fmt: skip


def _file_bytes(image: Image.Image) -> bytes:
    """Return the bytes of the file if Pillow reads it from memory."""
    file = getattr(image, "fp", None)
    return file.getvalue() if isinstance(file, BytesIO) else b""


@dataclass(frozen=True)
class ValueExtent:
    """The smallest and the largest finite value of an image, and whether all values are finite.

    If no value is finite, ``low`` and ``high`` are 0.
    """

    low: float
    high: float
    finite: bool = True

    @classmethod
    def of(cls, numbers: Iterable[Numbers], kind: SampleType) -> "ValueExtent":
        """Find the extent of the values in several arrays of numbers."""
        ends, finite = [], True
        for array in numbers:
            if array.dtype.kind == "f":
                mask = np.isfinite(array)
                array, complete = array[mask], bool(mask.all())
                finite &= complete
            if array.size:
                ends += [array.min(), array.max()]
        values = kind.values(np.array(ends or [0.0]))
        return cls(float(values.min()), float(values.max()), finite) if ends else cls(0.0, 0.0, finite)

    def within(self, limits: Limits) -> bool:
        """Return whether all finite values are between two limits."""
        return limits[0] <= self.low and self.high <= limits[1]


def measure(image: Image.Image, kind: SampleType) -> ValueExtent:
    """Find the extent of the values of a loaded image."""
    return ValueExtent.of([kind.numbers(image)], kind)


def to_gray(image: Image.Image, kind: SampleType, value_range: ValueRange) -> tuple[Image.Image, PixelRemark]:
    """Scale an image of more than 8 bits to gray of 8 bits (mode L). NaN and infinity become black.

    Parameters
    ----------
    image : PIL.Image.Image
        A loaded image.
    kind : SampleType
        What `sample_type` returned before the image was loaded.
    value_range : ValueRange
        Which values become black and white.

    Raises
    ------
    ImageError
        If neither ``value_range`` nor the type of the image says which values are black and white.
    """
    numbers = kind.numbers(image)
    extent = ValueExtent.of([numbers], kind)
    limits = _choose_limits(extent, kind, value_range)
    remarks = _compare(extent, limits) | (NO_REMARK if extent.finite else PixelRemark.NOT_FINITE)
    return Image.fromarray(_scale(numbers, kind, limits)), remarks


def scale_colors(
    image: Image.Image, low_bytes: Iterable[NDArray[np.uint8]], limits: Limits
) -> tuple[Image.Image, PixelRemark]:
    """Scale the colors of an image of 16 bits per sample by another range than the range of the type.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of mode RGB or RGBA with the high bytes of the samples, as Pillow loads it. Its transparency is kept.
    low_bytes : iterable of numpy.ndarray
        The low bytes of red, green and blue, uint8 (height, width) each.
    limits : (float, float)
        The values that become black and white.
    """
    kind = SampleType.integers(16)
    bands, extents = list(image.split()), []
    for number, low in zip(range(3), low_bytes, strict=True):
        numbers = np.asarray(bands[number]).astype(np.uint16) << 8 | low
        extents.append(ValueExtent.of([numbers], kind))
        bands[number] = Image.fromarray(_scale(numbers, kind, limits))
    extent = ValueExtent(min(each.low for each in extents), max(each.high for each in extents))
    return Image.merge(image.mode, bands), _compare(extent, limits)


def compare_colors(image: Image.Image) -> PixelRemark:
    """Say whether the colors of an RGB or RGBA image fill less than an eighth of the range from 0 to 255."""
    extrema = [ends for ends in image.getextrema()[:3] if isinstance(ends, tuple)]
    extent = ValueExtent(min(low for low, _ in extrema), max(high for _, high in extrema))
    return _compare(extent, (0.0, 255.0))


def _choose_limits(extent: ValueExtent, kind: SampleType, value_range: ValueRange) -> Limits:
    """Return the values that become black and white."""
    if value_range.limits and not (value_range.automatic and kind.has_range):
        return value_range.limits
    if kind.has_range or not value_range.automatic:
        return kind.low, kind.high
    if extent.within(kind.usual):
        return kind.usual
    found, usual = (format_limits(*ends).replace(":", " to ") for ends in ((extent.low, extent.high), kind.usual))
    raise ImageError(
        f"its values are {found}, and no range says which of them are black and white, as they are not all within "
        f"{usual}; give --range LOW:HIGH to featx extract (range of the spec)"
    )


def _compare(extent: ValueExtent, limits: Limits) -> PixelRemark:
    remarks = NO_REMARK if extent.within(limits) else PixelRemark.CLIPPED
    narrow = extent.high - extent.low < NARROW_SHARE * (limits[1] - limits[0])
    return remarks | (PixelRemark.NARROW if narrow else NO_REMARK)


def _scale(numbers: Numbers, kind: SampleType, limits: Limits) -> NDArray[np.uint8]:
    """Scale numbers (height, width) to uint8, in chunks of rows."""

    def compute(numbers: Numbers) -> NDArray[np.uint8]:
        values = kind.values(numbers)
        finite = np.isfinite(values)
        black, white = limits
        shares = (np.where(finite, values, black) - black) / (white - black) * 255
        gray: NDArray[np.uint8] = np.rint(np.clip(shares, 0, 255)).astype(np.uint8)
        return np.where(finite, 255 - gray, np.uint8(0)) if kind.white_is_zero else gray

    scale: Callable[[Numbers], NDArray[np.uint8]] = compute
    if numbers.itemsize == 2:
        # Scale each possible number once. This is faster than scaling each pixel.
        scale = compute(ALL_16_BIT.view(numbers.dtype)).__getitem__
        numbers = numbers.view(np.uint16)
    gray, step = np.empty(numbers.shape, np.uint8), max(1, CHUNK_PIXELS // numbers.shape[1])
    for top in range(0, len(numbers), step):
        gray[top : top + step] = scale(numbers[top : top + step])
    return gray
