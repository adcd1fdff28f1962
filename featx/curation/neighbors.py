"""Search: the images of a store that are nearest to a given one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from featx.backbones import WhichBlocks, WhichPools
from featx.engines import check_golden, feature_parts, load_backbone_for, make_engine
from featx.errors import SpecError
from featx.heads import BlockNormalizer
from featx.images import MAX_PIXELS, list_images
from featx.spec import ExtractSpec
from featx.store import Store

LAST_BLOCKS = 2
"""Blocks that are compared by default: on Flowers-17 the nearest other photograph was of the same class for 0.887 by
blocks 4 and 5, for 0.877 by block 5 alone and for 0.874 by all five."""
BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Match:
    """An image of the store: its path, its labels, and the mean of its blocks' cosines to the image searched for."""

    path: str
    labels: tuple[str, ...]
    similarity: float


def search(
    store: str | Path,
    images: Any,
    *,
    root: str | Path | None = None,
    top: int = 10,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[tuple[str, list[Match] | str]]:
    """Find the nearest images of a store, exactly: every plain view of the store is compared.

    Features are power-normalized block by block, as heads see them by default (see `featx.BlockNormalizer`), and
    compared by the mean of the blocks' cosines.

    Parameters
    ----------
    store : path
        Where to search.
    images
        What to search for: one image file, or anything else that `featx.images.list_images` takes.
    root : path, optional
        What the paths of a manifest are relative to, its own folder unless given.
    top : int
        How many images to give, nearest first.
    blocks, pools : sequences, optional
        Which features of the store are compared; by default its last two blocks and all pools.
    weights, engine, device, batch_size, workers, max_pixels
        As in `featx.extract.extract`.

    Yields
    ------
    tuple
        The path of an image and its matches, or the reason why it cannot be read.

    Raises
    ------
    SpecError
        If ``top`` is less than 1, or a block or pool was not extracted.
    SpecMismatch
        If the weights or this machine give other features than the store's.
    ListingError, WeightsError, EngineError, StoreError
        As their names say.
    """
    if top < 1:
        raise SpecError(f"--top of search must be at least 1, got {top}")
    with Store(store) as opened:
        spec = opened.spec.plain.select(blocks or opened.spec.blocks[-LAST_BLOCKS:], pools)
        runner = make_engine(load_backbone_for(spec, weights), spec, device, batch_size, engine)
        check_golden(runner, opened.reference_features, str(store))
        listing = list_images(images, root, labeled=False)
        yield from ((listing.full_path(path), reason) for path, reason in listing.failures)
        plain = np.flatnonzero(opened.view_index == 0)
        rows, _ = opened.image_table()
        for part in feature_parts(runner, listing, range(len(listing)), workers or cpu_count(), max_pixels):
            yield from ((listing.full_path(path), reason) for path, reason in part.failures)
            if not part.paths:
                continue
            queries = _normalized(np.hstack(list(part.features.values())), spec)
            nearest, similarity = _nearest(opened, spec, plain, queries, min(top, len(plain)))
            for path, found, values in zip(part.paths, nearest.tolist(), similarity.tolist(), strict=True):
                yield (
                    listing.full_path(path),
                    [Match(rows.paths[row], rows.labels[row], value) for row, value in zip(found, values, strict=True)],
                )


def _normalized(X: NDArray[np.float32], spec: ExtractSpec) -> NDArray[np.float32]:
    """Rows whose dot products are the mean of the blocks' cosines."""
    widths = tuple(spec.widths.values())
    values: NDArray[np.float32] = BlockNormalizer(widths).fit_transform(X)
    values /= np.float32(np.sqrt(len(widths)))
    return values


def _nearest(
    store: Store, spec: ExtractSpec, plain: NDArray[np.int64], queries: NDArray[np.float32], top: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The images nearest to each query and their similarities, (queries, top) each, reading a block at a time."""
    best = np.zeros((len(queries), 0), np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    step = max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    for first in range(0, len(plain), step):
        block = _normalized(store.read(spec.widths, plain[first : first + step]), spec)
        best = np.hstack([best, queries @ block.T])
        rows = np.hstack([rows, np.broadcast_to(np.arange(first, first + len(block)), (len(queries), len(block)))])
        # Stable, so that of equal images the first in the store comes first.
        order = np.argsort(-best, axis=1, kind="stable")[:, :top]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return rows, best
