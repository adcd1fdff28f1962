"""Images to features, part by part: decoding runs ahead while the backbone computes."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np

from featx.engines.selection import Engine
from featx.engines.timings import Timings
from featx.images import MAX_PIXELS, PREFETCH, Listing, LoadedImage, load_images
from featx.spec import ExtractSpec
from featx.store import Part

PART_ROWS = 128
PART_BYTES = 1 << 26
MANY = 512
"""Images for which it pays to start processes that decode beside a GPU: each takes a quarter of a second."""


def rows_per_part(spec: ExtractSpec) -> int:
    """Rows in one part: a matter of the spec alone, so that a resumed run makes the same parts and batches.

    All views of an image are in one part, even if those of a single image are more.
    """
    rows = min(PART_ROWS, PART_BYTES // (4 * spec.width))
    return max(1, rows // spec.n_views) * spec.n_views


def images_per_part(spec: ExtractSpec) -> int:
    """Images in one part, with all their views."""
    return rows_per_part(spec) // spec.n_views


def feature_parts(
    engine: Engine,
    listing: Listing,
    rows: Sequence[int] | np.ndarray,
    workers: int,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[int], object] = int,
    timings: Timings | None = None,
) -> Iterator[Part]:
    """Extract those rows of a listing in order, one part at a time; bad images become failures of their part.

    ``advance`` is called with the number of images that have just been done; the default does nothing with it.
    ``timings`` takes down where the time goes.
    """
    each = images_per_part(engine.spec)
    groups = [rows[first : first + each] for first in range(0, len(rows), each)]
    return group_parts(engine, listing, groups, workers, max_pixels, advance, timings or Timings(workers))


def group_parts(
    engine: Engine,
    listing: Listing,
    groups: Sequence[Sequence[int] | np.ndarray],
    workers: int,
    max_pixels: int,
    advance: Callable[[int], object],
    timings: Timings,
) -> Iterator[Part]:
    """As `feature_parts`, with the rows of each part given; decoding runs ahead over their ends."""
    timings.on_gpu = engine.on_gpu
    rows = map(int, itertools.chain.from_iterable(groups))
    # A processor that runs the backbone takes images more slowly than threads decode them. What is frozen has no Python to
    # start: it would start itself.
    processes = engine.on_gpu and sum(map(len, groups)) >= MANY and not hasattr(sys, "frozen")
    ahead = max(PREFETCH, engine.batch_size)  # or the backbone waits for what is left of its next batch
    with closing(load_images(listing, rows, engine.spec, workers, max_pixels, processes, ahead)) as images:
        for group in groups:
            yield _compute(engine, itertools.islice(images, len(group)), advance, timings)


def _compute(engine: Engine, images: Iterable[LoadedImage], advance: Callable[[int], object], timings: Timings) -> Part:
    part, batches, views = Part(), [], engine.spec.n_views
    images = iter(images)
    # So many that all their views fill passes: what is left over would be a pass that is not full.
    while batch := list(itertools.islice(images, engine.batch_size // math.gcd(engine.batch_size, views))):
        timings.loaded(batch)
        began = time.perf_counter()
        good = [image for image in batch if image.pixels is not None]
        if good:
            batches.append(engine(np.stack([view for image in good for view in image.views])))
        for image in good:
            part.paths += [image.path] * views
            part.digests += [image.digest] * views
            part.exif_rotated += [image.exif_rotated] * views
            part.view_index += range(views)
        part.failures += [(image.path, image.reason) for image in batch if image.pixels is None]
        timings.seconds["computing"] += time.perf_counter() - began
        advance(len(batch))
    for name, width in engine.spec.widths.items():
        part.features[name] = np.concatenate([np.empty((0, width), np.float32), *(batch[name] for batch in batches)])
    return part
