"""From a file's bytes to an upright RGB picture, or to one plain reason why not."""

import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from featx.errors import ImageError
from featx.images.decoding.formats import image_formats
from featx.images.decoding.memory_budget import MAX_PIXELS, Budget, check_decoding_cost, check_file_size, pixel_budget
from featx.images.decoding.pillow_logging import capture_pillow_messages
from featx.images.pixels.augmentation import augmented_copies
from featx.images.pixels.colors import to_rgb
from featx.images.pixels.placement import canvas_pixels
from featx.spec import ExtractSpec

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation; 1 and any other value mean that it is."""
CUT_SHORT = re.compile(r"truncated|too early|EOF|not enough|only got", re.IGNORECASE)
"""What Pillow says when a file ends before it should."""
SHOWN_BYTES = 9


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image: ``image`` is upright and of mode RGB; ``exif_rotated`` says that its EXIF orientation was not 1."""

    image: Image.Image
    exif_rotated: bool


def decode(data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True) -> DecodedImage:
    """Decode the bytes of an image file; of an animation, the first frame.

    Parameters
    ----------
    data : bytes
        The whole file, in any raster format that Pillow opens.
    max_pixels : int
        The most pixels (width × height) that a picture may have; its header is asked before it is decoded. Those of
        slow formats count several times (see `featx.images.decoding.memory_budget`).
    side : int, optional
        Decode a JPEG at the smallest of its own scales (1/2, 1/4, 1/8) of which both sides are no smaller.
    upright : bool
        Turn the picture as its EXIF orientation says. False leaves it as its file has it, which is what `featx.audit`
        compares with; a TIFF is exif_rotated all the same, as Pillow does it.

    Raises
    ------
    ImageError
        If the bytes are no picture, are damaged or cut short, or have too many pixels. Nothing else is raised, and
        no warning of Pillow's gets out.
    """
    with decoded_image(data, max_pixels, side, upright) as picture:
        return picture


@contextmanager
def decoded_image(
    data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True,
    canvas: Callable[[int], int] | None = None, budget: Budget = pixel_budget,
) -> Iterator[DecodedImage]:  # fmt: skip
    """As `decode`; until the block ends the picture counts among those that are in memory at a time, in ``room``.

    So does a ``canvas``: how many pixels are needed to resize a picture of that long side.
    """
    check_file_size(len(data), max_pixels)
    with capture_pillow_messages() as logged:
        image = _open(data, logged)
    with budget.acquire(check_decoding_cost(image, data, max_pixels, canvas(max(image.size)) if canvas else 0)):
        with capture_pillow_messages() as logged:
            try:
                if side is not None:
                    image.draft("RGB", (side, side))
                picture = load_upright(image, upright)
            except Exception as error:
                raise ImageError("; ".join([_reason(error, str(image.format)), *logged])) from error
        yield picture


def _open(data: bytes, logged: list[str]) -> ImageFile.ImageFile:
    """Read the header by the first format that takes it; ``logged`` is what Pillow logs meanwhile.

    ``Image.open`` does the same, but tries formats in an order that depends on earlier imports and applies a limit
    on pixels that is one for the whole process.
    """
    if not data:
        raise ImageError("empty file")
    reasons = []
    for name in image_formats():
        accepted = _accepts(name, data)
        if isinstance(accepted, str):
            reasons.append(accepted)
        elif accepted:
            try:
                return Image.OPEN[name][0](BytesIO(data), "")
            except Exception as error:
                # Without a signature nothing says that the bytes were meant to be of this format.
                if Image.OPEN[name][1]:
                    reasons.append("; ".join([_reason(error, name), *logged]))
    start = ascii(data[:SHOWN_BYTES].decode("latin-1"))[1:-1] + "…" * (len(data) > SHOWN_BYTES)
    raise ImageError(reasons[0] if reasons else f"no image format that Pillow knows: starts with '{start}'")


def _accepts(name: str, data: bytes) -> bool | str:
    """Whether data may be of a format by its first bytes, or why this Pillow cannot open it."""
    accepts = Image.OPEN[name][1]
    try:
        return accepts is None or accepts(data[:16])
    except (IndexError, struct.error):
        # Fewer bytes than its signature has.
        return False


def load_upright(image: Image.Image, upright: bool = True) -> DecodedImage:
    """Load the pixels of an image that Pillow has opened, convert them to RGB and turn them, if they shall be upright.

    One that `PIL.ImageOps.exif_transpose` has exif_rotated says so, and is not exif_rotated again.
    """
    # Pillow turns a TIFF itself as it loads; elsewhere EXIF may lie behind the pixels, as in a PNG.
    before = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    after = _orientation(image)
    rgb = to_rgb(image)
    turns = upright and after in TRANSPOSITIONS
    return DecodedImage(rgb.transpose(TRANSPOSITIONS[after]) if turns else rgb, before in TRANSPOSITIONS or turns)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 if there is none, or none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged EXIF says nothing about the pixels.
        return 1


def _reason(error: Exception, name: str) -> str:
    """One line for what Pillow raised on a file that has the signature of format ``name``."""
    if isinstance(error, MemoryError):
        return f"not enough memory to decode this {name}"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {name}, {text}"
    if "unpack" in text or "index out of range" in text:
        text = "its header ends too early"
    elif "not identified" in text:
        text = "its header is not complete"
    verdict = "cut short" if CUT_SHORT.search(text) else "damaged or cut short"
    return f"{verdict}: {name}, {text}"


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """The views of one image, the plain one first, each uint8 (size, size, 3).

    ``exif_rotated`` says that an EXIF orientation was applied; ``seconds`` are those of decoding and of making the views, by
    the processor's time in the thread that did it.
    """

    views: tuple[NDArray[np.uint8], ...]
    exif_rotated: bool
    seconds: tuple[float, ...]


def prepare_image(
    data: bytes, digest: str, spec: ExtractSpec, max_pixels: int = MAX_PIXELS, budget: Budget = pixel_budget
) -> PreparedImage:
    """Decode an image file of a digest, and make the views of a spec; ``ImageError`` if it cannot be decoded."""
    start = time.thread_time()
    side = spec.size if spec.decode == "scaled" else None
    with decoded_image(data, max_pixels, side, canvas=partial(canvas_pixels, spec), budget=budget) as picture:
        decoded = time.thread_time()
        views = augmented_copies(picture.image, spec, digest)
    return PreparedImage(tuple(views), picture.exif_rotated, (decoded - start, time.thread_time() - decoded))
