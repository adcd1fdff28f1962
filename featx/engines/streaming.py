"""Compute the features of listed images in parts. The next images are loaded while the backbone computes."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np

from featx.engines.selection import Engine
from featx.engines.timings import StageTimings
from featx.images import MAX_PIXELS, PREFETCH, Listing, LoadedImage, load_images
from featx.runtime import no_progress
from featx.spec import ExtractSpec
from featx.store import Part

PART_ROWS = 128
PART_BYTES = 1 << 26
"""A part has at most ``PART_ROWS`` rows and ``PART_BYTES`` bytes of features. But it always has all augmented copies of
at least one image."""
MIN_IMAGES_FOR_PROCESSES = 512
"""With a GPU, processes decode the images if there are at least this many images. Otherwise threads decode them. The
reason is that each process takes a quarter of a second to start."""


def rows_per_part(spec: ExtractSpec) -> int:
    """Return the number of rows of a part. All augmented copies of an image are in the same part.

    The number depends only on the spec, so that a resumed run makes the same parts and batches.
    """
    rows = min(PART_ROWS, PART_BYTES // (4 * spec.width))
    return max(1, rows // spec.n_views) * spec.n_views


def images_per_part(spec: ExtractSpec) -> int:
    """Return the number of images of a part."""
    return rows_per_part(spec) // spec.n_views


def feature_parts(
    engine: Engine,
    listing: Listing,
    rows: Sequence[int] | np.ndarray,
    workers: int,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[int], object] = no_progress,
    timings: StageTimings | None = None,
) -> Iterator[Part]:
    """Compute the features of some images of a listing, part by part, in order.

    Parameters
    ----------
    engine : Engine
        The engine that computes the features. Its spec also says how images are preprocessed.
    listing : Listing
        The images.
    rows : sequence of int
        The rows of the listing to compute.
    workers : int
        Number of threads or processes that load images.
    max_pixels : int
        Images with more pixels are not decoded.
    advance : callable
        Function that is called with the number of images that were just finished.
    timings : StageTimings, optional
        Object that adds up the time of each stage.

    Yields
    ------
    Part
        The features of `images_per_part` images. An image that cannot be loaded is one of the failures of the part.
    """
    step = images_per_part(engine.spec)
    groups = [rows[first : first + step] for first in range(0, len(rows), step)]
    timings = timings or StageTimings(workers)
    return grouped_feature_parts(engine, listing, groups, workers, max_pixels, advance, timings)


def grouped_feature_parts(
    engine: Engine,
    listing: Listing,
    groups: Sequence[Sequence[int] | np.ndarray],
    workers: int,
    max_pixels: int,
    advance: Callable[[int], object],
    timings: StageTimings,
) -> Iterator[Part]:
    """Compute the features of groups of images, one part per group. The parameters are those of `feature_parts`.

    While the last images of a part are computed, the first images of the next part are already loaded.
    """
    timings.on_gpu = engine.on_gpu
    rows = map(int, itertools.chain.from_iterable(groups))
    # If the backbone runs on a CPU, threads decode fast enough. A frozen program cannot start Python processes, because
    # its executable is the program itself.
    processes = engine.on_gpu and sum(map(len, groups)) >= MIN_IMAGES_FOR_PROCESSES and not hasattr(sys, "frozen")
    # At least one batch is loaded ahead. Otherwise the backbone would wait for the rest of its next batch.
    ahead = max(PREFETCH, engine.batch_size)
    with closing(load_images(listing, rows, engine.spec, workers, max_pixels, processes, ahead)) as images:
        for group in groups:
            yield _compute_part(engine, itertools.islice(images, len(group)), advance, timings)


def _compute_part(
    engine: Engine, images: Iterable[LoadedImage], advance: Callable[[int], object], timings: StageTimings
) -> Part:
    part, computed, n_views = Part(), [], engine.spec.n_views
    images = iter(images)
    # The smallest number of images whose copies fill whole batches, because a batch that is not full wastes time.
    step = engine.batch_size // math.gcd(engine.batch_size, n_views)
    while loaded := list(itertools.islice(images, step)):
        timings.add_images(loaded)
        began = time.perf_counter()
        good = [image for image in loaded if image.pixels is not None]
        if good:
            computed.append(engine(np.stack([view for image in good for view in image.views])))
        for image in good:
            part.paths += [image.path] * n_views
            part.digests += [image.digest] * n_views
            part.exif_rotated += [image.exif_rotated] * n_views
            part.remarks += [int(image.remarks)] * n_views
            part.view_index += range(n_views)
        part.failures += [(image.path, image.reason) for image in loaded if image.pixels is None]
        timings.seconds["computing"] += time.perf_counter() - began
        advance(len(loaded))
    for name, width in engine.spec.widths.items():
        arrays = [np.empty((0, width), np.float32), *(features[name] for features in computed)]
        part.features[name] = np.concatenate(arrays)
    return part
