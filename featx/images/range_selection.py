"""Choose one range of values for all images of more than 8 bits in a listing."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from featx.images.decoding.decoder import open_image
from featx.images.decoding.memory_budget import check_decoding_cost, pixel_budget
from featx.images.decoding.pillow_logging import capture_pillow_messages
from featx.images.pixels.sample_values import (
    SampleType,
    ValueExtent,
    measure,
    sample_type,
)
from featx.images.sources.listing import Listing
from featx.spec import AUTO, ExtractSpec, ValueRange

SAMPLED_IMAGES = 64
"""Number of images whose values are read. They are drawn evenly from the images that may need a range."""
FIRST_IMAGES = 16
"""Number of images that are read first. If there are many images and none of these needs a range, no more are read."""
NO_RANGE_SUFFIXES = (
    b".jpg", b".jpeg", b".jpe", b".jfif", b".png", b".webp", b".gif", b".bmp", b".avif", b".heic", b".heif",
)  # fmt: skip
"""Suffixes of formats whose files say which values are black and white."""


def resolve_range(spec: ExtractSpec, listing: Listing, max_pixels: int, workers: int = 1) -> ExtractSpec:
    """If the range of the spec is ``auto``, return the spec with the range that `choose_range` chooses."""
    if spec.range != AUTO:
        return spec
    return dataclasses.replace(spec, range=str(choose_range(listing, max_pixels, workers)))


def choose_range(listing: Listing, max_pixels: int, workers: int = 1) -> ValueRange:
    """Choose the range of values for ``ExtractSpec.range`` = ``auto``.

    Only some images need a range, because their type does not say which values are black and white: images of signed
    integers, of 32-bit integers, and of floats.

    Parameters
    ----------
    listing : Listing
        The images.
    max_pixels : int
        Images with more pixels are not decoded.
    workers : int
        Number of threads that read and decode images.

    Returns
    -------
    ValueRange
        ``auto`` if no image of the sample needs a range, or if all values are from 0 to 65535 (integers) or from 0 to 1
        (floats). Otherwise, the smallest and the largest value of the sample.
    """
    rows = [row for row, path in enumerate(listing.paths.iter_bytes()) if not path.lower().endswith(NO_RANGE_SUFFIXES)]
    with ThreadPoolExecutor(workers) as pool:

        def look(count: int) -> list[tuple[ValueExtent, SampleType]]:
            drawn = np.unique(np.linspace(0, len(rows) - 1, count).astype(int)).tolist() if rows else []
            found = pool.map(lambda number: _measure(listing, rows[number], max_pixels), drawn)
            return [each for each in found if each]

        needs_range = len(rows) <= SAMPLED_IMAGES or look(FIRST_IMAGES)
        return ValueRange(_common_limits(look(SAMPLED_IMAGES)) if needs_range else None)


def _common_limits(measured: Sequence[tuple[ValueExtent, SampleType]]) -> tuple[float, float] | None:
    if all(extent.within(kind.usual) for extent, kind in measured):
        return None
    low, high = min(extent.low for extent, _ in measured), max(extent.high for extent, _ in measured)
    return (low, high) if low < high else (low, low + 1)


def _measure(listing: Listing, row: int, max_pixels: int) -> tuple[ValueExtent, SampleType] | None:
    """Find the extent of the values of an image. Return None if the image needs no range, or cannot be read."""
    try:
        data = listing.read(row)
        image = open_image(data, max_pixels)
        kind = sample_type(image)
        if kind is None or kind.has_range:
            return None
        with pixel_budget.acquire(check_decoding_cost(image, data, max_pixels)), capture_pillow_messages():
            image.load()
            return measure(image, kind), kind
    except Exception:
        return None  # The extraction records the failure, with its reason.
