"""From a file's bytes to an upright RGB picture, or to one plain reason why not."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile

from featx.errors import ImageError
from featx.images.colors import to_rgb
from featx.images.formats import picture_formats
from featx.images.libtiff import heard
from featx.images.memory_budget import MAX_PIXELS, Budget, check_pixels, check_size, room
from featx.images.pillow_logging import pillow_quiet

ORIENTATION = 0x0112
TURNS = {
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
class Picture:
    """A decoded image: ``image`` is upright and of mode RGB; ``turned`` says that its EXIF orientation was not 1."""

    image: Image.Image
    turned: bool


def decode(data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True) -> Picture:
    """Decode the bytes of an image file; of an animation, the first frame.

    Parameters
    ----------
    data : bytes
        The whole file, in any raster format that Pillow opens.
    max_pixels : int
        The most pixels (width × height) that a picture may have; its header is asked before it is decoded. Those of
        slow formats count several times (see `featx.images.memory_budget`).
    side : int, optional
        Decode a JPEG at the smallest of its own scales (1/2, 1/4, 1/8) of which both sides are no smaller.
    upright : bool
        Turn the picture as its EXIF orientation says. False leaves it as its file has it, which is what `featx.audit`
        compares with; a TIFF is turned all the same, as Pillow does it.

    Raises
    ------
    ImageError
        If the bytes are no picture, are damaged or cut short, or have too many pixels. Nothing else is raised, and
        no warning of Pillow's gets out.
    """
    with decoding(data, max_pixels, side, upright) as picture:
        return picture


@contextmanager
def decoding(
    data: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, upright: bool = True,
    canvas: Callable[[int], int] | None = None, room: Budget = room,
) -> Iterator[Picture]:  # fmt: skip
    """As `decode`; until the block ends the picture counts among those that are in memory at a time, in ``room``.

    So does a ``canvas``: how many pixels are needed to resize a picture of that long side.
    """
    check_size(len(data), max_pixels)
    with pillow_quiet() as logged:
        image = _open(data, logged)
    with room.hold(check_pixels(image, data, max_pixels, canvas(max(image.size)) if canvas else 0)):
        with pillow_quiet() as logged, heard() as said:
            try:
                if side is not None:
                    image.draft("RGB", (side, side))
                picture = load_upright(image, upright)
            except Exception as error:
                raise ImageError("; ".join([_reason(error, str(image.format)), *logged, *said])) from error
        yield picture


def _open(data: bytes, logged: list[str]) -> ImageFile.ImageFile:
    """Read the header by the first format that takes it; ``logged`` is what Pillow logs meanwhile.

    ``Image.open`` does the same, but tries formats in an order that depends on earlier imports and applies a limit
    on pixels that is one for the whole process.
    """
    if not data:
        raise ImageError("empty file")
    reasons = []
    for name in picture_formats():
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


def load_upright(image: Image.Image, upright: bool = True) -> Picture:
    """Load the pixels of an image that Pillow has opened, convert them to RGB and turn them, if they shall be upright.

    One that `PIL.ImageOps.exif_transpose` has turned says so, and is not turned again.
    """
    # Pillow turns a TIFF itself as it loads; elsewhere EXIF may lie behind the pixels, as in a PNG.
    before = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    after = _orientation(image)
    rgb = to_rgb(image)
    turns = upright and after in TURNS
    return Picture(rgb.transpose(TURNS[after]) if turns else rgb, before in TURNS or turns)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 if there is none, or none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
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
