"""Decode the bytes of an image file to upright RGB pixels, or explain in one line why that fails."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from featx.errors import ImageError
from featx.images.decoding.formats import accepts, image_formats
from featx.images.decoding.memory_budget import (
    MAX_PIXELS,
    Budget,
    check_decoding_cost,
    check_file_size,
    pixel_budget,
)
from featx.images.decoding.metadata_removal import without_metadata
from featx.images.decoding.pages import has_several_pages
from featx.images.decoding.pillow_logging import capture_pillow_messages
from featx.images.decoding.stored_colors import StoredColors
from featx.images.decoding.tiff import BLACK_IS_ZERO, PHOTOMETRIC, WHITE_IS_ZERO, UnknownKind, open_function
from featx.images.pixels.augmentation import augmented_copies
from featx.images.pixels.colors import convert_to_rgb
from featx.images.pixels.placement import canvas_pixels
from featx.images.pixels.sample_values import (
    DEFAULT_RANGE,
    NO_REMARK,
    PixelRemark,
    compare_colors,
    sample_type,
    scale_colors,
)
from featx.spec import ExtractSpec, ValueRange

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by its EXIF orientation. Orientations that are not listed mean an upright image.

``ImageOps.exif_transpose`` is not used: it rewrites all EXIF tags, so it fails if any tag is damaged.
"""
CUT_SHORT = re.compile(r"truncated|too early|EOF|not enough|only got", re.IGNORECASE)
"""Words in Pillow's errors about a file that ends too early."""
UNKNOWN_KIND = re.compile(r"cannot handle|unsupported|not (yet )?supported", re.IGNORECASE)
"""Words in Pillow's errors about a file that is not damaged."""
DAMAGED_PIXELS = re.compile(r"image file is truncated|decoder error|when reading image file")
"""Words in the errors of Pillow's decoders."""
SHOWN_BYTES = 9


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An upright image of mode RGB, and how its pixels differ from the values of the file.

    Attributes
    ----------
    image : PIL.Image.Image
    exif_rotated : bool
        Whether the image was rotated or mirrored because of its EXIF orientation.
    remarks : PixelRemark
        What a person should know about the conversion of values to pixels.
    """

    image: Image.Image
    exif_rotated: bool
    remarks: PixelRemark = NO_REMARK


def decode(
    data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True,
    value_range: ValueRange = DEFAULT_RANGE,
) -> DecodedImage:  # fmt: skip
    """Decode the bytes of an image file, or the first frame of an animation.

    Parameters
    ----------
    data : bytes
        The whole file, in any raster format that Pillow opens.
    max_pixels : int
        Limit on the pixels (width × height) of the image. The header is checked before the image is decoded. Pixels of
        costly formats count several times (see `featx.images.decoding.memory_budget`).
    side : int, optional
        Decode a JPEG at a reduced scale (1/2, 1/4 or 1/8). The scale is the smallest one at which both sides have at
        least ``side`` pixels.
    upright : bool
        Rotate or mirror the image as its EXIF orientation says. If False, the image stays as it is stored, except that
        Pillow itself rotates a TIFF. `featx.audit` compares both.
    value_range : ValueRange
        Which values are black and white in images of more than 8 bits.

    Raises
    ------
    ImageError
        If the bytes are not an image, are damaged or truncated, or have too many pixels. Also if neither the file nor
        ``value_range`` says which values of the file are black and white. No other error is raised, and Pillow's
        warnings are not shown. Damaged or large metadata is not an error.
    """
    with decoded_image(data, max_pixels, side, upright, value_range) as decoded:
        return decoded


@contextmanager
def decoded_image(
    data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True,
    value_range: ValueRange = DEFAULT_RANGE, canvas: Callable[[int], int] | None = None, budget: Budget = pixel_budget,
) -> Iterator[DecodedImage]:  # fmt: skip
    """Decode an image like `decode`, and count it in the memory budget until the ``with`` block ends.

    Parameters
    ----------
    data, max_pixels, side, upright, value_range
        As in `decode`.
    canvas : callable, optional
        Function of the long side of the image. It returns the number of pixels of the largest intermediate image that
        the ``with`` block makes.
    budget : Budget
        Limit on the images that are decoded at the same time.

    Raises
    ------
    ImageError
        In the same cases as `decode`.
    """
    image = open_image(data, max_pixels)
    with budget.acquire(check_decoding_cost(image, data, max_pixels, canvas(max(image.size)) if canvas else 0)):
        with capture_pillow_messages() as messages:
            try:
                decoded = _load(image, data, side, upright, value_range)
            except ImageError:
                raise
            except Exception as error:
                raise ImageError("; ".join([_reason(error, str(image.format)), *messages])) from error
        yield decoded


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Open the bytes of an image file, and read its header. Raise ``ImageError`` in the same cases as `decode`."""
    check_file_size(len(data), max_pixels)
    with capture_pillow_messages() as messages:
        return _open(data, messages)


