"""The usual mistakes of preprocessing, as data: what each of them does otherwise than was declared."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.images import MAX_PIXELS, decode, preprocess
from featx.spec import ExtractSpec


@dataclass(frozen=True)
class Mistake:
    """One way to prepare pictures otherwise than the backbone expects.

    Parameters
    ----------
    name, origin : str
        What it is, and where it usually comes from.
    preprocessing : str, optional
        The key of `featx.spec.extract_spec.PREPROCESSINGS` that is taken instead of the backbone's own.
    reverse : bool
        Give the channels in the order blue, green, red.
    antialias : bool
        Whether pictures that shrink are antialiased.
    upright : bool
        Whether the EXIF orientation is applied.
    """

    name: str
    origin: str
    preprocessing: str | None = None
    reverse: bool = False
    antialias: bool = True
    upright: bool = True

    @property
    def same_pixels(self) -> bool:
        """Whether pictures are the declared ones, and only what the backbone is given of them differs."""
        return not self.reverse and self.antialias and self.upright

    def spec(self, declared: ExtractSpec) -> ExtractSpec:
        """What the backbone is run by: the declared spec, or that of the wrong preprocessing."""
        return dataclasses.replace(declared, preprocessing=self.preprocessing or declared.preprocessing)

    def prepare(self, data: bytes, declared: ExtractSpec, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """An image file's pixels, uint8 (size, size, 3), by this mistake; ``ImageError`` if it cannot be decoded."""
        side = declared.size if declared.decode == "scaled" else None
        picture = decode(data, max_pixels, side, self.upright).image
        pixels = preprocess(picture, declared, self.antialias)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.reverse else pixels


DECLARED = Mistake("declared", "as the backbone expects")
MISTAKES = (
    Mistake("BGR order", "pictures as OpenCV reads them", reverse=True),
    Mistake("0 to 1", "pixels divided by 255: ToTensor, rescale=1/255", preprocessing="zero_to_one"),
    Mistake("-1 to 1", "the scaling of Inception and MobileNet", preprocessing="minus_one_to_one"),
    Mistake("no antialiasing", "how OpenCV and torch resize by default", antialias=False),
    Mistake("EXIF ignored", "pictures of a phone left lying, as Pillow opens them", upright=False),
)
