"""Classify images, or the rows of a store, with a saved model."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from featx.engines import Engine, check_reference_features, feature_parts, load_backbone_for, make_engine
from featx.errors import SpecError
from featx.heads import class_decisions
from featx.images import MAX_PIXELS, ONE_IMAGE, Listing, list_images, remark_names
from featx.models.saved_model import Model
from featx.runtime import Compute, progress_bar
from featx.spec import DEFAULT_PREDICT_AUGMENT, warn_identical_copies
from featx.store import Store, is_store

BLOCK_ROWS = 4096
"""Number of rows that are read from a store and classified at once."""
SHOWN_CLASSES = 3


@dataclass(frozen=True, repr=False)
class Prediction:
    """The classes that a model predicts for one image, or the reason why it could not be read.

    Parameters
    ----------
    path : str
        The image.
    classes : tuple of str
        Predicted classes, best first. A multi-label model may predict none.
    probabilities : tuple of float, optional
        Probability of each predicted class, or None if the model has no probabilities.
    decisions : tuple of float
        Decision of each predicted class. For two classes, the model's `decision_function` returns one decision d. The
        two classes then have the decisions -d/2 and d/2.
    reason : str
        Why the image could not be read. It is empty if the image was classified.
    remarks : tuple of str
        What a person should know about the pixels of the image: ``narrow``, ``clipped``, ``transparent`` or
        ``not_finite``, as in `featx.extraction.ExtractReport`. It is empty for the rows of a store.
    """

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] | None = None
    decisions: tuple[float, ...] = ()
    reason: str = ""
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        if self.reason:
            return f"Prediction({self.path!r}, reason={self.reason!r})"
        kind, values = ("decision", self.decisions) if self.probabilities is None else ("p", self.probabilities)
        shown = [f"{name} ({kind} {value:.4g})" for name, value in zip(self.classes, values, strict=True)]
        more = f", … {len(shown) - SHOWN_CLASSES} more" if len(shown) > SHOWN_CLASSES else ""
        return f"Prediction({self.path!r}: {', '.join(shown[:SHOWN_CLASSES]) or 'no class'}{more})"


def predict(
    model: Model,
    sources: Sequence[str | Path | Listing],
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    top: int | None = None,
    n_views: int = 1,
    augment: str | None = None,
    fill: str = "reflect",
    view_seed: int = 0,
    weights: str | Path | None = None,
) -> Iterator[Prediction]:
    """Classify images, or the rows of stores, with a model.

    Predictions are yielded while images are computed, in the order of the sources.

    Parameters
    ----------
    model : Model
        As `featx.load_model` returns it.
    sources : sequence of paths or Listing
        Sources of images that `featx.extract` takes (files, folders, manifests, archives), stores, or listings that
        `featx.list_images` returns.
    compute : Compute, optional
        Engine, device, batch size and workers for images. It has no effect on stores.
    root : path, optional
        Folder that the paths in manifests are relative to. By default, it is the folder of each manifest.
    top : int, optional
        Number of classes per image, best first. The default is one class. For a multi-label model, the default is all
        classes with a decision above 0.
    n_views : int
        Test-time augmentation: average the decisions of the plain image and ``n_views - 1`` augmented copies.
        Probabilities are computed from the averaged decisions. In a store, the first ``n_views`` copies of each image
        are used.
    augment : str, optional
        Augmentation of the copies of images, such as ``flip,rotate=30`` (see `featx.ExtractSpec`). The default is
        ``flip``.
    fill, view_seed
        Fill mode and seed of the copies, as in `featx.ExtractSpec`.
    weights : path, optional
        File with the backbone's weights. It replaces the known sources.

    Yields
    ------
    Prediction
        One per image. An image that cannot be read has a ``reason`` and no classes.

    Raises
    ------
    ListingError, WeightsError, EngineError, StoreError
        If a source cannot be listed, the weights cannot be loaded, the engine cannot run, or a store cannot be read.
    SpecError
        If ``augment`` is not valid or is given for a store, or if a store has fewer than ``n_views`` copies.
    SpecMismatch
        If a store has other features than the model needs, or if the weights or this machine compute other features.
    """
    compute = compute or Compute()
    compute.check_unused("predict", "executor", "shard")
    chosen = (DEFAULT_PREDICT_AUGMENT if n_views > 1 else "") if augment is None else augment
    spec = dataclasses.replace(model.spec, n_views=n_views, augment=chosen, fill=fill, view_seed=view_seed)
    if not all(map(_is_store, sources)):
        warn_identical_copies(chosen, n_views)
    if augment is not None and any(map(_is_store, sources)):
        raise SpecError("--augment of predict is for images; a store already has its copies: leave it out")
    # All sources are listed first, so that a wrong name is reported before anything is computed.
    listings = [None if _is_store(source) else list_images(source, root, labeled=False) for source in sources]
    if any(listing is not None for listing in listings):
        backbone = load_backbone_for(model.spec, weights, model.path)
        engine = make_engine(backbone, spec, compute.device, compute.batch_size, compute.engine)
        check_reference_features(engine, model.reference_features, "the model")
    for source, listing in _join_files(sources, listings):
        if isinstance(source, Listing):
            yield from _predict_listing(model, engine, str(source.root), source, top, compute)
        elif listing is None:
            yield from _predict_store(model, Path(source), top, n_views)
        else:
            yield from _predict_listing(model, engine, str(source), listing, top, compute)


def _is_store(source: str | Path | Listing) -> bool:
    return not isinstance(source, Listing) and is_store(source)


def _predict_listing(
    model: Model, engine: Engine, source: str, listing: Listing, top: int | None, compute: Compute
) -> Iterator[Prediction]:
    n_views = engine.spec.n_views
    workers, max_pixels = compute.workers or cpu_count(), compute.max_pixels or MAX_PIXELS
    yield from (Prediction(listing.full_path(path), reason=reason) for path, reason in listing.failures)
    names = map(listing.full_path, listing.paths)
    with progress_bar(len(listing), "image", f"predict {source}", shown=compute.progress) as bar:
        for part in feature_parts(engine, listing, range(len(listing)), workers, max_pixels, bar.update):
            reasons = {listing.full_path(path): reason for path, reason in part.failures}
            paths = [listing.full_path(path) for path in part.paths[::n_views]]
            predicted = _predict_rows(model, paths, np.hstack(list(part.features.values())), top, n_views)
            remarks = map(remark_names, part.remarks[::n_views])
            # Yield predictions and failures in the order of the listing.
            for name in itertools.islice(names, len(paths) + len(part.failures)):
                failed = name in reasons
                yield (
                    Prediction(name, reason=reasons[name])
                    if failed
                    else dataclasses.replace(next(predicted), remarks=next(remarks))
                )


def _join_files(
    sources: Sequence[str | Path | Listing], listings: Sequence[Listing | None]
) -> Iterator[tuple[str | Path | Listing, Listing | None]]:
    """Yield sources with their listings. Adjacent image files become one source, so that they share batches."""

    def is_file(pair: tuple[str | Path | Listing, Listing | None]) -> bool:
        listing = pair[1]
        return listing is not None and listing.layout == ONE_IMAGE and isinstance(listing.root, Path)

    for files, group in itertools.groupby(zip(sources, listings, strict=True), is_file):
        pairs = list(group)
        if files and len(pairs) > 1:
            paths = [listing.full_path(listing.paths[0]) for _, listing in pairs if listing is not None]
            yield f"{len(pairs)} files", list_images(paths)
        else:
            yield from pairs


def _predict_store(model: Model, path: Path, top: int | None, n_views: int) -> Iterator[Prediction]:
    with Store(path) as store:
        store.check_compatible(model.spec, "the model")
        if n_views > store.spec.n_views:
            raise SpecError(
                f"--n-views of predict must be 1 to {store.spec.n_views}, the copies per image in {path}, got "
                f"{n_views}; extract with more --n-views, or give the images"
            )
        paths, rows = store.paths, np.flatnonzero(store.view_index < n_views)
        # A block holds all copies of its images, because the copies are averaged.
        block_rows = max(1, BLOCK_ROWS // n_views) * n_views
        for start in range(0, len(rows), block_rows):
            block = rows[start : start + block_rows]
            X = store.read(model.spec.widths, block)
            yield from _predict_rows(model, [paths[row] for row in block[::n_views]], X, top, n_views)
        yield from (Prediction(path, reason=reason) for path, reason in store.failures)


def _predict_rows(
    model: Model, paths: Sequence[str], X: NDArray[np.float32], top: int | None, n_views: int
) -> Iterator[Prediction]:
    """Classify images that have ``n_views`` adjacent rows each, by the mean decisions over these rows."""
    if not paths:
        return
    means = _mean_over_views(model.decision_function(X), n_views)
    # Probabilities are not averaged: their mean could be largest for another class than the mean decision.
    probabilities = model.probabilities_of(means) if model.has_probabilities else None
    decisions = class_decisions(means)
    for row, path in enumerate(paths):
        best = np.argsort(-decisions[row], kind="stable")
        best = best[decisions[row, best] > 0] if top is None and model.multilabel else best[: top or 1]
        yield Prediction(
            path,
            tuple(model.classes[code] for code in best),
            None if probabilities is None else tuple(probabilities[row, best].tolist()),
            tuple(decisions[row, best].tolist()),
        )


def _mean_over_views(values: NDArray[np.floating], n_views: int) -> NDArray[np.floating]:
    means: NDArray[np.floating] = values.reshape(-1, n_views, *values.shape[1:]).mean(axis=1)
    return means
