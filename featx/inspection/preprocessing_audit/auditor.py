"""Audit: what the usual mistakes of preprocessing would cost on the images at hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.backbones import load_backbone
from featx.engines import Engine, make_engine
from featx.errors import DataError, SpecError
from featx.images import MAX_PIXELS, Listing, list_images
from featx.inspection.preprocessing_audit.accuracy import NOTHING, CVProtocol, Evaluation
from featx.inspection.preprocessing_audit.mistakes import DECLARED, MISTAKES, Mistake
from featx.inspection.preprocessing_audit.report import Audit, Cost, Loss
from featx.inspection.preprocessing_audit.sample import Variants, compute_variants, draw_rows
from featx.runtime import Compute, pluralize, progress_bar
from featx.spec import ExtractSpec

__all__ = ["DECLARED", "MISTAKES", "Audit", "Cost", "Loss", "Mistake", "audit"]

IMAGES = 200


def audit(
    source: str | Path | Sequence[str | Path],
    spec: ExtractSpec | None = None,
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    images: int = IMAGES,
    mistakes: Sequence[Mistake] = MISTAKES,
    head: str = "softmax",
    folds: int = 5,
    random_state: int = 0,
) -> Audit:
    """Extract a sample of images as declared and by each mistake, and compare features and accuracy.

    Parameters
    ----------
    source : path or sequence of paths
        As `featx.extract.extract` takes it. Without labels only features are compared.
    spec : ExtractSpec, optional
        What to extract, of plain pictures; its backbone's preprocessing is the right one.
    compute : Compute, optional
        Engine, device, batch size and pixel limit of the backbone, and whether to show progress.
    root, weights
        As in `featx.extract`.
    images : int
        How many to draw, as many of each class where there are; the backbone runs on each up to ``mistakes`` + 1 times.
    mistakes : sequence of Mistake
        What to compare with.
    head : str
        Key of `featx.heads.HEADS`. C and blocks are chosen by cross-validation on the features that it is fitted on.
    folds, random_state : int
        Folds and seed of the cross-validation; the seed also draws the images.

    Raises
    ------
    ListingError, WeightsError, EngineError
        As their names say.
    SpecError
        If images, head or folds are out of range.
    ImageError
        If no image that was drawn can be read.
    """
    compute = compute or Compute()
    listing = list_images(source, root)
    backbone = load_backbone((spec or ExtractSpec()).backbone, weights)
    spec = (spec or ExtractSpec()).plain.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    if images < 1:
        raise SpecError(f"--images of audit must be at least 1, got {images}")
    # Accuracy is of images with a class, so that one without would leave it unmeasured.
    labeled = np.flatnonzero(listing.labels >= 0)
    rows = labeled if len(labeled) else np.arange(len(listing))
    rows = rows[draw_rows(listing.labels[rows], images, random_state)]

    def make(spec: ExtractSpec) -> Engine:
        return make_engine(backbone, spec, compute.device, compute.batch_size, compute.engine)

    with progress_bar(len(rows), "image", "audit", shown=compute.progress) as bar:
        variants = compute_variants(listing, rows, mistakes, spec, make, compute.max_pixels or MAX_PIXELS, bar.update)
    notes, trial = [], None
    try:
        course = CVProtocol(head, folds, random_state, spec)
        trial = Evaluation.run(course, variants.right, _labels(listing, variants.rows), variants.groups)
    except DataError as error:
        notes.append(f"accuracy is not measured: {error}")
    return Audit(
        source=str(source) if isinstance(source, str | Path) else pluralize(len(listing), "image"),
        images=len(variants.rows),
        head=head,
        folds=folds,
        accuracy=trial.found.best_candidate_.mean if trial else None,
        standard_error=trial.found.best_candidate_.standard_error if trial else None,
        costs=tuple(_cost(wrong, variants, spec, trial) for wrong in mistakes),
        failed=variants.failed,
        notes=tuple(notes),
    )


def _labels(listing: Listing, rows: NDArray[np.intp]) -> NDArray[np.str_]:
    """Classes of the images, one each."""
    if listing.label_sets is not None:
        raise DataError("images have several labels each")
    labels = listing.labels[rows]
    if lacking := int((labels < 0).sum()):
        raise DataError(
            f"{pluralize(lacking, 'image')} of {len(labels):,} {'has' if lacking == 1 else 'have'} no label"
        )
    return np.array(listing.classes)[labels]


def _cost(wrong: Mistake, variants: Variants, spec: ExtractSpec, trial: Evaluation | None) -> Cost:
    features, changed = variants.features[wrong.name], int(variants.changed[wrong.name].sum())
    at_prediction = throughout = NOTHING if trial else None
    if trial and changed:
        at_prediction, throughout = trial.at_prediction(variants.right, features), trial.throughout(features)
    cosines = {name: _cosine(variants.right[:, columns], features[:, columns]) for name, columns in spec.slices.items()}
    return Cost(wrong.name, wrong.origin, changed, cosines, at_prediction, throughout)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean cosine of rows, in float64; of a row that is all zero, 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0).mean())
