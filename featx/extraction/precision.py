"""The precision of an extraction: that of what it goes on from, the fastest of the machine, or int8 by calibration."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines import Engine, calibrate, check_agreement, fastest_precision
from featx.errors import ImageError
from featx.images import Listing, load_images
from featx.spec import AUTO, ExtractSpec

SAMPLE = 16
"""Images, drawn evenly from the listing, on which int8 is calibrated; 64 gave bounds of the same cosines to fp32."""


@dataclass(frozen=True)
class ResolvedPrecision:
    """The spec with its precision and calibration; for a new calibration also the mean cosine to fp32 by feature, and
    the engine that was compared."""

    spec: ExtractSpec
    agreement: dict[str, float] = field(default_factory=dict)
    engine: Engine | None = None


def resolve_precision(
    spec: ExtractSpec,
    found: ExtractSpec | None,
    make: Callable[[ExtractSpec], Engine],
    sample: Callable[[ExtractSpec], np.ndarray],
    backbone: BackboneWeights,
) -> ResolvedPrecision:
    """Resolve ``auto``, and calibrate int8; the precision and calibration of ``found``, an existing store or unfinished
    run, are kept.

    ``make`` gives the engine of a spec, ``sample`` its images, uint8 (n, size, size, 3).

    Raises
    ------
    EngineError
        If int8 is too far from fp32 on the sample.
    ImageError
        If no image of the sample can be read.
    """
    if spec.precision == AUTO:
        spec = dataclasses.replace(spec, precision=found.precision) if found else fastest_precision(make, spec)
    if spec.precision != "int8" or spec.calibration:
        return ResolvedPrecision(spec)
    if found and found.calibration:
        return ResolvedPrecision(dataclasses.replace(spec, calibration=found.calibration))
    images = sample(spec)
    calibration = calibrate(backbone, spec, images)
    spec = dataclasses.replace(spec, calibration=calibration.bounds)
    engine = make(spec)
    return ResolvedPrecision(spec, check_agreement(engine, images, calibration.features), engine)


def draw_sample(listing: Listing, spec: ExtractSpec, workers: int, max_pixels: int) -> np.ndarray:
    """Images drawn evenly from a listing, uint8 (n, size, size, 3); those that cannot be read are left out."""
    rows = np.unique(np.linspace(0, len(listing) - 1, SAMPLE).astype(int)).tolist()
    loaded = list(load_images(listing, rows, spec.plain, workers, max_pixels))
    pixels = [image.pixels for image in loaded if image.pixels is not None]
    if not pixels:
        raise ImageError(
            f"none of the {len(loaded)} images drawn to calibrate can be read; {loaded[0].path}: {loaded[0].reason}"
        )
    return np.stack(pixels)
