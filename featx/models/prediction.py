"""Predict: classes of images, or of a store's rows, by a saved model."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from featx.engines import check_golden, feature_parts, load_backbone_for, make_engine
from featx.errors import SpecError
from featx.images import MAX_PIXELS, Listing, is_url, list_images, picture_suffixes, suffix_of
from featx.models.saved_model import Model
from featx.runtime import progress_bar
from featx.spec import DEFAULT_TTA, warn_of_copies
from featx.store import Store, is_store

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
    root: str | Path | None = None,
    top: int | None = None,
    tta: int = 1,
    augment: str | None = None,
    fill: str = "reflect",
    view_seed: int = 0,
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
        What `featx.images.list_images` takes, or stores, in this order.
    root : path, optional
        What the paths of manifests among them are relative to, each one's own folder unless given.
    top : int, optional
        How many classes to give for each image, best first; by default one, or, of a model that gives several labels
        an image, all whose decision is above 0.
    tta : int
        Test-time augmentation: views of each image whose decisions and probabilities are averaged, the plain one among
        them. Of a store, its first views are taken.
    augment : str, optional
        What the other views of image files go through (see `featx.spec.augmentation`); by default ``flip``.
    fill, view_seed
        As in `featx.spec.extract_spec.ExtractSpec`.
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
    SpecError
        If ``augment`` names no augmentation, or is given for a store, or that has fewer views than ``tta``.
    SpecMismatch
        If a store, the weights or this machine gives other features than those the model was fitted on.
    """
    chosen = (DEFAULT_TTA if tta > 1 else "") if augment is None else augment
    spec = dataclasses.replace(model.spec, n_views=tta, augment=chosen, fill=fill, view_seed=view_seed)
    if not all(map(is_store, sources)):
        warn_of_copies(chosen, tta)
    if augment is not None and any(map(is_store, sources)):
        raise SpecError("--augment of predict is for images; of a store the views that it has are taken: leave it out")
    # All are listed before the first is computed, so that a wrong name is told at once.
    listings = [None if is_store(source) else list_images(source, root, labeled=False) for source in sources]
    if any(listing is not None for listing in listings):
        backbone = load_backbone_for(model.spec, weights, model.path)
        runner = make_engine(backbone, spec, device, batch_size, engine)
        check_golden(runner, model.golden, "the model")
    for source, listing in _files_joined(sources, listings):
        if listing is None:
            yield from _of_store(model, Path(source), top, tta)
            continue
        yield from (Prediction(listing.full_name(path), reason=reason) for path, reason in listing.failures)
        names = map(listing.full_name, listing.paths)
        with progress_bar(len(listing), "image", f"predict {source}", shown=progress) as bar:
            for part in feature_parts(
                runner, listing, range(len(listing)), workers or cpu_count(), max_pixels, bar.update
            ):
                reasons = {listing.full_name(path): reason for path, reason in part.failures}
                paths = [listing.full_name(path) for path in part.paths[::tta]]
                decided = _decide(model, paths, np.hstack(list(part.features.values())), top, tta)
                for name in itertools.islice(names, len(paths) + len(part.failures)):
                    yield Prediction(name, reason=reasons[name]) if name in reasons else next(decided)


def _files_joined(
    sources: Sequence[str | Path], listings: Sequence[Listing | None]
) -> Iterator[tuple[str | Path, Listing | None]]:
    """Sources and their listings; image files that stand together are one, so that they are computed together."""

    def is_file(pair: tuple[str | Path, Listing | None]) -> bool:
        source, listing = pair
        a_file = listing is not None and not is_url(source) and Path(source).is_file()
        return a_file and suffix_of(str(source)) in picture_suffixes()

    for files, group in itertools.groupby(zip(sources, listings, strict=True), is_file):
        pairs = list(group)
        if files and len(pairs) > 1:
            yield f"{len(pairs)} files", list_images([source for source, _ in pairs])
        else:
            yield from pairs


def _of_store(model: Model, path: Path, top: int | None, tta: int) -> Iterator[Prediction]:
    with Store(path) as store:
        store.check_compatible(model.spec, "the model")
        if tta > store.spec.n_views:
            raise SpecError(
                f"--tta of predict must be 1 to {store.spec.n_views}, the views of an image in {path}, got {tta}; "
                "extract with more --n-views, or give the images"
            )
        paths, taken = store.paths, np.flatnonzero(store.view_index < tta)
        block = max(1, BLOCK_ROWS // tta) * tta
        for start in range(0, len(taken), block):
            rows = taken[start : start + block]
            X = store.read(model.spec.widths, rows)
            yield from _decide(model, [paths[row] for row in rows[::tta]], X, top, tta)
        yield from (Prediction(path, reason=reason) for path, reason in store.failures)


def _decide(model: Model, paths: Sequence[str], X: np.ndarray, top: int | None, views: int) -> Iterator[Prediction]:
    """Decide on images of so many rows each, one after the other, by the mean over these."""
    if not paths:
        return
    decisions, probabilities = _mean(model.decision(X), views), model.probabilities(X)
    probabilities = None if probabilities is None else _mean(probabilities, views)
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


def _mean(values: np.ndarray, views: int) -> np.ndarray:
    means: np.ndarray = values.reshape(-1, views, *values.shape[1:]).mean(axis=1)
    return means
