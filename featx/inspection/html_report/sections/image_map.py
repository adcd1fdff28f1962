"""Make the section with a map of the images, where images with similar features lie close to each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import DataError
from featx.heads import BlockNormalizer
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Section, percent
from featx.store import Store

MIN_IMAGES, MAX_IMAGES = 5, 2000
"""Limits on the number of images. Below the first limit, there is no map. Above the second, it shows a random
sample."""
COMPONENTS = 50
"""Principal components that t-SNE starts from."""
PERPLEXITY = 30
ITERATIONS = 500
WIDTH, HEIGHT, MARGIN = 860, 620, 24
"""Units of the SVG."""
NEIGHBORS = 20
"""Number of neighbors that measures how dense a class is at a point."""
MAX_NAMES = 40
"""Classes whose names are written on the map."""


@dataclass(frozen=True)
class MapPoint:
    """An image on the map: its number, position and class (-1 if unlabeled), and whether it is misclassified."""

    image: int
    x: float
    y: float
    code: int
    wrong: bool


@dataclass(frozen=True)
class MapLabel:
    """The name of a class, and where it is written."""

    name: str
    code: int
    x: float
    y: float


@dataclass(frozen=True)
class ImageMap:
    """The points, the names of classes, the blocks whose features were used, and the number of images in the store."""

    points: tuple[MapPoint, ...]
    labels: tuple[MapLabel, ...]
    blocks: str
    total: int
    width: int = WIDTH
    height: int = HEIGHT


def make_image_map(context: ReportContext) -> Section:
    """Arrange the images by t-SNE (van der Maaten & Hinton 2008) of the features that the head sees.

    t-SNE starts from 50 principal components.
    """
    total = len(context.images.paths)
    if total < MIN_IMAGES:
        raise DataError(f"a map needs at least {MIN_IMAGES} images, but {context.store} has {total}")
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:MAX_IMAGES])
    X, blocks = _features(context, chosen)
    labels = [context.images.labels[image] for image in chosen]
    names, codes = _encode(labels)
    positions = _embed(X)
    points = tuple(
        MapPoint(image, x, y, code, context.predictions.get(image, (label,))[0] != label)
        for image, (x, y), code, label in zip(chosen.tolist(), positions.tolist(), codes.tolist(), labels, strict=True)
    )
    map_labels = tuple(
        _place_label(name, code, positions[codes == code]) for code, name in enumerate(names[:MAX_NAMES])
    )
    return Section(_lead(X, codes), ImageMap(points, map_labels, blocks, total), frozenset(chosen.tolist()))


def _features(context: ReportContext, chosen: NDArray[np.intp]) -> tuple[NDArray[np.floating], str]:
    """Return the normalized features that the head sees. Without a model, return all features, power-normalized."""
    model = context.model
    with Store(context.store) as store:
        spec = model.spec if model else store.spec.plain
        X = store.read(spec.widths, chosen * store.spec.n_views)
    if model is None:
        X = BlockNormalizer(tuple(spec.widths.values())).fit_transform(X)
    elif (normalizer := model.estimator.named_steps["normalizer"]) != "passthrough":
        X = normalizer.transform(X)
    return X, ", ".join(map(str, spec.blocks))


def _encode(labels: list[str]) -> tuple[list[str], NDArray[np.intp]]:
    names = sorted(set(labels) - {""})
    number = {name: code for code, name in enumerate(names)}
    return names, np.array([number.get(label, -1) for label in labels])


def _embed(X: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return positions on the map, (rows, 2), in units of the SVG."""
    components = PCA(min(COMPONENTS, *X.shape), random_state=0).fit_transform(X)
    perplexity = min(PERPLEXITY, (len(X) - 1) / 3)
    # Use one thread. Several threads of t-SNE wait for each other at each step, and much longer if other programs run.
    with threadpool_limits(1):
        flat = TSNE(init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=0).fit_transform(components)
    low, high = flat.min(axis=0), flat.max(axis=0)
    scaled = (flat - low) / np.maximum(high - low, 1e-12)
    positions: NDArray[np.floating] = np.round(MARGIN + scaled * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN), 1)
    return positions


def _place_label(name: str, code: int, positions: NDArray[np.floating]) -> MapLabel:
    """Put the name of a class where its points are densest. Their mean may lie between several groups."""
    count = min(NEIGHBORS, len(positions))
    distances = NearestNeighbors(n_neighbors=count).fit(positions).kneighbors(positions)[0]
    x, y = positions[distances[:, -1].argmin()].tolist()
    return MapLabel(name, code, x, y)


def _lead(X: NDArray[np.floating], codes: NDArray[np.intp]) -> str:
    labeled = codes >= 0
    if labeled.sum() < MIN_IMAGES:
        return "Images with similar features lie close to each other."
    nearest = NearestNeighbors(n_neighbors=1).fit(X[labeled]).kneighbors(return_distance=False)[:, 0]
    same = float((codes[labeled][nearest] == codes[labeled]).mean())
    return f"For {percent(same)} of the images, the image with the most similar features is of the same class."
