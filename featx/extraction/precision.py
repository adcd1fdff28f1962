"""Decide the precision of an extraction: replace ``auto`` by a precision class, and give int8 a calibration."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines import Engine, calibrate_int8, check_int8_agreement, compute_reference_features, fastest_precision
from featx.errors import ImageError
from featx.images import Listing, load_images
from featx.spec import AUTO, ExtractSpec
from featx.store import PartFolder

CALIBRATION_IMAGES = 16
"""Number of images that calibrate int8. They are drawn evenly from the listing. With 64 images, features at int8 had
the same cosine similarities to fp32."""


@dataclass(frozen=True)
class ResolvedPrecision:
    """A spec whose precision and calibration are decided.

    After a new calibration, ``engine`` is the engine that was compared with fp32, and ``agreement`` holds the mean
    cosine similarity of each feature to fp32.
    """

    spec: ExtractSpec
    agreement: dict[str, float] = field(default_factory=dict)
    engine: Engine | None = None


def resolve_precision(
    spec: ExtractSpec,
    existing: ExtractSpec | None,
    make_engine: Callable[[ExtractSpec], Engine],
    draw_images: Callable[[ExtractSpec], np.ndarray],
    backbone: BackboneWeights,
) -> ResolvedPrecision:
    """Choose a precision class for the precision ``auto``, and a calibration for int8.

    Parameters
    ----------
    spec : ExtractSpec
        The spec that was asked for.
    existing : ExtractSpec, optional
        The spec of the existing store or unfinished run. Its precision and calibration are used.
    make_engine : callable
        Function that makes the engine for a spec.
    draw_images : callable
        Function that draws images to calibrate on, uint8 (n, size, size, 3).
    backbone : BackboneWeights
        The weights of the backbone.

    Raises
    ------
    EngineError
        If the int8 features of the drawn images differ too much from their fp32 features.
    ImageError
        If none of the drawn images can be read.
    """
    if spec.precision == AUTO:
        fastest = existing or fastest_precision(make_engine, spec)
        spec = dataclasses.replace(spec, precision=fastest.precision)
    if spec.precision != "int8" or spec.calibration:
        return ResolvedPrecision(spec)
    if existing and existing.calibration:
        return ResolvedPrecision(dataclasses.replace(spec, calibration=existing.calibration))
    images = draw_images(spec)
    calibration = calibrate_int8(backbone, spec, images)
    spec = dataclasses.replace(spec, calibration=calibration.bounds)
    engine = make_engine(spec)
    return ResolvedPrecision(spec, check_int8_agreement(engine, images, calibration.features), engine)


def draw_sample(listing: Listing, spec: ExtractSpec, workers: int, max_pixels: int) -> np.ndarray:
    """Draw images evenly from a listing, uint8 (n, size, size, 3). Images that cannot be read are left out.

    Raises
    ------
    ImageError
        If none of the drawn images can be read.
    """
    rows = np.unique(np.linspace(0, len(listing) - 1, CALIBRATION_IMAGES).astype(int)).tolist()
    loaded = list(load_images(listing, rows, spec.plain, workers, max_pixels))
    pixels = [image.pixels for image in loaded if image.pixels is not None]
    if not pixels:
        raise ImageError(
            f"none of the {len(loaded)} images drawn to calibrate int8 can be read; "
            f"the first one, {loaded[0].path}: {loaded[0].reason}"
        )
    return np.stack(pixels)


def share_calibration(folder: PartFolder, resolved: ResolvedPrecision, engine: Engine) -> ResolvedPrecision:
    """Use the calibration of the shard that calibrated first, so that all shards of a run have the same calibration.

    If two machines calibrate on the same images, their calibrations differ by rounding. So the first shard creates the
    run with its own calibration, and the other shards take this calibration.
    """
    references = compute_reference_features(engine)
    with folder.exclusive():
        first = folder.spec
        if first is None:
            folder.create_run(resolved.spec, references)
            return resolved
    return ResolvedPrecision(dataclasses.replace(resolved.spec, calibration=first.calibration), resolved.agreement)
