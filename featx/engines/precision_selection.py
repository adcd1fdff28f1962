"""The fastest precision class of a machine, by measurement: what a processor lists may be slow on it."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from joblib import cpu_count

from featx.engines.reference_check import golden_pixels, relative_error
from featx.engines.selection import Engine
from featx.errors import EngineError
from featx.spec import ExtractSpec

CANDIDATES = ("bf16", "fp16")
GAIN = 1.2
"""How many times as fast as fp32 a class must be to be worth its rounding; less is noise."""
ROUNDS = 2


def fastest_precision(make: Callable[[ExtractSpec], Engine], spec: ExtractSpec) -> ExtractSpec:
    """The spec at the fastest class on this machine, of those whose golden features agree with fp32 to its tolerance.

    Parameters
    ----------
    make : callable
        The engine of a spec.
    spec : ExtractSpec
        Its own precision does not matter.
    """
    golden = golden_pixels(spec)
    specs = {name: dataclasses.replace(spec, precision=name, calibration=()) for name in ("fp32", *CANDIDATES)}
    reference, limit = _timed(make(specs["fp32"]), golden)
    chosen, limit = "fp32", limit / GAIN
    for name in CANDIDATES:
        try:
            features, seconds = _timed(make(specs[name]), golden)
        except EngineError:  # its range is too small for this backbone
            continue
        agrees = all(relative_error(features[key], reference[key]) <= specs[name].tolerance for key in reference)
        if agrees and seconds < limit:
            chosen, limit = name, seconds
    return specs[chosen]


def _timed(engine: Engine, images: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Features, and seconds of some images, the shortest of some passes; the first, which prepares it, is not timed."""
    features, seconds = engine(images), []
    # So many as to keep all cores at work in an engine that takes an image a core.
    cores = cpu_count()
    timed = images[np.arange(-(-len(images) // cores) * cores) % len(images)]
    for _ in range(ROUNDS):
        began = time.perf_counter()
        engine(timed)
        seconds.append(time.perf_counter() - began)
    return features, min(seconds)
