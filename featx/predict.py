"""Predict: classes of images, or of a store's rows, by a saved model."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.engines import make_engine
from featx.engines.golden import check_golden
from featx.engines.streaming import feature_parts
from featx.images import MAX_PIXELS, list_images
from featx.model import Model
from featx.progress import progress_bar
from featx.store import Store, is_store
from featx.weights import load_for

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: classes best first, or the ``reason`` why it says nothing.

    ``probabilities`` is None for a head that has none; ``decisions`` are the head's raw values. Of several labels an
    image there may be no class.
    """

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] | None = None
    decisions: tuple[float, ...] = ()
    reason: str = ""


def predict(
    model: Model,
    sources: Sequence[str | Path],
    *,
    top: int | None = None,
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
) -> Iterator[Prediction]:
    """Classify images, as they are computed.

    Parameters
    ----------
    model : Model
        As `featx.load_model` gives it.
    sources : sequence of paths
        Image files, folders, manifests, or stores, in this order.
    top : int, optional
        How many classes to give for each image, best first; by default one, or, of a model that gives several labels
        an image, all whose decision is above 0.
    weights, engine, device, batch_size, workers, max_pixels, progress
        As in `featx.extract.extract`.

    Yields
    ------
    Prediction
        One an image; a bad image has its reason.

    Raises
    ------
    ListingError, WeightsError, EngineError, StoreError
        As their names say.
    SpecMismatch
        If a store, the weights or this machine gives other features than those the model was fitted on.
    """
    images = []
    for source in sources:
        if is_store(source):
            yield from _of_store(model, Path(source), top)
        else:
            images.append(source)
    if not images:
        return
    trunk = load_for(model.spec, weights, model.path)
    runner = make_engine(trunk, model.spec, device, batch_size, engine)
    check_golden(runner, model.golden, "the model")
    for source in images:
        listing = list_images(source)
        yield from (_failed(listing.root, *failure) for failure in listing.failures)
        with progress_bar(len(listing.paths), "image", f"predict {source}", shown=progress) as bar:
            for part in feature_parts(
                runner, listing.paths, listing.root, workers or os.cpu_count() or 1, max_pixels, bar.update
            ):
                paths = [str(listing.root / path) for path in part.paths]
                yield from _decide(model, paths, np.hstack(list(part.features.values())), top)
                yield from (_failed(listing.root, *failure) for failure in part.failures)


def _failed(root: Path, path: str, reason: str) -> Prediction:
    return Prediction(str(root / path), reason=reason)


def _of_store(model: Model, path: Path, top: int | None) -> Iterator[Prediction]:
    with Store(path) as store:
        store.check_has(model.spec, "the model")
        paths = store.paths
        for start in range(0, store.rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, store.rows))
            yield from _decide(model, [paths[row] for row in rows], store.read(model.spec.widths, rows), top)
        yield from (Prediction(path, reason=reason) for path, reason in store.failures)


def _decide(model: Model, paths: Sequence[str], X: np.ndarray, top: int | None) -> Iterator[Prediction]:
    if not paths:
        return
    decisions, probabilities = model.decision(X), model.probabilities(X)
    if decisions.ndim == 1:  # Two classes have one decision: above 0 for the second.
        decisions = np.column_stack((-decisions, decisions))
    for row, path in enumerate(paths):
        best = np.argsort(-decisions[row], kind="stable")
        best = best[decisions[row, best] > 0] if top is None and model.multilabel else best[: top or 1]
        yield Prediction(
            path,
            tuple(model.classes[code] for code in best),
            None if probabilities is None else tuple(probabilities[row, best].tolist()),
            tuple(decisions[row, best].tolist()),
        )
