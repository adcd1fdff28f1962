"""Load the images of a listing. Threads read, hash, decode and augment images in advance."""

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featx.errors import ImageError
from featx.files import check_limits
from featx.images.decoding.decode_process import DecodeProcess, decode_timeout
from featx.images.decoding.decoder import decode, prepare_image
from featx.images.decoding.memory_budget import MAX_PIXELS, check_file_size
from featx.images.pixels.sample_values import DEFAULT_RANGE, NO_REMARK, PixelRemark
from featx.images.sources.any_source import list_images
from featx.images.sources.listing import Listing
from featx.spec import ExtractSpec, ValueRange

PREFETCH = 64
"""Number of copies that are made in advance. It is enough for the next batch of a CPU, and needs little memory."""
THUMBNAIL_SIDE = 144
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True)
class LoadedImage:
    """The copies of one image, as the backbone takes them, or the reason why the image failed.

    Attributes
    ----------
    path : str
        The path of the image in the listing.
    digest : str
        sha256 of the bytes of the file, as hex; ``""`` if the file could not be read.
    pixels : numpy.ndarray or None
        The plain copy, uint8 (size, size, 3); None if the image failed.
    exif_rotated : bool
        Whether the image was rotated or mirrored because of its EXIF orientation.
    augmented : tuple of numpy.ndarray
        The augmented copies, each an array like ``pixels``.
    reason : str
        Why the image failed; ``""`` if it did not.
    remarks : PixelRemark
        What a person should know about the conversion of values to pixels.
    seconds : (float, float, float)
        The elapsed time of reading, the CPU time of decoding, and the CPU time of making the copies.
    """

    path: str
    digest: str = ""
    pixels: np.ndarray | None = None
    exif_rotated: bool = False
    augmented: tuple[np.ndarray, ...] = ()
    reason: str = ""
    remarks: PixelRemark = NO_REMARK
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def views(self) -> tuple[np.ndarray, ...]:
        """The plain copy and the augmented copies; empty if the image failed."""
        return () if self.pixels is None else (self.pixels, *self.augmented)


def load_image(
    listing: Listing, row: int, spec: ExtractSpec, max_pixels: int = MAX_PIXELS, decoder: DecodeProcess | None = None
) -> LoadedImage:
    """Load one image of a listing, in this thread or with ``decoder``; ``reason`` of the result says why it failed."""
    path, began = listing.paths[row], time.perf_counter()
    try:
        check_file_size(listing.size(row), max_pixels)
        data = listing.read(row)
    except ImageError as error:
        return LoadedImage(path, reason=str(error))
    except (OSError, ValueError) as error:
        return LoadedImage(path, reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    reading = time.perf_counter() - began
    digest = hashlib.sha256(data).hexdigest()
    try:
        prepared = decoder(data, digest) if decoder else prepare_image(data, digest, spec, max_pixels)
    except ImageError as error:
        return LoadedImage(path, digest, reason=str(error))
    pixels, *augmented = prepared.views
    decoding, augmenting = prepared.seconds
    seconds = reading, decoding, augmenting
    return LoadedImage(
        path, digest, pixels, prepared.exif_rotated, tuple(augmented), remarks=prepared.remarks, seconds=seconds
    )


def load_file(path: str | Path, spec: ExtractSpec, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Load one image file; ``reason`` of the result says why it failed."""
    path = Path(path)
    return load_image(list_images([path.name], path.parent), 0, spec, max_pixels)


def load_images(
    listing: Listing,
    rows: Iterable[int],
    spec: ExtractSpec,
    workers: int,
    max_pixels: int = MAX_PIXELS,
    processes: bool = False,
    prefetch: int = PREFETCH,
) -> Generator[LoadedImage]:
    """Load images of a listing in parallel, in the order of ``rows``.

    Parameters
    ----------
    listing : Listing
        Where the images are.
    rows : iterable of int
        Which images to load.
    spec : ExtractSpec
        Which copies of each image to make.
    workers : int
        Number of threads. Pillow and hashlib release the interpreter lock. So a few threads can decode at the same time
        while the backbone runs.
    max_pixels : int
        As in `featx.images.decode`.
    processes : bool
        Give each thread a `DecodeProcess`. This helps if there are many threads, which would wait for the interpreter
        lock. Processes are also used if an environment variable limits the time per image
        (`featx.files.DECODE_TIMEOUT`).
    prefetch : int
        Number of copies to make in advance.

    Yields
    ------
    LoadedImage
        One for each row, including rows of images that failed.

    Raises
    ------
    SpecError
        If an environment variable has a limit that is not valid.
    """
    check_limits()
    seconds = decode_timeout()
    decoders = [DecodeProcess(spec, max_pixels, seconds) for _ in range(workers)] if processes or seconds else []
    idle = list(decoders)

    def load(row: int) -> LoadedImage:
        # There is one decoder per thread. No lock is needed, because pop and append of a list are atomic.
        decoder = idle.pop() if decoders else None
        try:
            return load_image(listing, row, spec, max_pixels, decoder)
        finally:
            if decoder:
                idle.append(decoder)

    waiting: deque[Future[LoadedImage]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="featx-decode")
    try:
        for row in rows:
            waiting.append(pool.submit(load, row))
            if len(waiting) > max(workers, prefetch // spec.n_views):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for decoder in decoders:
            decoder.close()


def load_thumbnail(root: Path, path: str, value_range: ValueRange = DEFAULT_RANGE) -> Image.Image:
    """Load an image file below a folder as a small, upright RGB image.

    ``value_range`` says which values are black and white in images of more than 8 bits.

    Raises
    ------
    ImageError, OSError
        If the file cannot be read or decoded.
    """
    # A JPEG can only be decoded at a few scales. Decoding at twice the size keeps the thumbnail sharp.
    data = list_images([path], root).read(0)
    image = decode(data, side=2 * THUMBNAIL_SIDE, value_range=value_range).image
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image
