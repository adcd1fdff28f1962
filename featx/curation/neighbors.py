"""Find the images of a store that are nearest to other images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from featx.backbones import WhichBlocks, WhichPools
from featx.engines import check_reference_features, feature_parts, load_backbone_for, make_engine
from featx.errors import SpecError
from featx.heads import BlockNormalizer
from featx.images import MAX_PIXELS, list_images
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

LAST_BLOCKS = 2
"""By default, the features of this many last blocks are compared. On Flowers-17, the nearest other image had the same
class more often with the last two blocks than with the last block or with all five (measured, see docs/benchmarks)."""
BLOCK_BYTES = 1 << 25
"""Maximum number of bytes of the store's features that are in memory at once."""


@dataclass(frozen=True)
class Neighbor:
    """An image of the store that is similar to the image that was searched for.

    Attributes
    ----------
    path : str
    labels : tuple of str
        The class names of the image.
    similarity : float
        Mean cosine similarity of the compared features. It is 1 for an equal image.
    """

    path: str
    labels: tuple[str, ...]
    similarity: float


def nearest(
    store: str | Path,
    images: Any,
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    top: int = 10,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    weights: str | Path | None = None,
) -> Iterator[tuple[str, list[Neighbor] | str]]:
    """Find the images of a store that are most similar to other images.

    Every image of the store is compared, but no augmented copies. Each feature (one block with one pooling) is first
    normalized by a power, as heads do by default (see `featx.BlockNormalizer`). Then the cosine similarity of each
    feature is computed. The similarity of two images is the mean over the features.

    Parameters
    ----------
    store : path
        The store to search in.
    images
        The images to search for. They may be one file, or anything else that `featx.extract` accepts as a source.
    compute : Compute, optional
        How the backbone runs.
    root : path, optional
        Folder that the paths of a manifest are relative to. The default is the folder of the manifest.
    top : int
        Number of images of the store to return for each image. The most similar image is the first one.
    blocks, pools : sequence, str or single value, optional
        The blocks and poolings to compare. The default is the last two blocks and all poolings of the store.
    weights : path, optional
        Weights file to use instead of the known sources.

    Yields
    ------
    (str, list of Neighbor or str)
        The path of an image, and its neighbors. If the image cannot be read, the second item is the reason.

    Raises
    ------
    SpecError
        If ``top`` is less than 1, or if a block or pooling was not extracted.
    SpecMismatch
        If the weights or this machine give other features than those of the store.
    ListingError
        If there are no images.
    WeightsError, EngineError, StoreError
        If the weights, the engine or the store cannot be used.
    """
    if top < 1:
        raise SpecError(f"--top of search must be at least 1, got {top}")
    compute = compute or Compute()
    with Store(store) as opened:
        spec = opened.spec.plain.select(blocks or opened.spec.blocks[-LAST_BLOCKS:], pools)
        backbone = load_backbone_for(spec, weights)
        engine = make_engine(backbone, spec, compute.device, compute.batch_size, compute.engine)
        check_reference_features(engine, opened.reference_features, str(store))
        listing = list_images(images, root, labeled=False)
        yield from ((listing.full_path(path), reason) for path, reason in listing.failures)
        plain = np.flatnonzero(opened.view_index == 0)
        known, _ = opened.image_table()
        workers, max_pixels = compute.workers or cpu_count(), compute.max_pixels or MAX_PIXELS
        for part in feature_parts(engine, listing, range(len(listing)), workers, max_pixels):
            yield from ((listing.full_path(path), reason) for path, reason in part.failures)
            if not part.paths:
                continue
            queries = _normalize(np.hstack(list(part.features.values())), spec)
            rows, similarities = _nearest_rows(opened, spec, plain, queries, min(top, len(plain)))
            for path, found, values in zip(part.paths, rows.tolist(), similarities.tolist(), strict=True):
                neighbors = [Neighbor(known.paths[row], known.labels[row], value)
                             for row, value in zip(found, values, strict=True)]  # fmt: skip
                yield listing.full_path(path), neighbors


def _normalize(X: NDArray[np.float32], spec: ExtractSpec) -> NDArray[np.float32]:
    """Normalize rows so that the dot product of two rows is the mean cosine similarity of their features."""
    widths = tuple(spec.widths.values())
    values: NDArray[np.float32] = BlockNormalizer(widths).fit_transform(X)
    values /= np.float32(np.sqrt(len(widths)))
    return values


def _nearest_rows(
    store: Store, spec: ExtractSpec, plain: NDArray[np.int64], queries: NDArray[np.float32], top: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the positions and the similarities of the nearest images of each query, both as arrays (queries, top).

    ``plain`` holds the rows of the store that are plain images. The positions are positions in ``plain``.
    """
    best = np.zeros((len(queries), 0), np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    step = max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    for first in range(0, len(plain), step):
        block = _normalize(store.read(spec.widths, plain[first : first + step]), spec)
        best = np.hstack([best, queries @ block.T])
        rows = np.hstack([rows, np.broadcast_to(np.arange(first, first + len(block)), (len(queries), len(block)))])
        # A stable sort returns images of equal similarity in the order of the store.
        order = np.argsort(-best, axis=1, kind="stable")[:, :top]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return rows, best
