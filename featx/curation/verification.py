"""Verify that the images of a store still give the features of the store."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from featx.curation.sampled_images import find_images
from featx.curation.verification_report import Difference, Verification
from featx.engines import compute_reference_features, feature_parts, load_backbone_for, make_engine, relative_errors
from featx.errors import SpecError
from featx.images import MAX_PIXELS
from featx.runtime import Compute, installed, progress_bar
from featx.spec import ExtractSpec
from featx.store import VERSIONED_PACKAGES, Part, Store

ROUNDING = {"float32": 0.0, "float16": 2.0**-11}
"""The relative error that rounding to the dtype of the stored features adds."""


def verify(
    store: str | Path,
    root: str | Path,
    compute: Compute | None = None,
    *,
    sample: int = 100,
    random_state: int = 0,
    weights: str | Path | None = None,
) -> Verification:
    """Extract a random sample of a store's images again, and compare the features with those of the store.

    The spec of the store is used. Augmented copies are compared too, because they depend only on the spec and the bytes
    of the image. The features of the reference images are compared as well. If they differ, this machine computes other
    features; if only rows of the store differ, these rows were altered.

    Parameters
    ----------
    store : path
        The store to verify.
    root : path or URL
        The folder that the paths in the store are relative to, or the shards or data set that was extracted. No other
        images are read.
    compute : Compute, optional
        How the backbone runs.
    sample : int
        Number of images to draw at random. If the store has fewer images, all of them are compared.
    random_state : int
        Seed of the random draw.
    weights : path, optional
        Weights file to use instead of the known sources.

    Returns
    -------
    Verification
        The images and rows that were compared, and those that differ. Its ``check`` raises an error if features differ.

    Raises
    ------
    SpecError
        If ``sample`` is less than 1.
    ListingError
        If no image of the sample is found in ``root``.
    WeightsError, EngineError, StoreError
        If the weights, the engine or the store cannot be used.
    """
    if sample < 1:
        raise SpecError(f"--sample of verify must be at least 1, got {sample}")
    compute = compute or Compute()
    with Store(store) as opened:
        spec, (images, digests) = opened.spec, opened.image_table()
        chosen = np.sort(np.random.default_rng(random_state).permutation(len(images))[:sample])
        paths = images.paths.take(chosen)
        found = find_images(paths, digests[chosen].tolist(), root, str(store))
        backbone = load_backbone_for(spec, weights)
        engine = make_engine(backbone, spec, compute.device, compute.batch_size, compute.engine)
        reference_error = _largest_errors(compute_reference_features(engine), opened.reference_features, spec)[1].max()
        number_of = dict(zip(paths, chosen.tolist(), strict=True))
        failed: list[tuple[str, str]] = []
        rows, differing, largest, tolerance = 0, list[Difference](), 0.0, spec.tolerance + ROUNDING[opened.dtype]
        workers, max_pixels = compute.workers or cpu_count(), compute.max_pixels or MAX_PIXELS
        with progress_bar(len(found.unchanged), "image", "verify", shown=compute.progress) as bar:
            for part in feature_parts(engine, found.listing, found.unchanged, workers, max_pixels, bar.update):
                failed += part.failures
                rows += len(part.paths)
                for difference in _compare(part, opened, number_of):
                    largest = max(largest, difference.error)
                    if difference.error > tolerance:
                        differing.append(difference)
        return Verification(
            store=str(store),
            images=rows // spec.n_views,
            rows=rows,
            precision=spec.precision,
            tolerance=tolerance,
            reference_error=float(reference_error),
            largest_error=largest,
            differing=tuple(sorted(differing, key=lambda difference: -difference.error)),
            failed=tuple(failed),
            changed=found.changed,
            missing=found.missing,
            made_by=opened.versions,
            verified_by=installed(*VERSIONED_PACKAGES),
        )


def _compare(part: Part, store: Store, number_of: dict[str, int]) -> Iterator[Difference]:
    """Compare each row of a part with the row of the store.

    ``number_of`` holds the number of each image in the store, by path.
    """
    if not part.paths:
        return
    spec = store.spec
    rows = np.array([number_of[path] for path in part.paths]) * spec.n_views + part.view_index
    stored = store.read(spec.widths, rows)
    expected = {name: stored[:, columns] for name, columns in spec.slices.items()}
    names, errors = _largest_errors(part.features, expected, spec)
    for path, view, name, error in zip(part.paths, part.view_index, names, errors.tolist(), strict=True):
        yield Difference(path, view, name, error)


def _largest_errors(
    values: dict[str, NDArray[np.float32]], stored: dict[str, NDArray[np.float32]], spec: ExtractSpec
) -> tuple[list[str], NDArray[np.float64]]:
    """Return, for each row, the feature with the largest relative error, and that error. NaN counts as infinite."""
    names = list(spec.widths)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.stack([relative_errors(values[name], stored[name]) for name in names]).astype(np.float64)
    errors[~np.isfinite(errors)] = np.inf
    largest = errors.argmax(axis=0)
    return [names[number] for number in largest], errors.max(axis=0)
