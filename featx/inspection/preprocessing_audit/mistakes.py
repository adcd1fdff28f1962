"""Common mistakes of preprocessing, as data."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.images import MAX_PIXELS, decode, preprocess
from featx.spec import ExtractSpec


@dataclass(frozen=True)
class PreprocessingMistake:
    """One way to preprocess images differently from what the backbone expects.

    Parameters
    ----------
    name, origin : str
        What the mistake is, and where it usually comes from.
    preprocessing : str, optional
        Key of `featx.backbones.PREPROCESSINGS` that is used instead of the backbone's own.
    reverse : bool
        Put the channels in the order blue, green, red.
    antialias : bool
        Antialias images that are made smaller.
    upright : bool
        Apply the EXIF orientation.
    """

    name: str
    origin: str
    preprocessing: str | None = None
    reverse: bool = False
    antialias: bool = True
    upright: bool = True

    @property
    def keeps_pixels(self) -> bool:
        """Whether the pixels are correct and only their scaling is wrong."""
        return not self.reverse and self.antialias and self.upright

    def wrong_spec(self, spec: ExtractSpec) -> ExtractSpec:
        """Return the spec for an engine that makes this mistake: ``spec`` with the wrong preprocessing, if any."""
        return dataclasses.replace(spec, preprocessing=self.preprocessing or spec.preprocessing)

    def load_pixels(self, data: bytes, spec: ExtractSpec, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Decode an image file and make this mistake.

        Parameters
        ----------
        data : bytes
            The image file.
        spec : ExtractSpec
            The correct spec.
        max_pixels : int
            Largest image that is decoded.

        Returns
        -------
        uint8 array (size, size, 3)

        Raises
        ------
        ImageError
            If the image cannot be decoded.
        """
        side = spec.size if spec.decode == "scaled" else None
        image = decode(data, max_pixels, side, self.upright, spec.value_range).image
        pixels = preprocess(image, spec, self.antialias)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.reverse else pixels


NO_MISTAKE = PreprocessingMistake("correct", "as the backbone expects")
MISTAKES = (
    PreprocessingMistake("BGR order", "images as OpenCV reads them", reverse=True),
    PreprocessingMistake("0 to 1", "pixels divided by 255: ToTensor, rescale=1/255", preprocessing="zero_to_one"),
    PreprocessingMistake("-1 to 1", "the scaling of Inception and MobileNet", preprocessing="minus_one_to_one"),
    PreprocessingMistake("no antialiasing", "the default resizing of OpenCV and torch", antialias=False),
    PreprocessingMistake("EXIF ignored", "photos of a phone as Pillow opens them", upright=False),
)
