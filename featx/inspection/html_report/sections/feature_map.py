"""The features in two dimensions: images that are alike to the head lie side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import DataError
from featx.heads import BlockNormalizer
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section, percent
from featx.store import Store

TITLE = "Map of the features"
MOST = 2000
"""Images on the map: more are drawn at random."""
COMPONENTS = 50
PERPLEXITY = 30
STEPS = 500
LEAST = 5
"""Images of which a map is made."""
WIDTH, HEIGHT, MARGIN = 860, 620, 24
NEAR = 20
"""Neighbors by which a class's name finds its place."""
MAX_NAMES = 40
"""Classes whose names are on the map."""


@dataclass(frozen=True)
class Point:
    """An image on the map, the number of its class, -1 for none, and whether the model mistakes it."""

    image: int
    x: float
    y: float
    code: int
    wrong: bool


@dataclass(frozen=True)
class Place:
    """Where a class's name stands."""

    name: str
    code: int
    x: float
    y: float


@dataclass(frozen=True)
class FeatureMap:
    """The points, the classes' names and places, and what the map was made of."""

    points: tuple[Point, ...]
    places: tuple[Place, ...]
    blocks: str
    total: int
    width: int = WIDTH
    height: int = HEIGHT


def make(run: Run) -> Section:
    """t-SNE (van der Maaten & Hinton 2008) of the features as the head sees them, by way of 50 principal components."""
    total = len(run.images.paths)
    if total < LEAST:
        raise DataError(f"a map needs at least {LEAST} images, but {run.store} has {total}")
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:MOST])
    X, blocks = _features(run, chosen)
    labels = [run.images.labels[image] for image in chosen]
    names, codes = _codes(labels)
    places = _embed(X)
    points = tuple(
        Point(image, x, y, code, run.guesses.get(image, (label,))[0] != label)
        for image, (x, y), code, label in zip(chosen.tolist(), places.tolist(), codes.tolist(), labels, strict=True)
    )
    named = tuple(_place(name, code, places[codes == code]) for code, name in enumerate(names[:MAX_NAMES]))
    data = FeatureMap(points, named, blocks, total)
    return Section("feature_map", TITLE, _lead(X, codes), data, frozenset(chosen.tolist()))


def _features(run: Run, chosen: NDArray[np.intp]) -> tuple[NDArray[np.floating], str]:
    """The rows as the model's head takes them; of a store alone all features, power-normalized."""
    model = run.model
    with Store(run.store) as store:
        spec = model.spec if model else store.spec.plain
        X = store.read(spec.widths, chosen * store.spec.n_views)
    if model is None:
        X = BlockNormalizer(tuple(spec.widths.values())).fit_transform(X)
    elif (normalizer := model.estimator.named_steps["normalizer"]) != "passthrough":
        X = normalizer.transform(X)
    return X, ", ".join(map(str, spec.blocks))


def _codes(labels: list[str]) -> tuple[list[str], NDArray[np.intp]]:
    names = sorted(set(labels) - {""})
    number = {name: code for code, name in enumerate(names)}
    return names, np.array([number.get(label, -1) for label in labels])


def _embed(X: NDArray[np.floating]) -> NDArray[np.floating]:
    """Coordinates (rows, 2) on the map, in the units of its SVG."""
    fewer = PCA(min(COMPONENTS, *X.shape), random_state=0).fit_transform(X)
    perplexity = min(PERPLEXITY, (len(X) - 1) / 3)
    # One thread: t-SNE's threads wait for one another at each step, which beside other programs takes far longer.
    with threadpool_limits(1):
        flat = TSNE(init="pca", perplexity=perplexity, max_iter=STEPS, random_state=0).fit_transform(fewer)
    low, high = flat.min(axis=0), flat.max(axis=0)
    scaled = (flat - low) / np.maximum(high - low, 1e-12)
    placed: NDArray[np.floating] = np.round(MARGIN + scaled * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN), 1)
    return placed


def _place(name: str, code: int, places: NDArray[np.floating]) -> Place:
    """The image that the most others of its class are near to: a class may lie in several groups."""
    count = min(NEAR, len(places))
    distances = NearestNeighbors(n_neighbors=count).fit(places).kneighbors(places)[0]
    x, y = places[distances[:, -1].argmin()].tolist()
    return Place(name, code, x, y)


def _lead(X: NDArray[np.floating], codes: NDArray[np.intp]) -> str:
    labeled = codes >= 0
    if labeled.sum() < LEAST:
        return "Images whose features are alike lie side by side."
    nearest = NearestNeighbors(n_neighbors=1).fit(X[labeled]).kneighbors(return_distance=False)[:, 0]
    same = float((codes[labeled][nearest] == codes[labeled]).mean())
    return f"Before any head is fitted, {percent(same)} of the images have a nearest neighbor of their own class."