def _load(
    image: ImageFile.ImageFile, data: bytes, side: int | None, upright: bool, value_range: ValueRange
) -> DecodedImage:
    """Load the pixels of an image that was opened from ``data``. If its metadata is damaged, ignore the metadata."""
    try:
        return _load_scaled(image, side, upright, value_range)
    except (ImageError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        # If the decoder itself failed, the metadata is not the cause.
        bare = None if DAMAGED_PIXELS.search(str(error)) else without_metadata(str(image.format), data)
        if bare is None:
            raise
        with suppress(Exception):
            again = open_function(str(image.format))(BytesIO(bare), "")
            if again.size == image.size:
                return _load_scaled(again, side, upright, value_range)
        raise


def _load_scaled(image: ImageFile.ImageFile, side: int | None, upright: bool, value_range: ValueRange) -> DecodedImage:
    if side is not None:
        image.draft("RGB", (side, side))
    return load_upright(image, upright, value_range)


def load_upright(image: Image.Image, upright: bool = True, value_range: ValueRange = DEFAULT_RANGE) -> DecodedImage:
    """Load the pixels of an image that Pillow has opened, and convert them to RGB.

    If ``upright`` is True, the image is turned upright, unless `PIL.ImageOps.exif_transpose` has already done that.
    ``value_range`` is as in `decode`.
    """
    # Pillow rotates a TIFF when it loads the pixels, so read the orientation of a TIFF before loading. In other
    # formats, such as PNG, EXIF may come after the pixels, so read their orientation after loading.
    before = _orientation(image) if image.format == "TIFF" else 1
    kind, stored = sample_type(image), StoredColors.of(image)
    limits = None if value_range.automatic else value_range.limits
    # Loading may close a TIFF. Looking for a second frame in another format may change what Pillow loads.
    several = image.format == "TIFF" and has_several_pages(image)
    image.load()
    after = _orientation(image)
    colors, remarks = stored.without_zero_alpha(image), NO_REMARK
    if stored.are_16_bit and limits:
        colors, remarks = scale_colors(colors, stored.low_bytes(colors), limits)
    elif stored.are_16_bit:
        remarks = compare_colors(colors)
    rgb, others = convert_to_rgb(colors, kind, value_range)
    if several or (image.format != "TIFF" and has_several_pages(image)):
        remarks |= PixelRemark.PAGES
    rotate = upright and after in TRANSPOSITIONS
    return DecodedImage(
        rgb.transpose(TRANSPOSITIONS[after]) if rotate else rgb, before in TRANSPOSITIONS or rotate, remarks | others
    )


def encode_upright(image: Image.Image) -> bytes:
    """Encode an image that Pillow has opened as an upright image file, which `decode` decodes to the same pixels.

    An image of more than 8 bits keeps its values, so that `decode` scales them by the range of the data set.
    """
    data, kind = BytesIO(), sample_type(image)
    if kind is None:
        # PPM has no compression, so the bytes do not depend on the version of any library.
        load_upright(image).image.save(data, "PPM")
        return data.getvalue()
    image.load()
    if (orientation := _orientation(image)) in TRANSPOSITIONS:
        image = image.transpose(TRANSPOSITIONS[orientation])
    numbers = kind.numbers(image)
    if kind.view or (kind.factor, kind.offset) != (1, 0):
        numbers = kind.values(numbers).astype(np.float32)
    tags = {PHOTOMETRIC: WHITE_IS_ZERO if kind.white_is_zero else BLACK_IS_ZERO}
    Image.fromarray(numbers).save(data, "TIFF", tiffinfo=tags)
    return data.getvalue()


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """The copies of one image, as the backbone takes them.

    Attributes
    ----------
    views : tuple of numpy.ndarray
        The plain copy and the augmented copies, each uint8 (size, size, 3).
    exif_rotated : bool
        Whether the image was rotated or mirrored because of its EXIF orientation.
    remarks : PixelRemark
        What a person should know about the conversion of values to pixels.
    seconds : (float, float)
        The CPU time of decoding, and the CPU time of making the copies.
    """

    views: tuple[NDArray[np.uint8], ...]
    exif_rotated: bool
    remarks: PixelRemark
    seconds: tuple[float, ...]


def prepare_image(
    data: bytes, digest: str, spec: ExtractSpec, max_pixels: int = MAX_PIXELS, budget: Budget = pixel_budget
) -> PreparedImage:
    """Decode an image file and make its copies as the spec says.

    ``digest`` is the sha256 of the file. It raises ``ImageError`` in the same cases as `decode`.
    """
    start = time.thread_time()
    side = spec.size if spec.decode == "scaled" else None
    canvas = partial(canvas_pixels, spec)
    with decoded_image(data, max_pixels, side, True, spec.value_range, canvas, budget) as decoded:
        decoded_at = time.thread_time()
        views = tuple(augmented_copies(decoded.image, spec, digest))
    seconds = decoded_at - start, time.thread_time() - decoded_at
    return PreparedImage(views, decoded.exif_rotated, decoded.remarks, seconds)


def _open(data: bytes, messages: list[str]) -> ImageFile.ImageFile:
    """Open an image with the first format that accepts its header. ``messages`` collects Pillow's log messages.

    ``Image.open`` is not used, because it hides why a format refused the file, and its limit on pixels is a setting of
    the whole process.
    """
    if not data:
        raise ImageError("empty file")
    reasons = []
    for name in image_formats():
        accepted = accepts(name, data)
        if isinstance(accepted, str):
            reasons.append(accepted)
        elif accepted:
            try:
                return _open_as(name, data)
            except Exception as error:
                # Formats without a signature are tried on all files, so their errors say nothing about this file.
                if Image.OPEN[name][1]:
                    reasons.append("; ".join([_reason(error, name), *messages]))
    start = ascii(data[:SHOWN_BYTES].decode("latin-1"))[1:-1] + "…" * (len(data) > SHOWN_BYTES)
    raise ImageError(reasons[0] if reasons else f"no image format that Pillow knows: starts with '{start}'")


def _open_as(name: str, data: bytes) -> ImageFile.ImageFile:
    """Open an image of a known format. If its metadata is damaged, ignore the metadata."""
    try:
        return open_function(name)(BytesIO(data), "")
    except Exception:
        bare = without_metadata(name, data)
        if bare is None:
            raise
        with suppress(Exception):
            return open_function(name)(BytesIO(bare), "")
        raise


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation. If it cannot be read, return 1, which means upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged EXIF does not mean damaged pixels.
        return 1


def _reason(error: Exception, name: str) -> str:
    """Describe in one line the error that Pillow raised for a file of format ``name``."""
    if isinstance(error, MemoryError):
        return f"not enough memory to decode this {name}"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnknownKind) or UNKNOWN_KIND.search(text):
        return f"no kind of {name} that Pillow knows: {text}"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {name}, {text}"
    if "unpack" in text or "index out of range" in text:
        text = "its header ends too early"
    elif "not identified" in text:
        text = "its header is not complete"
    verdict = "cut short" if CUT_SHORT.search(text) else "damaged or cut short"
    return f"{verdict}: {name}, {text}"
