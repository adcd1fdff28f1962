"""Verify: do the rows of a store still come out of its images?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from featx.curation.image_files import find_images
from featx.curation.verification_report import Difference, Verification
from featx.engines import compute_golden, feature_parts, load_backbone_for, make_engine, relative_errors
from featx.errors import SpecError
from featx.images import MAX_PIXELS
from featx.runtime import installed, progress_bar
from featx.spec import ExtractSpec
from featx.store import VERSIONED_PACKAGES, Part, Store

__all__ = ["Difference", "Verification", "verify"]

ROUNDING = {"float32": 0.0, "float16": 2.0**-11}
"""What keeping features in a type adds to a row's relative error."""


def verify(
    store: str | Path,
    root: str | Path,
    *,
    sample: int = 100,
    seed: int = 0,
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
) -> Verification:
    """Extract a random sample of a store's images anew, by its own spec, and compare with its rows: all views.

    Views depend on nothing but the spec and an image's bytes, so that they too come out again. The golden images are
    compared as well: they tell a machine that computes something else from rows that were altered.

    Parameters
    ----------
    store : path
        The store to verify.
    root : path or URL
        What its paths are relative to; or the shards or data set that was extracted. Nothing outside it is read.
    sample : int
        How many images to draw; all where there are no more.
    seed : int
        Of the draw.
    weights, engine, device, batch_size, workers, max_pixels, progress
        As in `featx.extract.extract`.

    Returns
    -------
    Verification
        What agrees and what does not; its ``check`` raises if features differ.

    Raises
    ------
    SpecError
        If ``sample`` is less than 1.
    ListingError
        If none of the sample is below ``root``.
    WeightsError, EngineError, StoreError
        As their names say.
    """
    if sample < 1:
        raise SpecError(f"--sample of verify must be at least 1, got {sample}")
    with Store(store) as opened:
        spec, (rows, digests) = opened.spec, opened.image_table()
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:sample])
        paths = rows.paths.take(chosen)
        found = find_images(paths, digests[chosen].tolist(), root, str(store))
        runner = make_engine(load_backbone_for(spec, weights), spec, device, batch_size, engine)
        golden = _worst(compute_golden(runner), opened.reference_features, spec)[1].max()
        place = dict(zip(paths, chosen.tolist(), strict=True))
        failed: list[tuple[str, str]] = []
        seen, differing, largest, tolerance = 0, list[Difference](), 0.0, spec.tolerance + ROUNDING[opened.dtype]
        with progress_bar(len(found.same), "image", "verify", shown=progress) as bar:
            for part in feature_parts(
                runner, found.listing, found.same, workers or cpu_count(), max_pixels, bar.update
            ):
                failed += part.failures
                seen += len(part.paths)
                for difference in _compare(part, opened, place):
                    largest = max(largest, difference.error)
                    if difference.error > tolerance:
                        differing.append(difference)
        return Verification(
            store=str(store),
            images=seen // spec.n_views,
            rows=seen,
            precision=spec.precision,
            tolerance=tolerance,
            golden=float(golden),
            largest=largest,
            differing=tuple(sorted(differing, key=lambda difference: -difference.error)),
            failed=tuple(failed),
            changed=found.changed,
            gone=found.gone,
            made_by=opened.versions,
            verified_by=installed(*VERSIONED_PACKAGES),
        )


def _compare(part: Part, store: Store, place: dict[str, int]) -> Iterator[Difference]:
    """How far each row of a part is from the store's."""
    if not part.paths:
        return
    spec = store.spec
    rows = np.array([place[path] for path in part.paths]) * spec.n_views + part.view_index
    stored = store.read(spec.widths, rows)
    names, errors = _worst(part.features, {name: stored[:, where] for name, where in spec.slices.items()}, spec)
    for path, view, name, error in zip(part.paths, part.view_index, names, errors.tolist(), strict=True):
        yield Difference(path, view, name, error)


def _worst(
    values: dict[str, NDArray[np.float32]], stored: dict[str, NDArray[np.float32]], spec: ExtractSpec
) -> tuple[list[str], NDArray[np.float64]]:
    """For each row the feature of the largest error, and that; what is no number is infinitely far."""
    names = list(spec.widths)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.stack([relative_errors(values[name], stored[name]) for name in names]).astype(np.float64)
    errors[~np.isfinite(errors)] = np.inf
    worst = errors.argmax(axis=0)
    return [names[number] for number in worst], errors.max(axis=0)
