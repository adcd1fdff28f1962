"""Measure what common preprocessing mistakes would cost on a set of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.backbones import load_backbone
from featx.engines import Engine, make_engine
from featx.errors import DataError, SpecError
from featx.images import MAX_PIXELS, Listing, list_images, resolve_range
from featx.inspection.preprocessing_audit.accuracy import NO_LOSS, CVProtocol, Evaluation
from featx.inspection.preprocessing_audit.mistakes import MISTAKES, PreprocessingMistake
from featx.inspection.preprocessing_audit.report import AuditReport, MistakeCost
from featx.inspection.preprocessing_audit.sample import SampleFeatures, draw_sample, extract_sample
from featx.runtime import Compute, pluralize, progress_bar
from featx.spec import ExtractSpec


def audit(
    source: str | Path | Sequence[str | Path] | Listing,
    spec: ExtractSpec | None = None,
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    images: int = 200,
    mistakes: Sequence[PreprocessingMistake] = MISTAKES,
    head: str = "softmax",
    folds: int = 5,
    random_state: int = 0,
) -> AuditReport:
    """Measure what common preprocessing mistakes would cost on a sample of images.

    A mistake raises no error, but the features are worse. The sample is extracted with correct preprocessing and with
    each mistake. Then features and cross-validated accuracy are compared.

    Parameters
    ----------
    source : path, sequence of paths or Listing
        The images, as for `featx.extract`, or as `featx.list_images` lists them. Without labels only features are
        compared.
    spec : ExtractSpec, optional
        What to extract, without augmented copies. The preprocessing of its backbone is the correct one.
    compute : Compute, optional
        Engine, device, batch size and pixel limit, and whether to show a progress bar.
    root, weights
        As in `featx.extract`.
    images : int
        Number of images to draw, the same number from each class if possible. The backbone runs on each image up to
        ``len(mistakes) + 1`` times.
    mistakes : sequence of PreprocessingMistake
        The mistakes to measure.
    head : str
        Key of `featx.heads.HEADS`. Its C and blocks are chosen by cross-validation.
    folds : int
        Folds of the cross-validation.
    random_state : int
        Seed of the folds and of the drawn images.

    Returns
    -------
    AuditReport

    Raises
    ------
    ListingError
        If the source has no usable images.
    WeightsError, EngineError
        If the weights, the engine or the device are not available.
    SpecError
        If ``images``, ``head`` or ``folds`` is out of range.
    ImageError
        If none of the drawn images can be read.
    """
    compute = compute or Compute()
    compute.check_unused("audit", "executor", "shard", "workers")
    listing = list_images(source, root)
    backbone = load_backbone((spec or ExtractSpec()).backbone, weights)
    spec = (spec or ExtractSpec()).plain.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    spec = resolve_range(spec, listing, compute.max_pixels or MAX_PIXELS)
    if images < 1:
        raise SpecError(f"--images of audit must be at least 1, got {images}")
    # Draw only labeled images, if there are any. With an image without a label, accuracy could not be measured.
    labeled = np.flatnonzero(listing.labels >= 0)
    rows = labeled if len(labeled) else np.arange(len(listing))
    rows = rows[draw_sample(listing.labels[rows], images, random_state)]

    def make(spec: ExtractSpec) -> Engine:
        return make_engine(backbone, spec, compute.device, compute.batch_size, compute.engine)

    with progress_bar(len(rows), "image", "audit", shown=compute.progress) as bar:
        sample = extract_sample(listing, rows, mistakes, spec, make, compute.max_pixels or MAX_PIXELS, bar.update)
    notes, evaluation = list(map(str, listing.summary.notes)), None
    try:
        protocol = CVProtocol(head, folds, random_state, spec)
        evaluation = Evaluation.run(protocol, sample.correct, _labels_of(listing, sample.rows), sample.groups)
        notes += evaluation.untested
    except DataError as error:
        notes.append(f"accuracy was not measured: {error}")
    best = evaluation.search.best_candidate_ if evaluation else None
    return AuditReport(
        source=str(source) if isinstance(source, str | Path) else pluralize(len(listing), "image"),
        images=len(sample.rows),
        head=head,
        folds=folds,
        accuracy=best.mean if best else None,
        standard_error=best.standard_error if best else None,
        costs=tuple(_measure_cost(mistake, sample, spec, evaluation) for mistake in mistakes),
        failed=sample.failed,
        notes=tuple(notes),
    )


def _labels_of(listing: Listing, rows: NDArray[np.intp]) -> NDArray[np.str_]:
    """Return the class name of each image. Raise ``DataError`` if an image has no label or several labels."""
    if listing.label_sets is not None:
        raise DataError("the images are multi-label")
    labels = listing.labels[rows]
    if missing := int((labels < 0).sum()):
        raise DataError(
            f"{pluralize(missing, 'image')} of {len(labels):,} {'has' if missing == 1 else 'have'} no label"
        )
    return np.array(listing.classes)[labels]


def _measure_cost(
    mistake: PreprocessingMistake, sample: SampleFeatures, spec: ExtractSpec, evaluation: Evaluation | None
) -> MistakeCost:
    correct, wrong = sample.correct, sample.features[mistake.name]
    changed = int(sample.changed[mistake.name].sum())
    at_prediction = throughout = NO_LOSS if evaluation else None
    if evaluation and changed:
        at_prediction = evaluation.loss_at_prediction(correct, wrong)
        throughout = evaluation.loss_throughout(wrong)
    cosines = {name: _mean_cosine(correct[:, columns], wrong[:, columns]) for name, columns in spec.slices.items()}
    return MistakeCost(mistake.name, mistake.origin, changed, cosines, at_prediction, throughout)


def _mean_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Compute the mean cosine of pairs of rows, in float64. The cosine of a row of zeros is 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0).mean())
