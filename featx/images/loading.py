"""From a listing to pixels: read, digest, decode and preprocess images in threads, in order, ahead of their use."""

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
from featx.images.sources.any_source import list_images
from featx.images.sources.listing import Listing
from featx.spec import ExtractSpec

PREFETCH = 64
"""Views made before they are asked for: enough for a processor's next batch, few enough to keep memory flat."""
THUMBNAIL_SIDE = 144
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True)
class LoadedImage:
    """One image, ready for the backbone, or the reason why it is not.

    ``pixels`` is the plain view, uint8 (size, size, 3), and ``augmented`` are the others; ``digest`` is the sha256 of
    the file's bytes as hex; ``exif_rotated`` says that an EXIF orientation was applied. With a ``reason``, pixels are None.
    ``seconds`` are those of reading by the clock, and of decoding and of making the views by the processor's time in
    this thread.
    """

    path: str
    digest: str = ""
    pixels: np.ndarray | None = None
    exif_rotated: bool = False
    augmented: tuple[np.ndarray, ...] = ()
    reason: str = ""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def views(self) -> tuple[np.ndarray, ...]:
        """All views, the plain one first; none of an image that failed."""
        return () if self.pixels is None else (self.pixels, *self.augmented)


def load_image(
    listing: Listing, row: int, spec: ExtractSpec, max_pixels: int = MAX_PIXELS, decoder: DecodeProcess | None = None
) -> LoadedImage:
    """Load one image of a listing, in this thread or by a ``decoder``; what goes wrong is its ``reason``."""
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
        found = decoder(data, digest) if decoder else prepare_image(data, digest, spec, max_pixels)
        pixels, *augmented = found.views
        decoding, augmenting = found.seconds
        seconds = reading, decoding, augmenting
        return LoadedImage(path, digest, pixels, found.exif_rotated, tuple(augmented), seconds=seconds)
    except ImageError as error:
        return LoadedImage(path, digest, reason=str(error))


def load_file(path: str | Path, spec: ExtractSpec, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Load one image file; what goes wrong is its ``reason``, never an exception."""
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
    """Load images of a listing in ``workers`` threads and give them in the order of ``rows``, so many views ahead.

    Pillow and hashlib release the interpreter's lock, so a few threads decode side by side and beside the backbone. Many
    wait for one another there, and with ``processes`` each has one that decodes for it; so it has where the environment
    says how long an image may take (`featx.files.limits.DECODE_TIMEOUT`).
    """
    check_limits()
    seconds = decode_timeout()
    decoders = [DecodeProcess(spec, max_pixels, seconds) for _ in range(workers)] if processes or seconds else []
    idle = list(decoders)

    def load(row: int) -> LoadedImage:
        # There are as many as threads, and taking from a list is one step.
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


def load_thumbnail(root: Path, path: str) -> Image.Image:
    """A small copy of an image file below a root, upright; ``ImageError`` or ``OSError`` if it cannot be read."""
    # Twice the side, so that a JPEG's coarse scales do not show.
    picture = decode(list_images([path], root).read(0), side=2 * THUMBNAIL_SIDE).image
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return picture
